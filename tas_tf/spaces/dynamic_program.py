"""The chain of a network from stem to classifier, walked by dynamic programming."""

from __future__ import annotations

import dataclasses
import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from tas_tf.spaces.cost import Budget, CostKind, kind_of
from tas_tf.spaces.families import BlockLayers, Placed
from tas_tf.spaces.search_space import SearchSpace

Built = Sequence[Placed]  # layers that a step builds
Label = tuple[str, int, int] | None  # ("width", choice, candidate) or ("depth", stage, candidate)


class Algebra(Protocol):
    """What a walk adds up: an element for each network so far."""

    @property
    def start(self) -> Any:
        """Element of the empty network."""

    def extend(self, element: Any, built: Built, regret: float, label: Label) -> Any:
        """Returns the element of a network that is longer by what is built."""

    def merge(self, elements: list[Any]) -> Any:
        """Returns the element for several ways to the same stream width."""


def walk(
    space: SearchSpace,
    widths: Sequence[np.ndarray],
    depths: Sequence[np.ndarray],
    algebra: Algebra,
) -> Any:
    """Walks along the chain of all architectures, keeping one element for each stream width.

    Units may be tied along the residual stream, as `SearchSpace.resnet` ties them.

    Args:
        space: The search space.
        widths: For every choice the regret of each candidate.
        depths: For every stage the regret of each depth.
        algebra: What is added up.
    """
    choice = space.unit_choices[0]
    stream = {}
    for k, width in enumerate(space.choices[choice].candidates):
        stem = [(space.outline.stem, space.input_shape[2], width, 0)]
        label = ("width", choice, k)
        element = algebra.extend(algebra.start, stem, widths[choice][k], label)
        stream[width] = algebra.merge([element])
    for s, layers_of_stage in enumerate(space.outline.stages):
        ends: dict[int, list[Any]] = {}
        for b, layers in enumerate(layers_of_stage):
            choices = [space.unit_choices[unit] for unit in space.block_units[s][b]]
            candidates = [(c, space.choices[c].candidates) for c in choices]
            block = _Block(layers, candidates, tied=choices[-1] == choice)
            stream = block.walk(stream, widths, algebra)
            choice = choices[-1]
            if b + 1 in space.depths[s]:
                d = space.depths[s].index(b + 1)
                for width, element in stream.items():
                    end = algebra.extend(element, [], depths[s][d], ("depth", s, d))
                    ends.setdefault(width, []).append(end)
        stream = {width: algebra.merge(elements) for width, elements in ends.items()}
    classifier, classes = space.outline.classifier, space.num_classes
    return algebra.merge(
        [
            algebra.extend(element, [(classifier, width, classes, width)], 0.0, None)
            for width, element in stream.items()
        ]
    )


@dataclasses.dataclass(frozen=True)
class _Block:
    """One block of the chain.

    Args:
        layers: Its layers.
        choices: For every unit its choice and the candidate widths of that.
        tied: Whether the block's output shares the choice of the stream's width.
    """

    layers: BlockLayers
    choices: Sequence[tuple[int, tuple[int, ...]]]
    tied: bool

    def walk(
        self, stream: dict[int, Any], widths: Sequence[np.ndarray], algebra: Algebra
    ) -> dict[int, Any]:
        """Returns the elements by the width of its output, given those by that of its input."""
        # Inside a block an element belongs to (width of the block's input, width here).
        inside: dict[Any, Any] = {(width, width): element for width, element in stream.items()}
        for layer, (choice, candidates) in zip(self.layers.units, self.choices, strict=True):
            last = layer is self.layers.units[-1]
            options: dict[Any, list[Any]] = {}
            for ((entry, before), element), (k, width) in itertools.product(
                inside.items(), enumerate(candidates)
            ):
                tied = last and self.tied
                if tied and width != entry:
                    continue
                built = [(layer, before, width, entry)]
                if last and self.layers.needs_projection(entry, width):
                    built.append((self.layers.projection, entry, width, entry))
                regret = 0.0 if tied else widths[choice][k]
                option = algebra.extend(element, built, regret, ("width", choice, k))
                options.setdefault(width if last else (entry, width), []).append(option)
            inside = {key: algebra.merge(elements) for key, elements in options.items()}
        return inside


