#!/usr/bin/env python3
"""Compares two architecture files layer by layer: widths, MACs and parameters, and the totals."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tas_tf.errors import EXIT_DONE, EXIT_USER_ERROR, UserError
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import KINDS, cost
from tas_tf.spaces.layer_rows import side_by_side
from tools.show_architecture import aligned, load, show

HEADER = ("layer", "first", "second", "MACs", "MACs", "change")
ALIGNMENT = "<>>>>>"


def compare(first: Architecture, second: Architecture) -> dict[str, Any]:
    """Returns both networks' layers and costs as JSON data; a layer that one lacks is null."""
    return {
        "layers": [
            {
                "name": name,
                "first": one and dataclasses.asdict(one),
                "second": other and dataclasses.asdict(other),
            }
            for name, (one, other) in side_by_side(first, second).items()
        ],
        "costs": {kind: [cost(first, kind), cost(second, kind)] for kind in KINDS},
    }


def table(compared: dict[str, Any]) -> Iterator[str]:
    """Yields the lines that people read."""
    rows = [HEADER]
    for layer in compared["layers"]:
        sides = layer["first"], layer["second"]
        macs = [side["macs"] if side else 0 for side in sides]
        channels = [f"{s['in_channels']} -> {s['out_channels']}" if s else "-" for s in sides]
        rows.append((layer["name"], *channels, *map("{:,}".format, macs), _change(*macs)))
    yield from aligned(rows, ALIGNMENT)
    yield ""
    totals = [("", "first", "second", "change")]
    for kind, (first, second) in compared["costs"].items():
        totals.append((kind, f"{first:,}", f"{second:,}", _change(first, second)))
    yield from aligned(totals, "<>>>")


def _change(first: int, second: int) -> str:
    if not first:
        return "new"
    return "gone" if not second else f"{second / first - 1:+.1%}"


def main() -> int:
    """Prints what the command line asks for and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", metavar="FIRST", help="an architecture.json")
    parser.add_argument("second", metavar="SECOND", help="another one")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    arguments = parser.parse_args()
    try:
        compared = compare(load(arguments.first), load(arguments.second))
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    show([json.dumps(compared, indent=1)] if arguments.json else table(compared))
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
