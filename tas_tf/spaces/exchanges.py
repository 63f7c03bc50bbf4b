"""Exchanges of one or two choices: they bring assignments into bands of cost, and improve them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tas_tf.spaces.cost import Budget
from tas_tf.spaces.terms import Assignment, Cost, Peak, Terms, padded

# Regrets that differ by less are equal.
_LEAST = 1e-9
_TINY = 1e-300
# Of pairs of changes whose peak has to be looked up, the best so many are looked up.
_MOST_LOOKED_UP = 256


@dataclasses.dataclass(frozen=True)
class Band:
    """Costs that an assignment may have.

    Args:
        cost: The cost.
        low: The smallest that is allowed.
        high: The largest that is allowed.
        name: What messages call it.
    """

    cost: Cost
    low: float
    high: float
    name: str = "a budget"

    @classmethod
    def of(cls, cost: Cost, budget: Budget) -> Band:
        """Returns the band of a budget; the cost is its kind's."""
        return cls(cost, budget.floor, budget.amount, str(budget))

    @property
    def is_peak(self) -> bool:
        """Whether the cost is the largest of several sums."""
        return isinstance(self.cost, Peak)

    def excess(self, values: np.ndarray) -> np.ndarray:
        """Returns by how much of `high` costs lie outside; zero inside."""
        outside = np.maximum(np.maximum(values - self.high, self.low - values), 0.0)
        return outside / max(abs(self.high), _TINY)

    def contains(self, assignment: Assignment) -> bool:
        """Whether the cost of an assignment lies in the band."""
        return bool(self.low <= self.cost.value(assignment) <= self.high)


class Exchanges:
    """Local search among assignments.

    Args:
        regrets: For every choice those of its candidates.
        bands: What their costs shall lie in.
    """

    def __init__(self, regrets: Sequence[np.ndarray], bands: Sequence[Band]):
        sizes = np.array([len(row) for row in regrets])
        self._size, self._most = len(sizes), int(sizes.max())
        self._regrets = np.array([padded(row, self._most) for row in regrets])
        self._last = sizes - 1
        self._bands = bands
        self._rows = np.arange(self._size)

    def regret(self, assignment: np.ndarray) -> float:
        """Returns the regret of an assignment."""
        return float(self._regrets[self._rows, assignment].sum())

    def excess(self, assignment: np.ndarray) -> float:
        """Returns how far outside the bands an assignment is; zero inside of all."""
        excesses = (band.excess(np.array(band.cost.value(assignment))) for band in self._bands)
        return float(sum(excesses, np.zeros(())))

    def repaired(self, assignment: np.ndarray) -> np.ndarray:
        """Returns an assignment that is in the bands, or nearer than which no exchange leads.

        Each step takes what costs the least regret for what it comes nearer, and of what leads
        inside the least regret.
        """
        excess = self.excess(assignment)
        while excess > 0:
            changed = self._nearer_by_one(assignment, excess)
            if changed is None:
                changed = self._by_two(assignment, excess)
            # Costs that are no integers are rounded, so that a step may lead nowhere.
            if changed is None or self.excess(changed) >= excess:
                break
            assignment, excess = changed, self.excess(changed)
        return assignment

    def improved(self, assignment: np.ndarray) -> np.ndarray:
        """Returns an assignment in the bands that no exchange of one or two choices improves."""
        while True:
            changed = self._better_by_one(assignment)
            if changed is None:
                changed = self._by_two(assignment, 0.0)
            if changed is None or self.excess(changed) > 0:
                return assignment
            assignment = changed

    def _nearer_by_one(self, assignment: np.ndarray, excess: float) -> np.ndarray | None:
        score = _score(self._steps(assignment), self._outside(assignment), excess)
        return self._changed(assignment, score.argmin()) if np.isfinite(score.min()) else None

    def _better_by_one(self, assignment: np.ndarray) -> np.ndarray | None:
        steps = self._steps(assignment)
        steps[self._outside(assignment) > 0] = np.inf
        return self._changed(assignment, steps.argmin()) if steps.min() < -_LEAST else None

    def _by_two(self, assignment: np.ndarray, excess: float) -> np.ndarray | None:
        """Returns what the best exchange of two choices leads to: in the bands, or nearer to them.

        Their joint change of cost differs from the sum of both where a term has both in its scope.
        """
        steps = self._steps(assignment).ravel()
        # One of two that improve together improves by itself.
        first = np.flatnonzero(np.isfinite(steps) if excess else steps < -_LEAST)
        joint = steps[first, None] + steps
        same = first[:, None] // self._most == np.arange(len(steps)) // self._most
        outside = np.where(same, np.inf, 0.0)
        for band in self._bands:
            if isinstance(band.cost, Terms):
                value = band.cost.value(assignment)
                single = (_single(band.cost, assignment) - value).ravel()
                both = value + single[first, None] + single
                both += _couplings(band.cost, assignment, first)
                outside += band.excess(both)
        if excess:
            score = _score(joint, outside, excess)
        else:
            score = np.where((outside > 0) | (joint >= -_LEAST), np.inf, joint)
        peaks = any(isinstance(band.cost, Peak) for band in self._bands)
        for pick in _best(score.ravel(), _MOST_LOOKED_UP if peaks else 1):
            row, other = divmod(int(pick), len(steps))
            changed = self._changed(self._changed(assignment, first[row]), other)
            if not peaks or self.excess(changed) < (excess or _TINY):
                return changed
        return None

    def _outside(self, assignment: np.ndarray) -> np.ndarray:
        """Returns how far outside the bands each change (choices, n) of one choice leads."""
        excesses = (band.excess(_single(band.cost, assignment)) for band in self._bands)
        return sum(excesses, np.zeros_like(self._regrets))

    def _steps(self, assignment: np.ndarray) -> np.ndarray:
        """Returns by how much each change (choices, n) of one choice adds to the regret."""
        steps = self._regrets - self._regrets[self._rows, assignment][:, None]
        steps[self._rows, assignment] = np.inf
        return steps

    def _changed(self, assignment: np.ndarray, pick: int | np.integer) -> np.ndarray:
        choice, candidate = divmod(int(pick), self._most)
        changed = assignment.copy()
        changed[choice] = min(candidate, self._last[choice])
        return changed


