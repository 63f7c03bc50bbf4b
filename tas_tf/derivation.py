"""From logits to an Architecture: the argmax, and the most probable one within a budget.

The smallest and the largest cost of a space, and the most probable architecture of a given cost,
are found by dynamic programming along the chain of its layers (`chain.walk`).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tas_tf.architecture import Architecture
from tas_tf.chain import Built, CostLevels, ExactCosts, Label, TooManyCosts, Weighed, linked, walk
from tas_tf.cost import KINDS, Budget, cost, shown
from tas_tf.errors import BudgetError
from tas_tf.search_space import SearchSpace

# Cost levels of the dynamic programme: more is finer, and takes time and memory in proportion.
LEVELS = 4_000
# Up to so many different costs along the chain, every one is kept, and nothing is rounded.
_MOST_COSTS = 300
# Weight of a budget, in nats for the whole of it, beside which no regret counts.
_HEAVY = 1e12
# A single budget is weighed only where its levels' best are all outside. Weighed so heavily, every
# level keeps its cheapest architecture, then its dearest: the cheapest of all is always found.
_SINGLE = (0.0, _HEAVY, -_HEAVY)
# Weights of a further budget lie within this, and are halved this often to find the right one.
_WIDEST, _HALVINGS = 4096.0, 14


@dataclasses.dataclass(frozen=True)
class Derivation:
    """What was derived, and how far it is from the plain argmax.

    Args:
        architecture: The architecture.
        in_band: Whether every cost lies in its budget's band.
        log_probability: Sum of the log-probabilities of all choices, widths of cut blocks at
            their most probable (so that without a budget the argmax is the best).
        optimality_gap: No architecture within the budget has a sum larger by more than this;
            None where that is not known (many costs and several budgets, or nothing in the band).
        argmax: The plain argmax architecture (the paper's).
        argmax_log_probability: Its sum.
    """

    architecture: Architecture
    in_band: bool
    log_probability: float
    optimality_gap: float | None
    argmax: Architecture
    argmax_log_probability: float

    def summary(self, budgets: Sequence[Budget]) -> dict[str, Any]:
        """Returns what `architecture.json` and reports say about the derivation."""
        return {
            "method": "most probable within the budget",
            "in_band": self.in_band,
            "is_argmax": self.architecture == self.argmax,
            "log_probability": self.log_probability,
            "optimality_gap": self.optimality_gap,
            "argmax_log_probability": self.argmax_log_probability,
            "budgets": {
                budget.kind: {
                    "floor": budget.floor,
                    "amount": budget.amount,
                    "cost": cost(self.architecture, budget.kind),
                    "argmax_cost": cost(self.argmax, budget.kind),
                    "unpruned": budget.unpruned,
                }
                for budget in budgets
            },
        }


def argmax(space: SearchSpace, width_logits: np.ndarray, depth_logits: np.ndarray) -> Architecture:
    """Returns the most probable candidate everywhere, whatever it costs (the paper's derivation).

    Args:
        space: The search space.
        width_logits: (choices, max candidates); entries beyond a choice's candidates are ignored.
        depth_logits: (stages, max depths), likewise.
    """
    widths, depths = _regrets(space, width_logits, depth_logits)
    return space.architecture([row.argmin() for row in widths], [row.argmin() for row in depths])


def derive(
    space: SearchSpace,
    width_logits: np.ndarray,
    depth_logits: np.ndarray,
    budgets: Sequence[Budget],
    levels: int = LEVELS,
) -> Derivation:
    """Returns the most probable architecture whose costs lie in the budgets' bands (METHOD 8).

    Where few different costs occur, the result is exact. Otherwise the best network of every level
    of cost is kept along the chain. If nothing is found in the band, the nearest below stands, and
    `in_band` is false.

    Args:
        space: The search space.
        width_logits: (choices, max candidates).
        depth_logits: (stages, max depths).
        budgets: One budget or several; the first sum is met by dynamic programming, other sums by
            Lagrange multipliers, a peak by leaving out what exceeds it.
        levels: Number of cost levels up to the budget.

    Raises:
        BudgetError: If every architecture of the space exceeds a budget.
    """
    check_reachable(space, budgets)
    budgets = sorted(budgets, key=lambda budget: KINDS[budget.kind].peak)
    widths, depths = _regrets(space, width_logits, depth_logits)
    best_sum = sum(_log_softmax(row).max() for row in _rows(space, width_logits, depth_logits))
    (regret, architecture), in_band, gap = _best(space, widths, depths, budgets, levels)
    return Derivation(
        architecture=architecture,
        in_band=in_band,
        log_probability=float(best_sum - regret),
        optimality_gap=gap,
        argmax=argmax(space, width_logits, depth_logits),
        argmax_log_probability=float(best_sum),
    )


def reachable(space: SearchSpace, kind: str) -> tuple[int, int]:
    """Returns the smallest and the largest cost of any architecture of the space, exactly."""
    widths = [np.zeros(len(choice.candidates)) for choice in space.choices]
    depths = [np.zeros(len(stage)) for stage in space.depths]

    def extend(total: int, built: Built, regret: float, label: Label) -> int:
        return KINDS[kind].of([total, *(KINDS[kind].layer(*placed) for placed in built)])

    return tuple(walk(space, widths, depths, 0, extend, best) for best in (min, max))


def check_reachable(space: SearchSpace, budgets: Sequence[Budget]) -> None:
    """Refuses a budget whose band no architecture of the space can meet.

    Raises:
        BudgetError: With the reachable range.
    """
    for budget in budgets:
        smallest, largest = reachable(space, budget.kind)
        if smallest > budget.amount or largest < budget.floor:
            raise BudgetError(
                f"TARGET: no architecture of the space has {budget}. Reachable are "
                f"{shown(smallest)} to {shown(largest)} {budget.kind}, that is "
                f"{smallest / budget.unpruned:.3f} to {largest / budget.unpruned:.3f} of the "
                "unpruned network"
            )


Solution = tuple[float, Architecture]  # with its regret


def _best(
    space: SearchSpace,
    widths: list[np.ndarray],
    depths: list[np.ndarray],
    budgets: Sequence[Budget],
    levels: int,
) -> tuple[Solution, bool, float | None]:
    """Returns the best solution, whether it is in all bands, and the largest possible gap."""
    looked_up = _looked_up(space, widths, depths, budgets)
    if looked_up is None and KINDS[budgets[0].kind].peak:
        return _highest_peak(space, widths, depths, budgets[0]), False, None
    if looked_up is not None:
        solution, in_band = looked_up
        return solution, in_band, 0.0 if in_band else None
    solution, gap = _within(space, widths, depths, budgets, levels)
    if solution is not None:
        return solution, True, gap
    return _nearest_below(space, widths, depths, budgets, levels), False, None


def _looked_up(
    space: SearchSpace,
    widths: list[np.ndarray],
    depths: list[np.ndarray],
    budgets: Sequence[Budget],
) -> tuple[Solution, bool] | None:
    """Returns the best solution and whether it is in all bands, if few enough costs occur."""
    programme = ExactCosts(budgets, _MOST_COSTS)
    try:
        table = walk(space, widths, depths, programme.start, programme.extend, programme.merge)
    except TooManyCosts:
        return None
    if not table:
        raise _nothing_within(budgets)
    inside = [
        costs
        for costs in table
        if all(budget.contains(c) for budget, c in zip(budgets, costs, strict=True))
    ]
    if inside:
        best = min(inside, key=lambda costs: table[costs][0])
    elif KINDS[budgets[0].kind].peak:
        return None
    else:
        best = max(table, key=lambda costs: (costs[0], -table[costs][0]))
    return _solution(space, widths, depths, linked(table[best][1])), bool(inside)


def _highest_peak(
    space: SearchSpace, widths: list[np.ndarray], depths: list[np.ndarray], budget: Budget
) -> Solution:
    """Returns the best solution of the largest peak below the budget, found by bisection."""
    low, high = reachable(space, budget.kind)[0], int(budget.floor)
    while low < high:
        middle = (low + high + 1) // 2
        found = _looked_up(space, widths, depths, [_with_floor(budget, middle)])
        low, high = (low, middle - 1) if found is None else (middle, high)
    return _looked_up(space, widths, depths, [_with_floor(budget, low)])[0]


def _with_floor(budget: Budget, floor: int) -> Budget:
    # Half a unit below, so that rounding does not put the floor above a whole cost.
    return dataclasses.replace(budget, tolerance=1 - (floor - 0.5) / budget.amount)


def _within(
    space: SearchSpace,
    widths: list[np.ndarray],
    depths: list[np.ndarray],
    budgets: Sequence[Budget],
    levels: int,
) -> tuple[Solution | None, float | None]:
    """Returns the best solution in all bands, and the largest possible gap."""
    sums = sum(not KINDS[budget.kind].peak for budget in budgets)
    if sums > 1:
        return _balanced(space, widths, depths, budgets, levels, sums), None
    for multiplier in _SINGLE:
        weights = [multiplier] + [0.0] * (len(budgets) - 1)
        for solution in _solve(space, widths, depths, budgets, weights, levels):
            if _contain(budgets, solution[1]):
                bound = _dual_bound(space, widths, depths, budgets[0])
                return solution, max(0.0, float(solution[0] - bound))
    return None, None


def _dual_bound(
    space: SearchSpace, widths: list[np.ndarray], depths: list[np.ndarray], budget: Budget
) -> float:
    """Returns a regret that no architecture in the band falls below, by Lagrangian duality.

    For a weight w >= 0 of the budget R, `min_a (regret + w * cost / R) - w` is such a bound, and
    likewise with `-w` and the band's floor. The best weight is found by bisection: beyond it, what
    attains the minimum is too cheap.
    """

    def minimum(weight: float) -> tuple[float, float]:
        programme = Weighed(budget, weight)
        value, spent = walk(
            space, widths, depths, programme.start, programme.extend, programme.merge
        )
        limit = budget.amount if weight >= 0 else budget.floor
        return value - weight * limit / budget.amount, spent

    best, spent = minimum(0.0)
    if budget.contains(spent):
        return best
    low, high = (0.0, _WIDEST) if spent > budget.amount else (-_WIDEST, 0.0)
    for _ in range(_HALVINGS):
        # Weights span decades: the middle is taken on a logarithmic scale.
        middle = math.copysign(math.sqrt(max(abs(low), 0.01) * max(abs(high), 0.01)), low + high)
        bound, spent = minimum(middle)
        best = max(best, bound)
        too_dear = spent > (budget.amount if middle >= 0 else budget.floor)
        low, high = (middle, high) if too_dear else (low, middle)
    return best


def _balanced(
    space: SearchSpace,
    widths: list[np.ndarray],
    depths: list[np.ndarray],
    budgets: Sequence[Budget],
    levels: int,
    sums: int,
) -> Solution | None:
    """Returns the best solution found in several bands: the first by levels, the others by weight.

    Where a further cost leaps over its band, because a stage's depth changes, the depths between
    are tried one by one. Fewer levels do, since there are many programmes to solve.
    """
    levels = max(levels // 4, 500)
    best, ends = _bisected(space, widths, depths, budgets, levels, sums)
    if best is not None or None in ends:
        return best
    for chosen in _depths_between(space, *ends):
        fixed = [
            np.where(np.arange(len(row)) == d, row, np.inf)
            for row, d in zip(depths, chosen, strict=True)
        ]
        best, _ = _bisected(space, widths, fixed, budgets, levels, sums)
        if best is not None:
            return best
    return None


def _bisected(
    space: SearchSpace,
    widths: list[np.ndarray],
    depths: list[np.ndarray],
    budgets: Sequence[Budget],
    levels: int,
    sums: int,
) -> tuple[Solution | None, list[Solution | None]]:
    """Returns the best solution in all bands, and the nearest two outside of the last one.

    A heavier weight makes a cost smaller, so each weight is found by bisection, one after another.
    """
    best = None
    weights = [0.0] * len(budgets)
    for index in range(1, sums):
        ends: list[Solution | None] = [None, None]
        low, high = -_WIDEST, _WIDEST
        for _ in range(_HALVINGS):
            weights[index] = (low + high) / 2
            first = None
            for solution in _solve(space, widths, depths, budgets, weights, levels):
                if first is None and budgets[0].contains(_cost(budgets[0], solution)):
                    first = solution
                if _contain(budgets, solution[1]):
                    if best is None or solution[0] < best[0]:
                        best = solution
                    break
            # Where so heavy a weight leaves nothing in the first band, a lighter one is next.
            dear = weights[index] < 0
            if first is not None:
                dear = _cost(budgets[index], first) > budgets[index].amount
                ends[dear] = first
            low, high = (weights[index], high) if dear else (low, weights[index])
    return best, ends


def _depths_between(space: SearchSpace, one: Solution, other: Solution) -> Iterator[tuple]:
    """Yields the depth candidates of all stages that lie between those of two solutions."""
    ranges = []
    for depths, stages in zip(
        space.depths, zip(one[1].stages, other[1].stages, strict=True), strict=True
    ):
        first, last = sorted(depths.index(len(stage)) for stage in stages)
        ranges.append(range(first, last + 1))
    return itertools.product(*ranges)


def _contain(budgets: Sequence[Budget], architecture: Architecture) -> bool:
    return all(budget.contains(cost(architecture, budget.kind)) for budget in budgets)


def _cost(budget: Budget, solution: Solution) -> int:
    return cost(solution[1], budget.kind)


def _nearest_below(
    space: SearchSpace,
    widths: list[np.ndarray],
    depths: list[np.ndarray],
    budgets: Sequence[Budget],
    levels: int,
) -> Solution:
    """Returns the solution of the largest cost found that exceeds no budget."""
    best = None
    for multiplier in _SINGLE:
        weights = [multiplier] * len(budgets)
        for solution in _solve(space, widths, depths, budgets, weights, levels, everywhere=True):
            costs = [cost(solution[1], budget.kind) for budget in budgets]
            if all(c <= budget.amount for c, budget in zip(costs, budgets, strict=True)):
                if best is None or costs[0] > best[0]:
                    best = (costs[0], solution)
                break
    if best is None:
        raise _nothing_within(budgets)
    return best[1]


def _nothing_within(budgets: Sequence[Budget]) -> BudgetError:
    return BudgetError(
        "TARGET: no architecture of the space was found within all of "
        + "; ".join(map(str, budgets))
    )


def _solve(
    space: SearchSpace,
    widths: list[np.ndarray],
    depths: list[np.ndarray],
    budgets: Sequence[Budget],
    multipliers: Sequence[float],
    levels: int,
    everywhere: bool = False,
) -> Iterator[Solution]:
    """Yields the best solution of every level: of the band, smallest regret first, or of all.

    Args:
        everywhere: Whether to yield those of all levels, the dearest first.
    """
    steps = len(space.unit_choices) + 1
    programme = CostLevels(budgets, multipliers, levels, steps)
    values, trace = walk(space, widths, depths, programme.start, programme.extend, programme.merge)
    if everywhere:
        order = np.arange(len(values))[::-1]
    else:
        band = programme.band()
        order = band.start + np.argsort(values[band], kind="stable")
    for level in order[np.isfinite(values[order])]:
        yield _solution(space, widths, depths, trace.labels(level))


def _solution(
    space: SearchSpace,
    widths: list[np.ndarray],
    depths: list[np.ndarray],
    labels: Iterable[Label],
) -> Solution:
    """Returns the solution of a walk's labels; cut units stand at their most probable."""
    width_indices = [int(row.argmin()) for row in widths]
    depth_indices = [0] * len(depths)
    for label in labels:
        if label is not None:
            kind, index, candidate = label
            (width_indices if kind == "width" else depth_indices)[index] = candidate
    # A step beyond the chosen depth belongs to no walk, so what was set is what is built.
    regret = sum(row[k] for row, k in zip(widths, width_indices, strict=True))
    regret += sum(row[k] for row, k in zip(depths, depth_indices, strict=True))
    return float(regret), space.architecture(width_indices, depth_indices)


def _regrets(
    space: SearchSpace, width_logits: np.ndarray, depth_logits: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns how much log-probability every candidate loses against its choice's best."""
    regrets = [row.max() - row for row in _rows(space, width_logits, depth_logits)]
    return regrets[: len(space.choices)], regrets[len(space.choices) :]


def _rows(
    space: SearchSpace, width_logits: np.ndarray, depth_logits: np.ndarray
) -> list[np.ndarray]:
    """Returns the logits of every choice and of every stage, each of its own length."""
    sizes = [len(choice.candidates) for choice in space.choices]
    rows = [np.asarray(row, np.float64)[:n] for row, n in zip(width_logits, sizes, strict=True)]
    sizes = [len(depths) for depths in space.depths]
    return rows + [
        np.asarray(row, np.float64)[:n] for row, n in zip(depth_logits, sizes, strict=True)
    ]


def _log_softmax(row: np.ndarray) -> np.ndarray:
    shifted = row - row.max()
    return shifted - np.log(np.exp(shifted).sum())
