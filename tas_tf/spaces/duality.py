"""Duality: a regret that nothing whose costs lie in bands falls below, and promising assignments.

For weights w of costs c in bands [l, h], `min_x regret + w c - max(w, 0) h - min(w, 0) l` is such a
regret. Messages bound the minimum for many weights at once, and what they decode at weights around
the best comes close to the bands.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from tas_tf.spaces.exchanges import Band
from tas_tf.spaces.messages import Messages
from tas_tf.spaces.terms import Peak, Terms

# Weights are sinh(u) of this share of a typical regret: they span decades, and both signs.
_LEAST_WEIGHT = 1e-2
_FURTHEST, _FIRST_WEIGHTS, _NEXT_WEIGHTS, _ROUNDS = 15.0, 13, 7, 5
_SWEEPS = 6  # for each batch of weights
_MOST_SWEEPS, _RISE = 40, 0.01  # pairs of sweeps at the end, and the rise that is worth another
_TINY = 1e-300


class Dual:
    """The Lagrangian dual of a problem, with some choices fixed.

    Args:
        regrets: For every choice those of its candidates.
        bands: The bands. Sums get weights; what exceeds a peak by itself is made too dear.
        fixed: Choices and their candidates.
    """

    def __init__(
        self,
        regrets: Sequence[np.ndarray],
        bands: Sequence[Band],
        fixed: Mapping[int, int] = MappingProxyType({}),
    ):
        self._sums = [band for band in bands if isinstance(band.cost, Terms)]
        self.costs = [band.cost for band in bands if isinstance(band.cost, Terms)]
        self.costs += [
            _forbidden(band.cost, band.high) for band in bands if isinstance(band.cost, Peak)
        ]
        self._limits = np.array([(band.low, band.high) for band in self._sums]).reshape(-1, 2)
        self._scale = np.maximum(np.abs(self._limits[:, 1]), _TINY)
        self._unit = _LEAST_WEIGHT * (float(np.mean([row.max() for row in regrets])) or 1.0)
        self._dear = 1.0 + sum(float(row.max()) for row in regrets)
        self._messages = Messages(
            [_held(row, fixed.get(choice)) for choice, row in enumerate(regrets)],
            [cost.given(fixed) for cost in self.costs],
        )
        self._last = np.array([len(row) for row in regrets]) - 1
        self._member = 0  # of the batch, whose moves go on
        self.position = np.zeros(len(self._sums))
        self._messages.start(self._weights(self.position[None]))
        self.bound = -np.inf
        self.found: dict[tuple[int, ...], np.ndarray] = {}

    @property
    def weights(self) -> np.ndarray:
        """The best weights (costs,), in regret for a unit of each of `costs`."""
        return self._weights(self.position[None])[0]

    @property
    def steepness(self) -> float:
        """The largest weight: regret for the whole of a budget."""
        return float(self._unit * np.sinh(np.abs(self.position).max(initial=1.0)))

    def climb(self) -> None:
        """Finds the best weights, along one cost after the other, in ever smaller steps."""
        labels = self._look(self.position[None])[0]
        ahead = np.linspace(0, _FURTHEST, _FIRST_WEIGHTS)
        for j, band in enumerate(self._sums):
            if not band.contains(labels):
                self._line(j, ahead if band.cost.value(labels) > band.high else -ahead)
        step = _FURTHEST / (_FIRST_WEIGHTS - 1)
        for _ in range(_ROUNDS):
            for j in range(len(self._sums)):
                self._line(j, self.position[j] + step * np.linspace(-1, 1, _NEXT_WEIGHTS))
            step *= 2 / (_NEXT_WEIGHTS - 1)
        self._settle()

    def follow(self, position: np.ndarray, rival: float) -> None:
        """Looks near weights that suit other fixed choices, unless the bound reaches a rival."""
        self.position = position
        self._look(position[None])
        for step in (0.4, 0.1):
            if self.bound >= rival:
                return
            for j in range(len(self._sums)):
                self._line(j, self.position[j] + step * np.linspace(-1, 1, _NEXT_WEIGHTS))

    def bounds_given(self, choice: int) -> np.ndarray:
        """Returns regrets that nothing in the bands falls below, for each candidate of a choice."""
        moved = self._messages.bounds_given(choice, self._member)
        return moved - self._spared(self.position[None])[0]

    def _line(self, j: int, values: np.ndarray) -> None:
        positions = np.tile(self.position, (len(values), 1))
        positions[:, j] = np.clip(values, -_FURTHEST, _FURTHEST)
        self._look(positions)

    def _look(self, positions: np.ndarray) -> np.ndarray:
        """Bounds by weights (batch, costs); keeps the best, and what all of them decode."""
        self._messages.go_on(self._weights(positions), self._member)
        for forward in itertools.islice(itertools.cycle((True, False)), _SWEEPS):
            self._messages.sweep(forward)
        decoded = [self._messages.decode(forward) for forward in (True, False)]
        self._keep(positions)
        labels = np.minimum(np.concatenate(decoded), self._last)
        self.found.update((tuple(row.tolist()), row) for row in labels)
        return labels

    def _keep(self, positions: np.ndarray) -> None:
        bounds = self._messages.bounds() - self._spared(positions)
        self._member = int(bounds.argmax())
        self.position = positions[self._member]
        self.bound = max(self.bound, float(bounds[self._member]))

    def _settle(self) -> None:
        """Sweeps with the best weights as long as the bound rises."""
        self._messages.go_on(self._weights(self.position[None]), self._member)
        self._member = 0
        for _ in range(_MOST_SWEEPS):
            before = self.bound
            self._messages.sweep(True)
            self._messages.sweep(False)
            self._keep(self.position[None])
            if self.bound - before < _RISE * self._unit:
                return

    def _weights(self, positions: np.ndarray) -> np.ndarray:
        """Returns the weights (batch, costs); those of what peaks forbid are always the same."""
        weights = np.full((len(positions), len(self.costs)), self._dear)
        weights[:, : len(self._sums)] = self._unit * np.sinh(positions) / self._scale
        return weights

    def _spared(self, positions: np.ndarray) -> np.ndarray:
        """Returns what is subtracted for the limits: (batch,)."""
        weights = self._weights(positions)[:, : len(self._sums)]
        low, high = self._limits.T
        return (np.maximum(weights, 0) * high + np.minimum(weights, 0) * low).sum(axis=1)


def _held(row: np.ndarray, candidate: int | None) -> np.ndarray:
    """Returns regrets that leave a choice no other candidate."""
    return row if candidate is None else np.where(np.arange(len(row)) == candidate, row, np.inf)


def _forbidden(cost: Peak, high: float) -> Terms:
    """Returns terms that are one where a table exceeds a peak by itself, however small the rest."""
    terms = []
    for part in cost.parts:
        least = part.limits()[0]
        for scope, table in part.tables.items():
            terms.append((scope, (table + (least - table.min()) > high).astype(np.int64)))
    return Terms(cost.choices, terms)
