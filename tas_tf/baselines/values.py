"""Values of widths and depths: what the derivation maximises the sum of within a budget.

The derivation takes logits and maximises a sum over all choices and stages. It takes any other
values as well: only their differences within a choice count.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tas_tf.spaces.search_space import SearchSpace

Rows = Sequence[np.ndarray]

# What it weighs that a width or a depth is not whole: much more than where the others lie.
_WHOLE = 1e4


class Values(NamedTuple):
    """Values of all candidates, as `derivation.derive` takes logits.

    Args:
        widths: (choices, n), zeros where a choice has fewer candidates.
        depths: (stages, m), likewise.
    """

    widths: np.ndarray
    depths: np.ndarray


def of_rows(widths: Rows, depths: Rows) -> Values:
    """Returns the values of each choice's candidates and of each stage's depths as two tables."""
    tables = [
        np.array(list(zip(*itertools.zip_longest(*rows, fillvalue=0.0), strict=True)), np.float64)
        for rows in (widths, depths)
    ]
    return Values(*tables)


def shares(candidates: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Returns candidates as shares of the largest of their row."""
    return [np.array(row) / row[-1] for row in candidates]


def near(rows: Rows, points: Sequence[float]) -> list[np.ndarray]:
    """Returns values that fall with the squared distance of a share from its row's point."""
    return [-np.square(row - point) for row, point in zip(rows, points, strict=True)]


def rather_whole(rows: Rows) -> list[np.ndarray]:
    """Returns values by which a share stays 1 unless the budget cannot be met otherwise."""
    return [_WHOLE * row for row in near(rows, [1.0] * len(rows))]


def kept(space: SearchSpace, channels: Sequence[np.ndarray], blocks: Rows) -> Values:
    """Returns the importance that each candidate keeps: of its first channels, its first blocks.

    Args:
        space: The search space.
        channels: For every unit the importance of its channels (C,), in the order in which they
            are kept. Units that share a width add up.
        blocks: For every stage the importance of its blocks.
    """
    widths = [np.zeros(len(choice.candidates)) for choice in space.choices]
    for choice, importance in zip(space.unit_choices, channels, strict=True):
        last = np.array(space.choices[choice].candidates) - 1
        widths[choice] += np.cumsum(importance)[last]
    depths = [
        np.cumsum(importance)[np.array(candidates) - 1]
        for importance, candidates in zip(blocks, space.depths, strict=True)
    ]
    return of_rows(widths, depths)
