"""The solver of budgets: the most probable architecture within them, by dynamic programming."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tas_tf.errors import BudgetError
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import Budget, cost
from tas_tf.spaces.dynamic_program import (
    Algebra,
    CostLevels,
    ExactCosts,
    Label,
    TooManyCosts,
    Ways,
    linked,
    reachable,
    walk,
)
from tas_tf.spaces.search_space import SearchSpace

# Up to so many different costs along the chain, every one is kept, and nothing is rounded.
MOST_COSTS = 300
# Weight of a budget, in nats for the whole of it, beside which no regret counts.
_HEAVY = 1e12
# A single budget is weighed only where its levels' best are all outside. Weighed so heavily, every
# level keeps its cheapest architecture, then its dearest: the cheapest of all is always found.
_SINGLE = (0.0, _HEAVY, -_HEAVY)
# Weights of a further budget lie within this, and are halved this often to find the right one.
_WIDEST, _HALVINGS = 4096.0, 14

Solution = tuple[float, Architecture]  # with its regret


@dataclasses.dataclass(frozen=True)
class Programme:
    """What is to be solved: the architecture of the smallest regret within budgets.

    Args:
        space: The search space.
        widths: For every choice the regret of each candidate.
        depths: For every stage the regret of each depth.
        budgets: The budgets, peaks last. The first sum is met by dynamic programming, other sums
            by Lagrange multipliers, a peak by leaving out what exceeds it.
        levels: Number of cost levels up to the budget.
    """

    space: SearchSpace
    widths: Sequence[np.ndarray]
    depths: Sequence[np.ndarray]
    budgets: Sequence[Budget]
    levels: int

    def solve(self) -> tuple[Solution, bool, float | None]:
        """Returns the best solution, whether it is in all bands, and the largest possible gap.

        In none of the bands it is the solution of the largest cost found below.

        Raises:
            BudgetError: If nothing is within the budgets.
        """
        exact = self._solve_exactly()
        if exact is not None:
            solution, in_band = exact
            return solution, in_band, 0.0 if in_band else None
        if self.budgets[0].kind.peak:
            return self._highest_peak(), False, None
        within, gap = self._within()
        if within is not None:
            return within, True, gap
        # Levels round costs: what they find nearest below may lie in the bands after all.
        below = self._nearest_below()
        return below, self._is_in_bands(below), None

    def best_of_each(self, budgets: Sequence[Budget]) -> list[Architecture]:
        """Returns the best in the band of each of some budgets, where levels find one.

        Args:
            budgets: Budgets of the programme's first cost, none of them larger.
        """
        programme = self._by_levels([0.0])
        values, trace = self._walk(programme)
        found = []
        for budget in budgets:
            for level in _in_order(values, programme.band(budget)):
                _, architecture = self._solution(trace.labels(level))
                if budget.contains(cost(architecture, budget.kind)):
                    found.append(architecture)
                    break
        return found

    def _solve_exactly(self) -> tuple[Solution, bool] | None:
        """Returns the best solution and whether it is in all bands, if few enough costs occur."""
        if not _has_few_costs(self.space, tuple(self.budgets), MOST_COSTS):
            return None
        table = self._walk(ExactCosts(self.budgets, MOST_COSTS))
        inside = [costs for costs in table if self._are_in_bands(costs)]
        if inside:
            best = min(inside, key=lambda costs: (table[costs][0], -costs[0]))
        elif self.budgets[0].kind.peak:
            return None
        elif not table:
            raise self._nothing_within()
        else:
            best = max(table, key=lambda costs: (costs[0], -table[costs][0]))
        return self._solution(linked(table[best][1])), bool(inside)

    def _highest_peak(self) -> Solution:
        """Returns the best solution of the largest peak below the budget, found by bisection."""
        budget = self.budgets[0]
        low, high = reachable(self.space, budget.kind)[0], int(budget.floor)
        while low < high:
            middle = (low + high + 1) // 2
            solved = self._with_floor(middle)._solve_exactly()
            low, high = (low, middle - 1) if solved is None else (middle, high)
        solved = self._with_floor(low)._solve_exactly()
        if solved is None:
            raise self._nothing_within()
        return solved[0]

    def _with_floor(self, floor: int) -> Programme:
        # Half a unit below, so that rounding does not put the floor above a whole cost.
        budget = self.budgets[0]
        lower = dataclasses.replace(budget, tolerance=1 - (floor - 0.5) / budget.amount)
        return dataclasses.replace(self, budgets=[lower])

    def _within(self) -> tuple[Solution | None, float | None]:
        """Returns the best solution in all bands, and the largest possible gap."""
        sums = sum(not budget.kind.peak for budget in self.budgets)
        if sums > 1:
            return self._within_several(sums), None
        for multiplier in _SINGLE:
            for solution in self._best_by_level([multiplier] + [0.0] * (len(self.budgets) - 1)):
                if self._is_in_bands(solution):
                    return solution, max(0.0, float(solution[0] - self.dual_bound()))
        return None, None

    def dual_bound(self) -> float:
        """Returns a regret that no architecture in the first band falls below, by duality.

        For a weight w >= 0 of the budget R, `min_a (regret + w * cost / R) - w` is such a bound,
        and likewise with `-w` and the band's floor. The best weight is found by bisection: beyond
        it, what attains the minimum is too cheap.
        """
        budget = self.budgets[0]
        ways = Ways(budget.kind)
        self._walk(ways)

        def minimum(weight: float) -> tuple[float, float, float]:
            value, spent = ways.best(weight / budget.amount)
            limit = budget.amount if weight >= 0 else budget.floor
            return value - weight * limit / budget.amount, spent, limit

        best, spent, _ = minimum(0.0)
        if budget.contains(spent):
            return best
        low, high = (0.0, _WIDEST) if spent > budget.amount else (-_WIDEST, 0.0)
        for _ in range(_HALVINGS):
            # Weights span decades: the middle is taken on a logarithmic scale.
            size = math.sqrt(max(abs(low), 0.01) * max(abs(high), 0.01))
            middle = math.copysign(size, low + high)
            bound, spent, limit = minimum(middle)
            best = max(best, bound)
            low, high = (middle, high) if spent > limit else (low, middle)
        return best

    def _within_several(self, sums: int) -> Solution | None:
        """Returns the best solution found in several bands, the first by levels, others by weight.

        Where a further cost leaps over its band, because a stage's depth changes, the depths
        between are tried one by one. Fewer levels do, since there are many programmes to solve.
        """
        coarse = dataclasses.replace(self, levels=max(self.levels // 4, 500))
        best, (first, second) = coarse._bisect(sums)
        if best is not None or first is None or second is None:
            return best
        for chosen in self._depths_between(first, second):
            depths = [
                np.where(np.arange(len(row)) == d, row, np.inf)
                for row, d in zip(self.depths, chosen, strict=True)
            ]
            best, _ = dataclasses.replace(coarse, depths=depths)._bisect(sums)
            if best is not None:
                return best
        return None

    def _bisect(self, sums: int) -> tuple[Solution | None, list[Solution | None]]:
        """Returns the best solution in all bands, and the nearest two outside of the last one.

        A heavier weight makes a cost smaller, so each weight is found by bisection in turn.
        """
        best = None
        ends: list[Solution | None] = [None, None]
        weights = [0.0] * len(self.budgets)
        for index in range(1, sums):
            ends = [None, None]
            low, high = -_WIDEST, _WIDEST
            for _ in range(_HALVINGS):
                weights[index] = (low + high) / 2
                first = None
                for solution in self._best_by_level(weights):
                    if first is None and self.budgets[0].contains(self._cost(0, solution)):
                        first = solution
                    if self._is_in_bands(solution):
                        best = solution if best is None else min(best, solution, key=_regret)
                        break
                # Where so heavy a weight leaves nothing in the first band, a lighter one is next.
                dear = weights[index] < 0
                if first is not None:
                    dear = self._cost(index, first) > self.budgets[index].amount
                    ends[dear] = first
                low, high = (weights[index], high) if dear else (low, weights[index])
        return best, ends

    def _depths_between(self, one: Solution, other: Solution) -> Iterator[tuple[int, ...]]:
        """Yields the depth candidates of all stages that lie between those of two solutions."""
        ranges = []
        stages = zip(one[1].stages, other[1].stages, strict=True)
        for depths, ends in zip(self.space.depths, stages, strict=True):
            first, last = sorted(depths.index(len(stage)) for stage in ends)
            ranges.append(range(first, last + 1))
        return itertools.product(*ranges)

    def _nearest_below(self) -> Solution:
        """Returns the solution of the largest cost found that exceeds no budget."""
        best = None
        for multiplier in _SINGLE:
            for solution in self._best_by_level([multiplier] * len(self.budgets), everywhere=True):
                costs = [self._cost(index, solution) for index in range(len(self.budgets))]
                if all(c <= budget.amount for c, budget in zip(costs, self.budgets, strict=True)):
                    if best is None or costs[0] > best[0]:
                        best = (costs[0], solution)
                    break
        if best is None:
            raise self._nothing_within()
        return best[1]

    def _best_by_level(
        self, multipliers: Sequence[float], everywhere: bool = False
    ) -> Iterator[Solution]:
        """Yields the best solution of every level: of the band, smallest regret first, or of all.

        Args:
            multipliers: Nats added to the regret for spending the whole of each budget.
            everywhere: Whether to yield those of all levels, the dearest first.
        """
        programme = self._by_levels(multipliers)
        values, trace = self._walk(programme)
        if everywhere:
            order = np.flatnonzero(np.isfinite(values))[::-1]
        else:
            order = _in_order(values, programme.band(self.budgets[0]))
        for level in order:
            yield self._solution(trace.labels(level))

    def _by_levels(self, multipliers: Sequence[float]) -> CostLevels:
        steps = len(self.space.unit_choices) + 1
        return CostLevels(self.budgets, multipliers, self.levels, steps)

    def _walk(self, algebra: Algebra) -> Any:
        return walk(self.space, self.widths, self.depths, algebra)

    def _solution(self, labels: Iterable[Label]) -> Solution:
        """Returns the solution of a walk's labels; cut units stand at their most probable."""
        width_indices = [int(row.argmin()) for row in self.widths]
        depth_indices = [0] * len(self.depths)
        for label in labels:
            if label is not None:
                kind, index, candidate = label
                (width_indices if kind == "width" else depth_indices)[index] = candidate
        # A step beyond the chosen depth belongs to no walk, so what was set is what is built.
        regret = sum(row[k] for row, k in zip(self.widths, width_indices, strict=True))
        regret += sum(row[k] for row, k in zip(self.depths, depth_indices, strict=True))
        return float(regret), self.space.architecture(width_indices, depth_indices)

    def _cost(self, index: int, solution: Solution) -> int:
        return cost(solution[1], self.budgets[index].kind)

    def _is_in_bands(self, solution: Solution) -> bool:
        return self._are_in_bands([self._cost(i, solution) for i in range(len(self.budgets))])

    def _are_in_bands(self, costs: Sequence[float]) -> bool:
        return all(b.contains(c) for b, c in zip(self.budgets, costs, strict=True))

    def _nothing_within(self) -> BudgetError:
        budgets = "; ".join(map(str, self.budgets))
        return BudgetError(
            f"no architecture of the space was found within all of {budgets}", field="target"
        )


@functools.lru_cache(maxsize=64)
def _has_few_costs(space: SearchSpace, budgets: tuple[Budget, ...], most: int) -> bool:
    """Returns whether every different cost can be kept: no regret has a part in that."""
    widths = [np.zeros(len(choice.candidates)) for choice in space.choices]
    depths = [np.zeros(len(stage)) for stage in space.depths]
    try:
        walk(space, widths, depths, ExactCosts(budgets, most))
    except TooManyCosts:
        return False
    return True


def _in_order(values: np.ndarray, band: slice) -> np.ndarray:
    """Returns the levels of a band that have a network: smallest regret first, then dearest."""
    order = band.stop - 1 - np.argsort(values[band][::-1], kind="stable")
    return order[np.isfinite(values[order])]


def _regret(solution: Solution) -> float:
    return solution[0]
