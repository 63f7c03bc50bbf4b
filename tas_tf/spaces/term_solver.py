"""The solver of budgets for any graph of terms: the least regret whose costs lie in bands.

Duality gives a bound, and assignments near the bands; exchanges of one or two choices bring them
inside and improve them, again under every depth that the bound allows; a knapsack's levels of cost
find exchanges of more choices.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Iterator, Sequence

import numpy as np

from tas_tf.errors import BudgetError
from tas_tf.spaces.duality import Dual
from tas_tf.spaces.exchanges import Band, Exchanges
from tas_tf.spaces.knapsack import Knapsack
from tas_tf.spaces.messages import Messages
from tas_tf.spaces.terms import Cost, Peak

# Up to so many assignments are looked at one by one.
FEW = 100_000
# Assignments from which exchanges begin, at first and under other depths.
_STARTS, _RESTARTS_EACH = 16, 8
# Combinations of depths under which the search begins again, and those that are looked at for it.
_RESTARTS, _MOST_DEPTHS = 32, 10_000
# Regrets that differ by less are equal, as are costs that differ by less of the budget.
_SAME = 1e-9
# Pairs of sweeps for the smallest and the largest cost.
_MOST_SWEEPS = 50


@dataclasses.dataclass(frozen=True)
class Solution:
    """An assignment, and how good it is.

    Args:
        assignment: For every choice the index of its candidate.
        in_band: Whether every cost lies in its band.
        regret: Its regret.
        optimality_gap: Nothing in the bands has a regret smaller by more than this; None where
            nothing in the bands was found.
    """

    assignment: tuple[int, ...]
    in_band: bool
    regret: float
    optimality_gap: float | None


def solve(regrets: Sequence[np.ndarray], bands: Sequence[Band]) -> Solution:
    """Returns the assignment of least regret that was found in the bands.

    Few assignments are all looked at; then the gap is 0. If nothing is found in the bands, the
    nearest below stands: that of the largest first cost which exceeds none.

    Args:
        regrets: For every choice those of its candidates; the smallest of each is 0.
        bands: The bands, at least one.

    Raises:
        BudgetError: If nothing is found that exceeds none of the bands.
    """
    bands = sorted(bands, key=lambda band: band.is_peak)
    free = np.array([int(row.argmin()) for row in regrets])
    if all(band.contains(free) for band in bands):
        return Solution(tuple(free.tolist()), True, 0.0, 0.0)
    if math.prod(len(row) for row in regrets) <= FEW:
        return _best_of_all(regrets, bands)
    return _Search(regrets, bands).run()


def reachable(cost: Cost) -> tuple[float, float]:
    """Returns costs that no assignment falls below or exceeds.

    Of sums over trees, and of most others, they are the smallest and the largest cost; the smallest
    peak may lie above the first.

    Args:
        cost: The cost.
    """
    if isinstance(cost, Peak):
        ranges = [reachable(part) for part in cost.parts]
        return max(low for low, _ in ranges), max(high for _, high in ranges)
    messages = Messages([np.zeros(size) for size in cost.sizes], [cost])
    signs = np.array([1.0, -1.0])
    messages.start(signs[:, None])
    for _ in range(_MOST_SWEEPS):
        messages.sweep(forward=True)
        messages.sweep(forward=False)
        bounds = signs * messages.bounds()
        found = cost.values(np.minimum(messages.decode(forward=True), messages.sizes - 1))
        if (np.abs(found - bounds) <= _SAME * (1 + np.abs(bounds))).all():
            return found[0].item(), found[1].item()
    return float(bounds[0]), float(bounds[1])


def _best_of_all(regrets: Sequence[np.ndarray], bands: Sequence[Band]) -> Solution:
    sizes = [len(row) for row in regrets]
    assignments = np.indices(sizes).reshape(len(sizes), -1).T
    total = np.zeros(len(assignments))
    for choice, row in enumerate(regrets):
        total += row[assignments[:, choice]]
    costs = [band.cost.values(assignments) for band in bands]
    below = np.all([c <= band.high for c, band in zip(costs, bands, strict=True)], axis=0)
    inside = below & np.all([c >= band.low for c, band in zip(costs, bands, strict=True)], axis=0)
    if not below.any():
        raise _nothing_within(bands)
    in_band = bool(inside.any())
    allowed = inside if in_band else below & (costs[0] == costs[0][below].max())
    best = np.where(allowed, total, np.inf).argmin()
    gap = 0.0 if in_band else None
    return Solution(tuple(assignments[best].tolist()), in_band, float(total[best]), gap)


def _nothing_within(bands: Sequence[Band]) -> BudgetError:
    names = "; ".join(band.name for band in bands)
    return BudgetError(
        f"no architecture of the space was found within all of {names}", field="target"
    )


class _Search:
    """The search of a solution.

    Args:
        regrets: For every choice those of its candidates.
        bands: The bands, those of peaks last.
    """

    def __init__(self, regrets: Sequence[np.ndarray], bands: Sequence[Band]):
        self._regrets, self._bands = regrets, bands
        self._exchanges = Exchanges(regrets, bands)
        self._best: np.ndarray | None = None
        self._regret = np.inf
        self._below: list[np.ndarray] = []

    def run(self) -> Solution:
        """Returns the solution; see `solve`."""
        root = Dual(self._regrets, self._bands)
        root.climb()
        self._begin(root, _STARTS)
        proven = self._restart(root)
        if self._best is None:
            return self._nearest_below(root)
        if not self._bands[0].is_peak:
            self._choose_anew(root)
        bound = max(root.bound, min(proven, self._regret))
        gap = max(0.0, self._regret - bound)
        return Solution(tuple(self._best.tolist()), True, self._regret, gap)

    def _begin(self, dual: Dual, count: int) -> None:
        """Exchanges choices from the most promising of what was decoded."""
        exchanges, steepness = self._exchanges, dual.steepness
        starts = list(dual.found.values())
        starts.sort(key=lambda x: exchanges.regret(x) + steepness * exchanges.excess(x))
        for start in starts[:count]:
            reached = exchanges.repaired(start)
            if exchanges.excess(reached) > 0:
                starts.append(reached)
            else:
                self._take(exchanges.improved(reached))
        if self._best is None:
            self._below += [x for x in starts if self._exceeds_none(x)]

    def _take(self, assignment: np.ndarray) -> bool:
        """Keeps an assignment if it is better, and returns whether it is."""
        regret = self._exchanges.regret(assignment)
        better = regret < self._regret - _SAME
        if better:
            self._best, self._regret = assignment, regret
        return better

    def _exceeds_none(self, assignment: np.ndarray) -> bool:
        return all(band.cost.value(assignment) <= band.high for band in self._bands)

    def _restart(self, root: Dual) -> float:
        """Begins again under depths that the bound allows; returns a bound that this proves."""
        choices = self._bands[0].cost.choices
        deciding = [c for c, choice in enumerate(choices) if choice.decides]
        if not deciding:
            return -np.inf
        given = [root.bounds_given(choice) for choice in deciding]
        proven, tried = np.inf, 0
        for count, picks in enumerate(_in_order([row - row.min() for row in given])):
            bound = max(row[k] for row, k in zip(given, picks, strict=True))
            if bound < self._regret:
                if tried == _RESTARTS or count == _MOST_DEPTHS:
                    return -np.inf
                tried += 1
                dual = Dual(self._regrets, self._bands, dict(zip(deciding, picks, strict=True)))
                dual.follow(root.position, self._regret)
                bound = max(bound, dual.bound)
                if bound < self._regret:
                    self._begin(dual, _RESTARTS_EACH)
            proven = min(proven, bound)
        return proven

    def _choose_anew(self, root: Dual) -> None:
        """Chooses anew by levels of cost, one way and the other, until neither helps."""
        knapsack = Knapsack(self._regrets, self._bands, root.costs, root.weights)
        forward, idle = True, 0
        while idle < 2 and self._best is not None:
            found = knapsack.chosen_anew(self._best, forward)
            better = found is not None and self._take(self._exchanges.improved(found))
            forward, idle = not forward, 0 if better else idle + 1

    def _nearest_below(self, root: Dual) -> Solution:
        """Returns the best solution of the largest first cost found that exceeds none."""
        first, *others = self._bands
        upper = [Band(band.cost, -np.inf, band.high) for band in others]
        if not self._below:
            lowered = Exchanges(self._regrets, [Band(first.cost, -np.inf, first.high), *upper])
            repaired = [lowered.repaired(start) for start in root.found.values()]
            self._below = [x for x in repaired if self._exceeds_none(x)]
        self._below.sort(key=lambda x: (-first.cost.value(x), self._exchanges.regret(x)))
        found = []
        for start in self._below[:_STARTS]:
            raised = _raised(self._regrets, [first, *upper], start)
            spent = first.cost.value(raised)
            found.append((-spent, self._exchanges.regret(raised), tuple(raised.tolist())))
        if not found:
            raise _nothing_within(self._bands)
        _, regret, nearest = min(found)
        return Solution(nearest, False, regret, None)


def _raised(
    regrets: Sequence[np.ndarray], bands: Sequence[Band], assignment: np.ndarray
) -> np.ndarray:
    """Returns what exchanges lead to that raise the first cost, none above its band."""
    first, *others = bands
    spent, beyond = first.cost.value(assignment), first.high
    while beyond - spent > _SAME * abs(first.high):
        middle = (spent + beyond) / 2
        aims = [Band(first.cost, middle, first.high), *others]
        raised = Exchanges(regrets, aims).repaired(assignment)
        if all(band.contains(raised) for band in aims):
            assignment, spent = raised, first.cost.value(raised)
        else:
            beyond = middle
    equal = Exchanges(regrets, [Band(first.cost, spent, first.high), *others])
    return equal.improved(assignment)


def _in_order(rows: Sequence[np.ndarray]) -> Iterator[tuple[int, ...]]:
    """Yields one index for each row, in every way, the smallest sums first."""
    orders = [np.argsort(row, kind="stable") for row in rows]
    heap = [(sum(float(row.min()) for row in rows), (0,) * len(rows))]
    seen = {heap[0][1]}
    while heap:
        total, ranks = heapq.heappop(heap)
        yield tuple(int(order[rank]) for order, rank in zip(orders, ranks, strict=True))
        for at, (row, order) in enumerate(zip(rows, orders, strict=True)):
            after = (*ranks[:at], ranks[at] + 1, *ranks[at + 1 :])
            if after[at] < len(row) and after not in seen:
                seen.add(after)
                rise = float(row[order[after[at]]] - row[order[ranks[at]]])
                heapq.heappush(heap, (total + rise, after))
