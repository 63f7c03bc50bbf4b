#!/usr/bin/env python3
"""Shows an architecture file: layer by layer output size, MACs and parameters, and the totals."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tas_tf.errors import EXIT_DONE, EXIT_USER_ERROR, ArchitectureError, UserError
from tas_tf.json_schema import MAX_TEXT
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.layer_rows import LayerRow, layer_rows

HEADER = ("layer", "kernel", "stride", "channels", "output", "MACs", "parameters")
# Names and kernels stand to the left, numbers to the right.
ALIGNMENT = "<<><>>>"
LINE = 88


def load(path: str) -> Architecture:
    """Reads an architecture file, and of an enormous one no more than any architecture needs.

    Raises:
        ArchitectureError: If it cannot be read or is malformed.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_TEXT + 1)
    except OSError as error:
        raise ArchitectureError(f"{path}: cannot be read: {error.strerror}") from None
    return Architecture.from_json(text, path)


def describe(architecture: Architecture) -> dict[str, Any]:
    """Returns the architecture's layers and totals as JSON data."""
    rows = layer_rows(architecture).values()
    return {
        "name": architecture.name,
        "family": architecture.family,
        "block": architecture.block,
        "input_shape": list(architecture.input_shape),
        "num_classes": architecture.num_classes,
        "layers": [dataclasses.asdict(row) for row in rows],
        **_totals(rows),
    }


def _totals(rows: Collection[LayerRow]) -> dict[str, int]:
    return {
        "macs": sum(row.macs for row in rows),
        "trainable_parameters": sum(row.parameters for row in rows),
    }


def table(architecture: Architecture) -> Iterator[str]:
    """Yields the lines that people read."""
    layers = layer_rows(architecture).values()
    yield _title(architecture)
    for index, stage in enumerate(architecture.stages, start=1):
        widths = " ".join("-".join(map(str, block)) for block in stage)
        start = f"stage {index}, {len(stage)} block{'s' * (len(stage) > 1)}: "
        yield from textwrap.wrap(
            start + widths, LINE, subsequent_indent=" " * len(start), break_on_hyphens=False
        )
    yield ""
    digits = max(len(str(layer.in_channels)) for layer in layers)
    rows = [HEADER, *(_cells(layer, digits) for layer in layers)]
    yield from aligned(rows, ALIGNMENT)
    yield ""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, total in _totals(layers).items():
        yield f"{name:<20}  {total:>{sum(sizes[5:])},}"


def _title(architecture: Architecture) -> str:
    height, width, channels = architecture.input_shape
    name = printable(architecture.name or "")
    return (
        f"{name + ': ' if name else ''}{architecture.family} of {architecture.block} blocks, "
        f"images {height} x {width} x {channels}, {architecture.num_classes} classes"
    )


def printable(text: str) -> str:
    """Returns text from a file, which may hold anything, without a terminal's escape codes."""
    return "".join(c if c.isprintable() else "?" for c in text)[:80]


def _cells(layer: LayerRow, digits: int) -> tuple[str, ...]:
    return (
        layer.name,
        "x".join(map(str, layer.kernel)),
        str(layer.stride),
        f"{layer.in_channels:>{digits}} -> {layer.out_channels}",
        f"{layer.height} x {layer.width}",
        f"{layer.macs:,}",
        f"{layer.parameters:,}",
    )


def show(lines: Iterable[str]) -> None:
    """Prints lines, whatever characters they hold and however many of them are read."""
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough; the interpreter's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def aligned(rows: Sequence[Sequence[str]], alignment: str) -> Iterator[str]:
    """Yields rows as lines of columns, each to the left (`<`) or to the right (`>`)."""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, alignment, sizes, strict=True)
        yield "  ".join(f"{cell:{side}{size}}" for cell, side, size in cells).rstrip()


def main() -> int:
    """Prints what the command line asks for and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", metavar="FILE", help="an architecture.json")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    arguments = parser.parse_args()
    try:
        architecture = load(arguments.file)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    show([json.dumps(describe(architecture), indent=1)] if arguments.json else table(architecture))
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
