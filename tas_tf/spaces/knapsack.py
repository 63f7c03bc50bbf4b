"""Levels of cost: an assignment is chosen anew, choice by choice, the best of every level kept.

This is the dynamic programme of a knapsack. It is exact, up to the levels' width, where choices add
to the cost independently; where terms couple them, what is yet to come counts as it stands in the
assignment that was given. So it finds exchanges of any number of choices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tas_tf.spaces.exchanges import Band
from tas_tf.spaces.terms import Terms

# Levels, and the share of the budget that they reach beyond the band on either side.
_LEVELS, _BEYOND = 1_000, 0.1
# Of what is reached, the best so many are looked at in all bands.
_MOST_LOOKED_UP = 256


class Knapsack:
    """Assignments chosen anew.

    Args:
        regrets: For every choice those of its candidates.
        bands: What their costs shall lie in; the first is of a sum, and has the levels.
        costs: Costs that are weighed: at one level, the least weighed sum is kept.
        weights: (costs,), regret for a unit of each.
    """

    def __init__(
        self,
        regrets: Sequence[np.ndarray],
        bands: Sequence[Band],
        costs: Sequence[Terms],
        weights: np.ndarray,
    ):
        self._regrets, self._bands, self._weights = regrets, bands, weights
        # For every choice and cost the tables over it, its own axis last, and the other choices.
        self._tables: list[list[list[tuple[tuple[int, ...], np.ndarray]]]] = [
            [[] for _ in costs] for _ in regrets
        ]
        for j, cost in enumerate(costs):
            for scope, table in cost.tables.items():
                for axis, choice in enumerate(scope):
                    others = (*scope[:axis], *scope[axis + 1 :])
                    moved = np.moveaxis(table.astype(np.float64), axis, -1)
                    self._tables[choice][j].append((others, moved))

    def chosen_anew(self, assignment: np.ndarray, forward: bool) -> np.ndarray | None:
        """Returns the best assignment in all bands that was reached, None if there is none.

        Args:
            assignment: What is chosen anew.
            forward: Whether the first choice comes first.
        """
        band = self._bands[0]
        reach = _BEYOND * abs(band.high)
        low, unit = band.low - reach, (band.high - band.low + 2 * reach) / _LEVELS
        states = assignment[None]
        spent = np.array([float(band.cost.value(assignment))])
        energy = np.zeros(1)
        order = range(len(assignment))
        for choice in order if forward else reversed(order):
            steps, changes = self._steps(choice, states)
            values = (energy[:, None] + steps).ravel()
            reached = (spent[:, None] + changes).ravel()
            levels = np.floor((reached - low) / max(unit, 1e-300))
            allowed = np.flatnonzero((levels >= 0) & (levels < _LEVELS))
            allowed = allowed[np.lexsort((values[allowed], levels[allowed]))]
            first = np.diff(levels[allowed], prepend=-1) > 0
            picks = allowed[first]
            if not len(picks):
                return None
            rows, candidates = np.divmod(picks, steps.shape[1])
            states = states[rows]
            states[:, choice] = candidates
            spent, energy = reached[picks], values[picks]
        return self._best(states)

    def _steps(self, choice: int, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns what candidates (states, n) add to the weighed sum, and to the first cost."""
        row = self._regrets[choice]
        added = np.zeros((len(self._weights), len(states), len(row)))
        for j, tables in enumerate(self._tables[choice]):
            for others, table in tables:
                added[j] += table[tuple(states[:, other] for other in others)]
        weighed = row + np.tensordot(self._weights, added, axes=1)
        at = np.arange(len(states)), states[:, choice]
        return weighed - weighed[at][:, None], added[0] - added[0][at][:, None]

    def _best(self, states: np.ndarray) -> np.ndarray | None:
        """Returns the assignment of the least regret in all bands."""
        regrets = sum(
            (row[states[:, choice]] for choice, row in enumerate(self._regrets)),
            np.zeros(len(states)),
        )
        first = self._bands[0]
        spent = first.cost.values(states)
        inside = np.flatnonzero((first.low <= spent) & (spent <= first.high))
        for row in inside[np.argsort(regrets[inside], kind="stable")][:_MOST_LOOKED_UP]:
            if all(band.contains(states[row]) for band in self._bands[1:]):
                return states[row]
        return None
