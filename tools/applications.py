#!/usr/bin/env python3
"""Writes the table of docs/applications.md: what is searched of every keras.applications model."""

from __future__ import annotations

import argparse
import gc
import inspect
import pathlib
import sys

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tas_tf.models.model_spaces import space_of
from tas_tf.spaces import derivation
from tas_tf.spaces.cost import cost, kind_of, shown
from tas_tf.spaces.model_space import ModelSpace

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "applications.md"
# Between these lines the page has the table.
BEGIN, END = "<!-- table of tools/applications.py -->", "<!-- end of the table -->"


def names() -> list[str]:
    """Returns the names of all models, in the order of the alphabet."""
    found = vars(keras.applications).items()
    return sorted(name for name, value in found if inspect.isfunction(value))


def row(name: str) -> list[str]:
    """Returns the cells of a model's row."""
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    # Sizes that a model leaves open are those of its published weights.
    size = model.input_shape[1] or 224
    space = space_of(model, leave_out_branches=True, input_shape=(size, size, 3))
    check_searched(space)
    whole = space.unpruned()
    macs = cost(whole)
    low, _ = derivation.reachable(space, kind_of("macs"))
    with_all, _ = derivation.reachable(
        space_of(model, input_shape=(size, size, 3)), kind_of("macs")
    )
    tied = sum(len(group.owners) > 1 for group in space.graph.groups)
    return [
        name,
        f"{space.input_shape[0]}",
        shown(macs),
        shown(cost(whole, "parameters")),
        f"{len(space.choices)}",
        f"{tied}",
        f"{len(space.branches)}",
        f"{with_all / macs:.1%} / {low / macs:.1%}",
        pixels(name),
    ]


def pixels(name: str) -> str:
    """Returns which preprocessing a model's published weights want."""
    module = getattr(keras.applications, name).__module__.rsplit(".", 1)[1]
    pixel = np.array([[[[0.0, 100.0, 200.0]]]])
    got = getattr(keras.applications, module).preprocess_input(pixel.copy()).reshape(3)
    for mode in ("caffe", "tf", "torch"):
        known = keras.applications.imagenet_utils.preprocess_input(pixel.copy(), mode=mode)
        if np.allclose(got, known.reshape(3)):
            return mode
    if not np.allclose(got, pixel.reshape(3)):
        raise SystemExit(f"{name}: preprocessing gives {got}, which is none that is known")
    return "none"


def check_searched(space: ModelSpace) -> None:
    """Stops where more is kept whole than the input's and the classifier's channels."""
    known = ("an input of the model", "an output of the model")
    kept = {path: why for path, why in space.graph.frozen.items() if why not in known}
    if kept:
        raise SystemExit(f"{space.graph.name} keeps {kept}: say so on the page")


def table(rows: list[list[str]]) -> list[str]:
    """Returns the lines of the table."""
    heads = "model, size, MACs, parameters, widths, tied, branches, smallest, pixels"
    lines = [f"| {heads.replace(', ', ' | ')} |", "| --- |" + " ---: |" * 7 + " --- |"]
    return lines + [f"| {' | '.join(cells)} |" for cells in rows]


def main() -> None:
    """Writes the table, or shows the rows of some models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", nargs="*", help="models whose rows are shown; none writes the table of all"
    )
    asked = parser.parse_args().models
    rows = []
    for name in asked or names():
        rows.append(row(name))
        keras.utils.clear_session()
        gc.collect()
        print(" | ".join(rows[-1]), flush=True)
    if not asked:
        before, rest = PAGE.read_text().split(BEGIN)
        lines = [BEGIN, "", *table(rows), "", END]
        PAGE.write_text(before + "\n".join(lines) + rest.split(END)[1])


if __name__ == "__main__":
    main()
