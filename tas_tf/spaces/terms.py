"""Terms: a cost or a score as a sum of tables, each over a few of the choices of a search space.

`cost(x) = c + sum_f T_f[x_f]`: x has one candidate for each choice, and x_f those of the choices in
the scope of term f. Nothing is said about the order of layers, so that chains of stages, networks
that concatenate, and widths that many layers share are all alike. A peak is the largest of several
such sums.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Scope = tuple[int, ...]  # indices of choices, ascending
Assignment = Sequence[int] | np.ndarray  # for every choice the index of its candidate


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is decided by itself: one candidate of several.

    Args:
        name: Its name.
        candidates: The widths of a group, or the depths of a stage, in ascending order.
        decides: Whether it decides which layers exist, as a depth does: many terms depend on it.
    """

    name: str
    candidates: tuple[int, ...]
    decides: bool = False


@dataclasses.dataclass(frozen=True)
class Stack:
    """Tables over equally many choices as one array.

    Args:
        scopes: (terms, r), indices of choices, ascending.
        tables: (terms, n, ..., n), with r axes of n candidates. A choice of fewer repeats its last.
    """

    scopes: np.ndarray
    tables: np.ndarray


class Terms:
    """A sum of tables.

    Tables of one scope are added up; a choice that makes no difference leaves the scope. Integers
    stay integers.

    Args:
        choices: The choices.
        terms: Scopes and tables: for every choice in the scope an axis of its candidates. A choice
            may stand in a scope twice; then the table's diagonal counts.

    Raises:
        ValueError: If a table has another shape than its scope.
    """

    def __init__(
        self, choices: Sequence[Choice], terms: Iterable[tuple[Sequence[int], np.ndarray]]
    ):
        self.choices = tuple(choices)
        self.sizes = tuple(len(choice.candidates) for choice in choices)
        summed: dict[Scope, np.ndarray] = {}
        for scope, table in terms:
            _add(summed, *self._ordered(scope, np.asarray(table)))
        self.tables: dict[Scope, np.ndarray] = {}
        while summed:
            largest = max(summed, key=len)  # what becomes smaller is added to what follows
            reduced, table = _without_idle(largest, summed.pop(largest))
            _add(self.tables if reduced == largest else summed, reduced, table)
        self.constant: int | float = self.tables.pop(()).item() if () in self.tables else 0
        self.tables = {scope: self.tables[scope] for scope in sorted(self.tables)}

    def _ordered(self, scope: Sequence[int], table: np.ndarray) -> tuple[Scope, np.ndarray]:
        expected = tuple(self.sizes[choice] for choice in scope)
        if table.shape != expected:
            names = ", ".join(self.choices[choice].name for choice in scope)
            raise ValueError(f"table of {names}: expected {expected}. Received: {table.shape}")
        distinct = sorted(set(scope))
        axes = [distinct.index(choice) for choice in scope]
        return tuple(distinct), np.einsum(table, axes, list(range(len(distinct))))

    def value(self, assignment: Assignment) -> int | float:
        """Returns the sum for one candidate of every choice, exactly where tables are integers."""
        picked = (
            table[tuple(assignment[choice] for choice in scope)].item()
            for scope, table in self.tables.items()
        )
        return sum(picked, self.constant)

    def values(self, assignments: np.ndarray) -> np.ndarray:
        """Returns the sums (n,) for assignments (n, choices)."""
        total = np.full(len(assignments), self.constant)
        for scope, table in self.tables.items():
            total = total + table[tuple(assignments[:, choice] for choice in scope)]
        return total

    def expected(self, probabilities: Sequence[np.ndarray]) -> float:
        """Returns the expectation if every choice is drawn by itself; it is exact.

        `E cost = c + sum_f sum_x T_f[x] prod_(i in f) p_i[x_i]`, by linearity and independence.

        Args:
            probabilities: For every choice those of its candidates.
        """
        total = float(self.constant)
        for scope, table in self.tables.items():
            for choice in scope:
                table = np.tensordot(probabilities[choice], table, axes=(0, 0))
            total += float(table)
        return total

    def given(self, fixed: Mapping[int, int]) -> Terms:
        """Returns the sum as a function of the other choices.

        Args:
            fixed: Choices and their candidates.
        """
        terms: list[tuple[Scope, np.ndarray]] = [((), np.asarray(self.constant))]
        for scope, table in self.tables.items():
            index = tuple(fixed.get(choice, slice(None)) for choice in scope)
            terms.append((tuple(c for c in scope if c not in fixed), table[index]))
        return Terms(self.choices, terms)

    @functools.cached_property
    def stacks(self) -> tuple[Stack, ...]:
        """The tables by the size of their scopes, smallest first, as float64."""
        most = max(self.sizes, default=1)
        stacks = []
        for size in sorted({len(scope) for scope in self.tables}):
            scopes = [scope for scope in self.tables if len(scope) == size]
            tables = [padded(self.tables[scope], most) for scope in scopes]
            stacks.append(Stack(np.array(scopes), np.array(tables)))
        return tuple(stacks)

    def limits(self) -> tuple[float, float]:
        """Returns costs that no assignment falls below or exceeds: every table by itself."""
        low = sum((table.min().item() for table in self.tables.values()), self.constant)
        high = sum((table.max().item() for table in self.tables.values()), self.constant)
        return low, high


@dataclasses.dataclass(frozen=True)
class Peak:
    """The largest of several sums, such as the memory that the steps of a network need.

    Args:
        parts: The sums, all of the same choices; at least one.
    """

    parts: tuple[Terms, ...]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices."""
        return self.parts[0].choices

    def value(self, assignment: Assignment) -> int | float:
        """Returns the peak for one candidate of every choice."""
        return max(part.value(assignment) for part in self.parts)

    def values(self, assignments: np.ndarray) -> np.ndarray:
        """Returns the peaks (n,) for assignments (n, choices)."""
        return np.max([part.values(assignments) for part in self.parts], axis=0)


Cost = Terms | Peak


def padded(table: np.ndarray, most: int) -> np.ndarray:
    """Returns a float64 table with so many candidates on each axis; the last one is repeated.

    What is repeated changes neither minima nor which candidate comes first among the best.
    """
    for axis, size in enumerate(table.shape):
        table = table.take(np.minimum(np.arange(most), size - 1), axis=axis)
    return table.astype(np.float64)


def _add(tables: dict[Scope, np.ndarray], scope: Scope, table: np.ndarray) -> None:
    tables[scope] = tables[scope] + table if scope in tables else table


def _without_idle(scope: Scope, table: np.ndarray) -> tuple[Scope, np.ndarray]:
    """Leaves out the choices along which a table is constant."""
    kept: list[int] = []
    for choice in scope:
        axis = len(kept)
        first = table.take([0], axis=axis)
        if (table == first).all():
            table = first.squeeze(axis)
        else:
            kept.append(choice)
    return tuple(kept), table