@dataclasses.dataclass(frozen=True)
class _Extreme:
    """The smallest or the largest cost of all networks.

    Args:
        kind: The kind of cost.
        merge: `min` or `max`.
    """

    kind: CostKind
    merge: Callable[[list[int]], int]
    start: int = 0

    def extend(self, element: int, built: Built, regret: float, label: Label) -> int:
        """See `Algebra`."""
        return self.kind.of([element, *(self.kind.layer(*placed) for placed in built)])


def reachable(space: SearchSpace, kind: str | CostKind) -> tuple[int, int]:
    """Returns the smallest and the largest cost of any architecture of the space, exactly."""
    widths = [np.zeros(len(choice.candidates)) for choice in space.choices]
    depths = [np.zeros(len(stage)) for stage in space.depths]
    smallest, largest = (
        walk(space, widths, depths, _Extreme(kind_of(kind), best)) for best in (min, max)
    )
    return smallest, largest


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
        extended: dict = {}
        added = [_added(budget, built) for budget in self.budgets]
        for costs, (total, labels) in element.items():
            after = tuple(map(_cost_within, self.budgets, costs, added))
            # Where a peak reaches its band, costs below it and in it become one.
            best = extended.get(after, (np.inf, None))[0]
            if None not in after and total + regret < best:
                extended[after] = (total + regret, (label, labels))
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


def _added(budget: Budget, built: Built) -> float:
    """Returns the cost of what is built."""
    return budget.kind.of([budget.kind.layer(*placed) for placed in built])


def _cost_within(budget: Budget, before: float, added: float) -> float | None:
    """Returns the cost with what is built added; None beyond the budget.

    Of a peak only matters whether it has reached the band: it is 0 or the band's floor.
    """
    after = budget.kind.of([before, added])
    if after > budget.amount:
        return None
    return budget.floor * (after >= budget.floor) if budget.kind.peak else after


def linked(labels: tuple | None) -> Iterator[Label]:
    """Yields the labels of a linked list, last first."""
    while labels is not None:
        label, labels = labels
        yield label


@dataclasses.dataclass
class Trace:
    """How the best network of every cost level was reached."""

    chosen: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.uint16))
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

    def extend(
        self, element: tuple[np.ndarray, Trace], built: Built, regret: float, label: Label
    ) -> tuple[np.ndarray, float, tuple[Trace, int, Label]]:
        """Returns values, what is added, and where they came from; `merge` moves them."""
        values, trace = element
        added = _added(self.budget, built) / self.unit
        offset = 0.0
        if self.unit > 1.0 and built:
            offset = zlib.crc32(built[0][0].name.encode()) / 2**32
        for weighed_cost, weight in self.weights:
            regret += weight * sum(weighed_cost(*placed) for placed in built)
        if any(_added(peak, built) > peak.amount for peak in self.peaks):
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

    def band(self, budget: Budget) -> slice:
        """The levels to which a cost in a budget's band may have been rounded."""
        low = int(budget.floor / self.unit) - self.slack
        high = int(budget.amount / self.unit) + self.slack + 1
        return slice(max(low, 0), min(high, self.size))


class Ways:
    """All ways along the chain as a graph, on which a cost is weighed anew without another walk.

    An element is the number of a node, which the ways so far lead to.

    Args:
        kind: The cost that is weighed, which adds up.
    """

    def __init__(self, kind: CostKind):
        self._layer = kind.layer
        # Of every node but the first: the nodes before it, with the regret and the cost between.
        self._edges: list[list[tuple[int, float, int]]] = []
        self.start = 0

    def extend(
        self, element: int, built: Built, regret: float, label: Label
    ) -> tuple[int, float, int]:
        """Returns an edge to the longer network."""
        return element, regret, sum(self._layer(*placed) for placed in built)

    def merge(self, edges: list[tuple[int, float, int]]) -> int:
        """Returns the node that edges lead to."""
        self._edges.append(edges)
        return len(self._edges)

    def best(self, weight: float) -> tuple[float, int]:
        """Returns the smallest regret plus weighed cost, and the cost of what attains it.

        Args:
            weight: Nats for a unit of cost.
        """
        found = [(0.0, 0)]
        for edges in self._edges:
            found.append(
                min(
                    (found[node][0] + regret + weight * added, found[node][1] + added)
                    for node, regret, added in edges
                )
            )
        return found[-1]