def _score(steps: np.ndarray, after: np.ndarray, excess: float) -> np.ndarray:
    """Returns regret where a step leads into the bands, else for what it comes nearer by."""
    inside = (after <= 0) & np.isfinite(steps)
    if inside.any():
        return np.where(inside, steps, np.inf)
    nearer = excess - after
    useful = nearer > 1e-12
    return np.where(useful, np.maximum(steps, 0.0) / np.where(useful, nearer, 1.0), np.inf)


def _best(score: np.ndarray, count: int) -> np.ndarray:
    """Returns where the smallest finite scores stand, smallest first."""
    if count == 1 or not len(score):
        found = score[:0].argsort() if not len(score) else np.array([score.argmin()])
    else:
        found = np.argpartition(score, min(count, len(score)) - 1)[:count]
        found = found[np.argsort(score[found], kind="stable")]
    return found[np.isfinite(score[found])]


def _single(cost: Cost, assignment: np.ndarray) -> np.ndarray:
    """Returns the costs (choices, n) of the assignments that differ in one choice."""
    if isinstance(cost, Terms):
        return cost.value(assignment) + _changes(cost, assignment)
    values = np.array([part.value(assignment) for part in cost.parts], np.float64)
    touched = np.zeros((len(cost.parts), len(assignment)), bool)
    result = np.full(
        (len(assignment), max(map(len, (c.candidates for c in cost.choices)))), -np.inf
    )
    for row, (part, value) in enumerate(zip(cost.parts, values, strict=True)):
        choices = sorted({choice for scope in part.tables for choice in scope})
        touched[row, choices] = True
        changed = value + _changes(part, assignment)[choices]
        result[choices] = np.maximum(result[choices], changed)
    others = np.where(touched, -np.inf, values[:, None]).max(axis=0)
    return np.maximum(result, others[:, None])


def _changes(terms: Terms, assignment: np.ndarray) -> np.ndarray:
    """Returns by how much each change (choices, n) of one choice adds to a sum."""
    most = max(terms.sizes)
    total = np.zeros((len(assignment), most))
    for stack in terms.stacks:
        picked = assignment[stack.scopes]
        for axis in range(picked.shape[1]):
            total_of = _slices(stack.tables, picked, (axis,))
            np.add.at(total, stack.scopes[:, axis], total_of)
    return total - total[np.arange(len(assignment)), assignment][:, None]


def _couplings(terms: Terms, assignment: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Returns by how much two changes together add more than each: (first, choices * n)."""
    size, most = len(assignment), max(terms.sizes)
    table = np.zeros((size, size, most, most))
    for stack in terms.stacks:
        picked = assignment[stack.scopes]
        rows = np.arange(len(picked))
        for a in range(picked.shape[1]):
            for b in range(a + 1, picked.shape[1]):
                both = _slices(stack.tables, picked, (a, b))
                one, other = both[rows, :, picked[:, b]], both[rows, picked[:, a]]
                now = both[rows, picked[:, a], picked[:, b]]
                both = both - one[:, :, None] - other[:, None] + now[:, None, None]
                np.add.at(table, (stack.scopes[:, a], stack.scopes[:, b]), both)
    choice, candidate = np.divmod(first, most)
    found = table[choice, :, candidate]
    found += table[:, choice, :, candidate]
    return found.reshape(len(first), size * most)


def _slices(tables: np.ndarray, picked: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Returns tables (terms, n, ..., n) along some axes, with what is picked along the others."""
    index = [slice(None) if a in axes else picked[:, a] for a in range(picked.shape[1])]
    if len(axes) == picked.shape[1]:
        return tables
    return tables[(np.arange(len(picked)), *index)]
