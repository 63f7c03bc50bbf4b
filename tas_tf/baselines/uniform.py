"""Uniform narrowing and uniform shortening: one share for all widths, or for all depths."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from tas_tf.baselines.values import Rows, Values, near, of_rows, rather_whole, shares
from tas_tf.spaces.cost import Budget, cost
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace


def uniform(
    space: SearchSpace | ModelSpace, budgets: Sequence[Budget], what: Literal["width", "depth"]
) -> tuple[Values, float]:
    """Values by which all widths, or all depths, keep nearly one share of the unpruned network's.

    The uniform network has of every width the candidate nearest to the share, and the share is the
    largest whose network exceeds no budget. Values fall with the squared distance from that
    network, so that the derivation leaves it only to reach the band, and as little as that takes.
    What is not to change (depths, or widths) changes only where no network meets the budget
    otherwise, and then by the least sum of squares.

    Args:
        space: The search space; of a model that was read, depths are branches that are kept.
        budgets: The budgets.
        what: What is to change.

    Returns:
        The values, and the share.
    """
    widths = shares([choice.candidates for choice in space.choices])
    depths = shares(space.depths)
    whole = [[len(row) - 1 for row in rows] for rows in (widths, depths)]

    def network(share: float) -> Any:
        if what == "width":
            return space.architecture(_nearest(widths, share), whole[1])
        return space.architecture(whole[0], _nearest(depths, share))

    changed, unchanged = (widths, depths) if what == "width" else (depths, widths)
    share = _largest_share(changed, network, budgets)
    points = [row[k] for row, k in zip(changed, _nearest(changed, share), strict=True)]
    values = near(changed, points), rather_whole(unchanged)
    return of_rows(*(values if what == "width" else values[::-1])), share


def told(
    space: SearchSpace | ModelSpace,
    architecture: Any,
    what: Literal["width", "depth"],
    share: float,
) -> str:
    """Returns what people should know of a uniform network: its share, and what else changed.

    Args:
        space: The search space.
        architecture: What was derived.
        what: What was to change.
        share: The share that `uniform` returned.
    """
    widths, depths = space.indices(architecture)
    cut = sum(row[-1] - row[d] for row, d in zip(space.depths, depths, strict=True))
    narrower = sum(
        width < len(choice.candidates) - 1
        for width, choice, places in zip(widths, space.choices, space.places, strict=True)
        if not places or any(depths[s] >= first for s, first in places)
    )
    text = f"{share:.1%} of every {what}"
    if what == "width" and cut:
        return f"{text}; widths alone do not meet the budget: blocks cut: {cut}"
    if what == "depth" and narrower:
        return f"{text}; depths alone do not meet the budget: layers narrowed: {narrower}"
    return text


def _largest_share(rows: Rows, network: Callable[[float], Any], budgets: Sequence[Budget]) -> float:
    """Returns the largest share whose network exceeds no budget; the smallest if none does."""
    # A network stays the same up to the middle between two candidates.
    middles = {(a + b) / 2 for row in rows for a, b in itertools.pairwise(row)}
    for share in sorted({1.0, *middles}, reverse=True):
        if all(cost(network(share), b.kind) <= b.amount for b in budgets):
            return share
    return min(row[0] for row in rows)


def _nearest(rows: Rows, share: float) -> list[int]:
    return [int(np.abs(row - share).argmin()) for row in rows]
