"""Derivation of an Architecture from logits: argmax, or most probable within a budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tas_tf.errors import BudgetError
from tas_tf.spaces import cost, dynamic_program, term_solver
from tas_tf.spaces.budget_solver import Programme
from tas_tf.spaces.cost import Budget, shown
from tas_tf.spaces.exchanges import Band
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.space_terms import cost_of

# What a derivation's architecture is.
MOST_PROBABLE = "most probable within the budget"
LEAST_LOSS = "least measured loss within the budget"
LEAST_EXPECTED_LOSS = "least expected loss within the budget"
# Those whose sums are of terms of minus the loss, in place of log-probabilities.
MEASURED = (LEAST_LOSS, LEAST_EXPECTED_LOSS)

Space = SearchSpace | ModelSpace

# Cost levels of the dynamic programme: more is finer, and takes time and memory in proportion.
LEVELS = 4_000
# Levels where a model is only drawn, or a curve.
COARSE_LEVELS = 500


@dataclasses.dataclass(frozen=True)
class Derivation:
    """What was derived, and how far it is from the plain argmax.

    Args:
        architecture: The architecture, an `Architecture` or a `ModelArchitecture` as the space is.
        in_band: Whether every cost lies in its budget's band.
        log_probability: Sum of the log-probabilities of all choices, widths of cut blocks at
            their most probable (so that without a budget the argmax is the best).
        optimality_gap: No architecture within the budget has a sum larger by more than this;
            None where that is not known (many costs and several budgets, or nothing in the band).
        argmax: The plain argmax architecture (the paper's).
        argmax_log_probability: Its sum.
        method: What the architecture is, which says what the sums are of: see `MEASURED`.
    """

    architecture: Any
    in_band: bool
    log_probability: float
    optimality_gap: float | None
    argmax: Any
    argmax_log_probability: float
    method: str = MOST_PROBABLE

    def summary(self, budgets: Sequence[Budget]) -> dict[str, Any]:
        """Returns what `architecture.json` and reports say about the derivation."""
        placed = cost.placed(self.architecture, budgets)
        for budget in budgets:
            placed[budget.kind.name]["argmax_cost"] = cost.cost(self.argmax, budget.kind)
        return {
            "method": self.method,
            "in_band": self.in_band,
            "is_argmax": self.architecture == self.argmax,
            "log_probability": self.log_probability,
            "optimality_gap": self.optimality_gap,
            "argmax_log_probability": self.argmax_log_probability,
            "budgets": placed,
        }


def argmax(space: Space, width_logits: np.ndarray, depth_logits: np.ndarray) -> Any:
    """Returns the most probable candidate everywhere, whatever it costs (the paper's derivation).

    Args:
        space: The search space.
        width_logits: (choices, max candidates); entries beyond a choice's candidates are ignored.
        depth_logits: (stages, max depths), likewise.
    """
    return space.architecture(*most_probable(space, width_logits, depth_logits))


def most_probable(
    space: Space, width_logits: np.ndarray, depth_logits: np.ndarray
) -> tuple[list[int], list[int]]:
    """Returns the most probable candidate of every choice and of every stage, as indices."""
    widths, depths = _regrets(space, width_logits, depth_logits)
    return [int(row.argmin()) for row in widths], [int(row.argmin()) for row in depths]


def probabilities(
    space: Space, width_logits: np.ndarray, depth_logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the softmax of widths (choices, n) and depths (stages, m), zero where absent."""
    rows = _rows(space, width_logits, depth_logits)
    padded = []
    for several in (rows[: len(space.choices)], rows[len(space.choices) :]):
        table = np.zeros((len(several), max(map(len, several), default=1)))
        for into, row in zip(table, several, strict=True):
            into[: len(row)] = np.exp(_log_softmax(row))
        padded.append(table)
    return padded[0], padded[1]


def derive(
    space: Space,
    width_logits: np.ndarray,
    depth_logits: np.ndarray,
    budgets: Sequence[Budget],
    levels: int = LEVELS,
) -> Derivation:
    """Returns the most probable architecture within the budgets' bands (docs/method.md 8).

    Where few different costs occur, the result is exact. Otherwise the best network of every level
    of cost is kept along the chain; of a model that was read, whose costs are no chain, duality
    bounds what exchanges find (`term_solver`). If nothing is found in the band, the nearest below
    stands, and `in_band` is false.

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
    budgets = sorted(budgets, key=lambda budget: budget.kind.peak)
    widths, depths = _regrets(space, width_logits, depth_logits)
    best_sum = sum(_log_softmax(row).max() for row in _rows(space, width_logits, depth_logits))
    if isinstance(space, ModelSpace):
        bands = [Band.of(cost_of(space, budget.kind), budget) for budget in budgets]
        found = term_solver.solve(widths + depths, bands)
        split = len(space.choices)
        indices = found.assignment[:split], found.assignment[split:]
        architecture: Any = space.architecture(*indices)
        regret, in_band, gap = found.regret, found.in_band, found.optimality_gap
    else:
        programme = Programme(space, widths, depths, budgets, levels)
        (regret, architecture), in_band, gap = programme.solve()
    return Derivation(
        architecture=architecture,
        in_band=in_band,
        log_probability=float(best_sum - regret),
        optimality_gap=gap,
        argmax=argmax(space, width_logits, depth_logits),
        argmax_log_probability=float(best_sum),
    )


def derive_each(
    space: Space, width_logits: np.ndarray, depth_logits: np.ndarray, budgets: Sequence[Budget]
) -> list[Any]:
    """Returns what `derive` finds for each of many budgets of one cost, sooner and less finely.

    Of a space that is built, one programme has the best of every level of a sum: budgets in whose
    bands there is none are left out. Elsewhere each is derived.

    Args:
        space: The search space.
        width_logits: (choices, max candidates).
        depth_logits: (stages, max depths).
        budgets: The budgets, ascending, each alone.
    """
    if isinstance(space, ModelSpace) or budgets[-1].kind.peak:
        logits = width_logits, depth_logits
        return [derive(space, *logits, [each], COARSE_LEVELS).architecture for each in budgets]
    widths, depths = _regrets(space, width_logits, depth_logits)
    return Programme(space, widths, depths, budgets[-1:], LEVELS).best_of_each(budgets)


def of_expected(
    space: Space, values: tuple[np.ndarray, np.ndarray], budgets: Sequence[Budget]
) -> Derivation:
    """Returns what `derive` finds where a search by measurement gives the values.

    Args:
        space: The search space.
        values: Terms of widths (choices, n) and of depths (stages, m), of minus the loss.
        budgets: The budgets.

    Raises:
        BudgetError: If every architecture of the space exceeds a budget.
    """
    derived = derive(space, *values, budgets)
    return dataclasses.replace(
        derived,
        log_probability=derived.log_probability - derived.argmax_log_probability,
        argmax_log_probability=0.0,
        method=LEAST_EXPECTED_LOSS,
    )


def of_measured(
    space: Space,
    values: tuple[np.ndarray, np.ndarray],
    budgets: Sequence[Budget],
    architecture: Any,
) -> Derivation:
    """Returns the derivation of an architecture that was chosen by its measured loss.

    Args:
        space: The search space.
        values: Terms of widths (choices, n) and of depths (stages, m), of minus the loss.
        budgets: The budgets.
        architecture: The architecture, an `Architecture` or a `ModelArchitecture`.
    """
    widths, depths = _regrets(space, *values)
    width_indices, depth_indices = space.indices(architecture)
    regret = sum(
        row[index]
        for row, index, places in zip(widths, width_indices, space.places, strict=True)
        if not places or any(depth_indices[s] >= first for s, first in places)
    )
    regret += sum(row[index] for row, index in zip(depths, depth_indices, strict=True))
    return Derivation(
        architecture=architecture,
        in_band=all(budget.contains(cost.cost(architecture, budget.kind)) for budget in budgets),
        log_probability=-float(regret),
        optimality_gap=None,
        argmax=argmax(space, *values),
        argmax_log_probability=0.0,
        method=LEAST_LOSS,
    )


def reachable(space: Space, kind: cost.CostKind) -> tuple[float, float]:
    """Returns the smallest and the largest cost in a space, or bounds that are close to them."""
    if isinstance(space, ModelSpace):
        return term_solver.reachable(cost_of(space, kind))
    return dynamic_program.reachable(space, kind)


def check_reachable(space: Space, budgets: Sequence[Budget]) -> None:
    """Refuses a budget whose band no architecture of the space can meet.

    Raises:
        BudgetError: With the reachable range.
    """
    # The narrowest network and the widest nearly always show at once that a budget can be met.
    ends = [
        space.architecture([at] * len(space.choices), [at] * len(space.depths)) for at in (0, -1)
    ]
    for budget in budgets:
        low, high = (cost.cost(each, budget.kind) for each in ends)
        if low <= budget.amount and budget.floor <= high:
            continue
        smallest, largest = reachable(space, budget.kind)
        if smallest > budget.amount or largest < budget.floor:
            name = budget.kind.name
            raise BudgetError(
                f"no architecture of the space has {budget}. Reachable are "
                f"{shown(smallest, name)} to {shown(largest, name)} {name}, that is "
                f"{smallest / budget.unpruned:.3f} to {largest / budget.unpruned:.3f} of the "
                "unpruned network",
                field="target",
            )


def _regrets(
    space: Space, width_logits: np.ndarray, depth_logits: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns how much log-probability every candidate loses against its choice's best."""
    regrets = [row.max() - row for row in _rows(space, width_logits, depth_logits)]
    return regrets[: len(space.choices)], regrets[len(space.choices) :]


def _rows(space: Space, width_logits: np.ndarray, depth_logits: np.ndarray) -> list[np.ndarray]:
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
