"""The chain of a network from stem to classifier, walked by dynamic programming."""

from __future__ import annotations

import dataclasses
import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tas_tf.spaces.cost import Budget, CostKind, kind_of
from tas_tf.spaces.families import BlockLayers, Placed
from tas_tf.spaces.search_space import SearchSpace

Built = Sequence[Placed]  # layers that a step builds
Label = tuple[str, int, int] | None  # ("width", choice, candidate) or ("depth", stage, candidate)


def walk(
    space: SearchSpace,
    widths: Sequence[np.ndarray],
    depths: Sequence[np.ndarray],
    start: Any,
    extend: Callable[[Any, Built, float, Label], Any],
    merge: Callable[[list[Any]], Any],
) -> Any:
    """Walks along the chain of all architectures, keeping one element for each stream width.

    Units may be tied along the residual stream, as `SearchSpace.resnet` ties them.

    Args:
        space: The search space.
        widths: For every choice the regret of each candidate.
        depths: For every stage the regret of each depth.
        start: Element of the empty network.
        extend: Element of a longer network, from (element, what is built, regret, label).
        merge: Element for several ways to the same stream width.
    """
    choice = space.unit_choices[0]
    stream = {
        width: merge([extend(start, [(space.outline.stem, space.input_shape[2], width, 0)],
                             widths[choice][k], ("width", choice, k))])
        for k, width in enumerate(space.choices[choice].candidates)
    }  # fmt: skip
    for s, layers_of_stage in enumerate(space.outline.stages):
        ends: dict[int, list[Any]] = {}
        for b, layers in enumerate(layers_of_stage):
            choices = [space.unit_choices[unit] for unit in space.block_units[s][b]]
            tied = choices[-1] == choice
            stream = _walk_block(space, layers, choices, tied, stream, widths, extend, merge)
            choice = choices[-1]
            if b + 1 in space.depths[s]:
                d = space.depths[s].index(b + 1)
                for width, element in stream.items():
                    end = extend(element, [], depths[s][d], ("depth", s, d))
                    ends.setdefault(width, []).append(end)
        stream = {width: merge(elements) for width, elements in ends.items()}
    return merge(
        [
            extend(
                element, [(space.outline.classifier, width, space.num_classes, width)], 0.0, None
            )
            for width, element in stream.items()
        ]
    )


def _walk_block(
    space: SearchSpace,
    layers: BlockLayers,
    choices: Sequence[int],
    tied: bool,
    stream: dict[int, Any],
    widths: Sequence[np.ndarray],
    extend: Callable[[Any, Built, float, Label], Any],
    merge: Callable[[list[Any]], Any],
) -> dict[int, Any]:
    """Walks over one block; `tied`: its output's width is the one that the stream has already."""
    # Inside a block an element belongs to (width of the block's input, width here).
    inside = {(width, width): element for width, element in stream.items()}
    for layer, choice in zip(layers.units, choices, strict=True):
        last = layer is layers.units[-1]
        options: dict[Any, list[Any]] = {}
        for ((entry, before), element), (k, width) in itertools.product(
            inside.items(), enumerate(space.choices[choice].candidates)
        ):
            if last and tied and width != entry:
                continue
            built = [(layer, before, width, entry)]
            if last and layers.needs_projection(entry, width):
                built.append((layers.projection, entry, width, entry))
            regret = 0.0 if last and tied else widths[choice][k]
            option = extend(element, built, regret, ("width", choice, k))
            options.setdefault(width if last else (entry, width), []).append(option)
        inside = {key: merge(elements) for key, elements in options.items()}
    return inside


def reachable(space: SearchSpace, kind: str | CostKind) -> tuple[int, int]:
    """Returns the smallest and the largest cost of any architecture of the space, exactly."""
    widths = [np.zeros(len(choice.candidates)) for choice in space.choices]
    depths = [np.zeros(len(stage)) for stage in space.depths]
    kind = kind_of(kind)

    def extend(total: int, built: Built, regret: float, label: Label) -> int:
        return kind.of([total, *(kind.layer(*placed) for placed in built)])

    return tuple(walk(space, widths, depths, 0, extend, best) for best in (min, max))


class TooManyCosts(Exception):
    """There are too many different costs to keep all of them apart."""


class ExactCosts:
    """Smallest regret of every cost that exceeds no budget, as long as these are few.

    An element maps the costs, one for each budget, to (regret, labels as a linked list).

    Args:
        budgets: The budgets.
        most: Number of different costs at which to give up.
    """

    def __init__(self, budgets: Sequence[Budget], most: int):
        self.budgets = budgets
        self.most = most
        self.start = {(0,) * len(budgets): (0.0, None)}

    def extend(self, element: dict, built: Built, regret: float, label: Label) -> dict:
        """Returns the costs of the longer network."""
        extended = {}
        for costs, (total, labels) in element.items():
            joined = tuple(map(_joined, self.budgets, costs, itertools.repeat(built)))
            # Where a peak reaches its band, costs below it and in it become one.
            best = extended.get(joined, (np.inf, None))[0]
            if None not in joined and total + regret < best:
                extended[joined] = (total + regret, (label, labels))
        return extended

    def merge(self, elements: list[dict]) -> dict:
        """Returns the best of several ways for every cost."""
        best: dict = {}
        for element in elements:
            for costs, way in element.items():
                if costs not in best or way[0] < best[costs][0]:
                    best[costs] = way
        if len(best) > self.most:
            raise TooManyCosts
        return best


