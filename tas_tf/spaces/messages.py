"""Messages between choices: a lower bound of a sum of terms, and assignments that come close.

An energy `sum_i u_i[x_i] + sum_f T_f[x_f]` does not change when a vector over the candidates of a
choice is taken from a table and added to `u`. After any such moves `sum_i min u_i + sum_f min T_f`
is a lower bound. A sweep goes through the choices in order: it moves to each what the tables shared
with earlier choices allow, then shares the sum among the tables of later ones. This is TRW-S
(Kolmogorov, "Convergent tree-reweighted message passing for energy minimization", 2006), and SRMP
(Kolmogorov, "A new look at reweighted message passing", 2015) for tables over more than two. On
chains one sweep makes the bound the minimum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tas_tf.spaces.terms import Terms, padded

# Where a choice stands in tables: (stack, axis, rows of the stack).
_Place = tuple[int, int, np.ndarray | slice]


@dataclasses.dataclass(frozen=True)
class _Step:
    """What a sweep does at a choice.

    Args:
        choice: The choice.
        collect: Tables shared with choices that the sweep has passed.
        give: Tables shared with choices to come.
        share: Share of the choice's sum that each table to come is given.
    """

    choice: int
    collect: tuple[_Place, ...]
    give: tuple[_Place, ...]
    share: float


class Messages:
    """A batch of energies over the same terms, each with weights of its own, as they are moved.

    Args:
        regrets: For every choice those of its candidates.
        costs: Costs that weights multiply.
    """

    def __init__(self, regrets: Sequence[np.ndarray], costs: Sequence[Terms]):
        self.sizes = np.array([len(row) for row in regrets])
        self.most = int(self.sizes.max())
        self.constants = np.array([cost.constant for cost in costs], np.float64)
        self._regrets = np.array([padded(row, self.most) for row in regrets])
        self._single = np.zeros((len(costs), *self._regrets.shape))
        self._scopes: list[np.ndarray] = []
        self._tables: list[np.ndarray] = []  # (terms, costs, n, ..., n)
        for size in sorted({len(scope) for cost in costs for scope in cost.tables}):
            scopes = sorted({s for cost in costs for s in cost.tables if len(s) == size})
            row_of = {scope: row for row, scope in enumerate(scopes)}
            tables = np.zeros((len(scopes), len(costs), *([self.most] * size)))
            for j, cost in enumerate(costs):
                for scope, table in cost.tables.items():
                    if len(scope) == size:
                        tables[row_of[scope], j] = padded(table, self.most)
            if size == 1:
                self._single[:, [choice for (choice,) in scopes]] = np.moveaxis(tables, 0, 1)
            else:
                self._scopes.append(np.array(scopes))
                self._tables.append(tables)
        self._steps = {forward: self._plan(forward) for forward in (True, False)}

    def start(self, weights: np.ndarray) -> None:
        """Begins anew with energies of weights (batch, costs)."""
        self.weights = weights
        self.sums = self._regrets[:, None] + np.einsum("bj,jik->ibk", weights, self._single)
        self.rest = [np.einsum("bj,fj...->fb...", weights, tables) for tables in self._tables]

    def go_on(self, weights: np.ndarray, member: int) -> None:
        """Takes other weights (batch, costs), with the moves of one member of the batch so far."""
        change = weights - self.weights[member]
        self.sums = self.sums[:, [member]] + np.einsum("bj,jik->ibk", change, self._single)
        self.rest = [
            rest[:, [member]] + np.einsum("bj,fj...->fb...", change, tables)
            for rest, tables in zip(self.rest, self._tables, strict=True)
        ]
        self.weights = weights

    def bounds(self) -> np.ndarray:
        """Returns what the minima of the energies (batch,) do not fall below."""
        total = self.weights @ self.constants + self.sums.min(axis=2).sum(axis=0)
        for rest in self.rest:
            total += rest.min(axis=tuple(range(2, rest.ndim))).sum(axis=0)
        return total

    def sweep(self, forward: bool) -> None:
        """Moves regrets and costs along the choices, or back."""
        for step in self._steps[forward]:
            sums = self.sums[step.choice]
            for stack, axis, rows in step.collect:
                rest = self.rest[stack][rows]
                axes = tuple(a for a in range(2, rest.ndim) if a != axis + 2)
                least = rest.min(axis=axes, keepdims=True)
                self.rest[stack][rows] = rest - least
                sums += least.sum(axis=0).reshape(sums.shape)
            if step.give:
                part = step.share * sums
                count = 0
                for stack, axis, rows in step.give:
                    shape = [1] * self.rest[stack].ndim
                    shape[1], shape[axis + 2] = part.shape
                    self.rest[stack][rows] += part.reshape(shape)
                    count += len(self._scopes[stack][rows])
                sums -= count * part

    def decode(self, forward: bool) -> np.ndarray:
        """Returns assignments (batch, choices), each choice at its best given those before it."""
        batch = len(self.weights)
        labels = np.zeros((len(self.sizes), batch), np.intp)
        for step in self._steps[forward]:
            score = self.sums[step.choice].copy()
            for stack, axis, rows in step.collect:
                rest, scopes = self.rest[stack][rows], self._scopes[stack][rows]
                for other in range(scopes.shape[1]):
                    if other == axis:
                        continue
                    if (other < axis) == forward:
                        shape = [1] * rest.ndim
                        shape[:2] = len(scopes), batch
                        index = labels[scopes[:, other]].reshape(shape)
                        rest = np.take_along_axis(rest, index, axis=2 + other)
                    else:
                        rest = rest.min(axis=2 + other, keepdims=True)
                score += rest.sum(axis=0).reshape(score.shape)
            labels[step.choice] = score.argmin(axis=1)
        return labels.T

    def _plan(self, forward: bool) -> list[_Step]:
        places: list[list[_Place]] = [[] for _ in self.sizes]
        for stack, scopes in enumerate(self._scopes):
            for axis in range(scopes.shape[1]):
                for choice in np.unique(scopes[:, axis]):
                    rows = np.flatnonzero(scopes[:, axis] == choice)
                    # A slice is worked on in place.
                    near = rows[-1] - rows[0] + 1 == len(rows)
                    index = slice(rows[0], rows[-1] + 1) if near else rows
                    places[choice].append((stack, axis, index))
        order = range(len(self.sizes)) if forward else reversed(range(len(self.sizes)))
        return [self._step(choice, places[choice], forward) for choice in order]

    def _step(self, choice: int, places: Sequence[_Place], forward: bool) -> _Step:
        after, before = [], []
        for place in places:
            if place[1] > 0:
                after.append(place)
            if place[1] < self._scopes[place[0]].shape[1] - 1:
                before.append(place)
        # How many tables reach back, and how many ahead.
        counts = [
            sum(len(self._scopes[stack][rows]) for stack, _, rows in several)
            for several in (after, before)
        ]
        collect, give = (after, before) if forward else (before, after)
        return _Step(choice, tuple(collect), tuple(give), 1 / max(*counts, 1))

    def bounds_given(self, choice: int, member: int) -> np.ndarray:
        """Returns what a member's energy does not fall below with each candidate of a choice."""
        sums = self.sums[choice, member]
        change = sums - sums.min()
        for stack, scopes in enumerate(self._scopes):
            for axis in range(scopes.shape[1]):
                rest = self.rest[stack][scopes[:, axis] == choice, member]
                axes = tuple(a for a in range(1, rest.ndim) if a != axis + 1)
                least = rest.min(axis=axes)
                change = change + (least - least.min(axis=1, keepdims=True)).sum(axis=0)
        return (self.bounds()[member] + change)[: self.sizes[choice]]