def _joined(budget: Budget, before: float, built: Built) -> float | None:
    """Returns the cost with what is built added; None beyond the budget.

    Of a peak only matters whether it has reached the band: it is 0 or the band's floor.
    """
    kind = budget.kind
    after = kind.of([before, *(kind.layer(*placed) for placed in built)])
    if after > budget.amount:
        return None
    return budget.floor * (after >= budget.floor) if kind.peak else after


def linked(labels: tuple | None) -> Iterator[Label]:
    """Yields the labels of a linked list, last first."""
    while labels is not None:
        label, labels = labels
        yield label


@dataclasses.dataclass
class Trace:
    """How the best network of every cost level was reached."""

    chosen: np.ndarray | None = None
    options: list[tuple[Trace, int, Label]] = dataclasses.field(default_factory=list)

    def labels(self, level: int) -> Iterator[Label]:
        """Yields the choices made on the way to a level, last first."""
        trace = self
        while trace.options:
            trace, shift, label = trace.options[trace.chosen[level]]
            level -= shift
            yield label


class CostLevels:
    """Smallest regret for every level of cost, along the chain.

    A level is a cost rounded to a multiple of a unit. Equal costs recur all along the chain, so
    each is rounded up or down by an offset that differs from step to step: errors then cancel.

    An element is (regrets, trace), with one regret for each level.

    Args:
        budgets: The budgets; the first, which is of a sum, gives the levels.
        multipliers: Nats added to the regret for spending the whole of each budget.
        levels: Number of levels up to the budget.
        steps: Number of times that a cost is rounded.
    """

    def __init__(
        self, budgets: Sequence[Budget], multipliers: Sequence[float], levels: int, steps: int
    ):
        self.budget = budgets[0]
        self.unit = max(1.0, self.budget.amount / levels)
        # Errors of single steps are below one level and independent: four standard deviations.
        self.slack = 0 if self.unit == 1.0 else math.ceil(2 * math.sqrt(steps))
        self.size = int(self.budget.amount / self.unit) + self.slack + 1
        self.weights = [
            (budget.kind.layer, multiplier / budget.amount)
            for budget, multiplier in zip(budgets, multipliers, strict=True)
            if multiplier
        ]
        self.peaks = [budget for budget in budgets if budget.kind.peak]
        values = np.full(self.size, np.inf)
        values[0] = 0.0
        self.start = (values, Trace())

    def extend(self, element: tuple[np.ndarray, Trace], built: Built, regret: float, label: Label):
        """Returns values, what is added, and where they came from; `merge` moves them."""
        values, trace = element
        added = sum(self.budget.kind.layer(*placed) for placed in built) / self.unit
        offset = 0.0
        if self.unit > 1.0 and built:
            offset = zlib.crc32(built[0][0].name.encode()) / 2**32
        for weighed_cost, weight in self.weights:
            regret += weight * sum(weighed_cost(*placed) for placed in built)
        if any(_joined(peak, 0, built) is None for peak in self.peaks):
            regret = np.inf
        return values, regret, (trace, int(added + offset), label)

    def merge(self, extended: list) -> tuple[np.ndarray, Trace]:
        """Returns the best of several ways for every level."""
        moved = np.full((len(extended), self.size), np.inf)
        for row, (values, regret, (_, shift, _)) in zip(moved, extended, strict=True):
            if shift < self.size:
                np.add(values[: self.size - shift], regret, out=row[shift:])
        chosen = moved.argmin(axis=0)
        trace = Trace(chosen.astype(np.uint16), [option for _, _, option in extended])
        return moved[chosen, np.arange(self.size)], trace

    def band(self) -> slice:
        """The levels in which a cost inside the band may have been rounded."""
        low = int(self.budget.floor / self.unit) - self.slack
        return slice(max(low, 0), self.size)


class Weighed:
    """Smallest regret plus weighed cost, along the chain, with the cost of what attains it.

    Args:
        budget: The budget.
        multiplier: Nats added to the regret for spending the whole of the budget.
    """

    def __init__(self, budget: Budget, multiplier: float):
        self.layer = budget.kind.layer
        self.weight = multiplier / budget.amount
        self.start = (0.0, 0)

    def extend(self, element: tuple[float, int], built: Built, regret: float, label: Label):
        """Returns (regret plus weighed cost, cost) of the longer network."""
        added = sum(self.layer(*placed) for placed in built)
        return element[0] + regret + self.weight * added, element[1] + added

    def merge(self, elements: list[tuple[float, int]]) -> tuple[float, int]:
        """Returns the best of several ways."""
        return min(elements)
