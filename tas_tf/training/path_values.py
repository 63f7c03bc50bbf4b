"""What paths are worth: their losses, corrected for capacity (docs/method.md 13)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tas_tf.spaces import separable
from tas_tf.spaces.cost import cost
from tas_tf.spaces.separable import Indices, Separable, Space
from tas_tf.training.scores import Score

# Random paths whose capacity is fitted.
_KNOWN = 1000


def random_path(space: Space, seed: int, number: int) -> Indices:
    """Returns candidates of a random path, all equally probable.

    Args:
        space: The search space.
        seed: Seed of the search.
        number: Number of the path.
    """
    random = np.random.default_rng([seed, 1, number])
    widths = (int(random.integers(len(choice.candidates))) for choice in space.choices)
    depths = (int(random.integers(len(candidates))) for candidates in space.depths)
    return tuple(widths), tuple(depths)


class PathValues:
    """What paths are worth: `-loss + deviation * (capacity * z_1 + streams * z_2)`.

    Paths share their weights and train for few steps: losses rank networks of many parameters too
    low, and those of wide residual streams. `z_1` is the logarithm of the parameters and `z_2` the
    mean logarithm of the shares of the streams' widths, both standardized over random paths;
    `deviation` is that of the random paths' losses (benchmarks/README.md, Ranking).

    Args:
        space: The search space.
        random: Scores of random paths.
        capacity: The weight of `z_1`.
        streams: The weight of `z_2`.
    """

    def __init__(self, space: Space, random: Sequence[Score], capacity: float, streams: float):
        self._space = space
        known = np.array([self._logarithms(score.indices) for score in random])
        deviation = float(np.std([score.loss for score in random]))
        self._means = known.mean(axis=0)
        weights = np.array([capacity, streams])
        self._slopes = weights * deviation / np.maximum(known.std(axis=0), 1e-12)

    def of(self, indices: Indices, loss: float) -> float:
        """Returns the value of a path of this loss."""
        return -loss + self._capacity(indices)

    def fitted(self, scores: Sequence[Score]) -> Separable:
        """Returns the separable model of the values of scores.

        Losses and capacity are fitted apart: the capacity is known exactly, of any paths.
        """
        of_losses = self._of_losses(scores)
        return dataclasses.replace(of_losses, mean=of_losses.mean + self._capacity_terms)

    def predicted(self, scores: Sequence[Score], architectures: Sequence[Indices]) -> np.ndarray:
        """Returns the values (n,) that scores make expect of architectures, capacity exact."""
        expected = self._of_losses(scores).predict(architectures)
        return expected + np.array([self._capacity(indices) for indices in architectures])

    @functools.cached_property
    def _capacity_terms(self) -> np.ndarray:
        """The coefficients (features,) of the capacity as a separable model."""
        known = [random_path(self._space, 0, number) for number in range(_KNOWN)]
        capacities = np.array([self._capacity(indices) for indices in known])
        return separable.fit(self._space, known, capacities).mean

    def _of_losses(self, scores: Sequence[Score]) -> Separable:
        negative = np.array([-score.loss for score in scores])
        return separable.fit(self._space, [score.indices for score in scores], negative)

    def _capacity(self, indices: Indices) -> float:
        return float(self._slopes @ (self._logarithms(indices) - self._means))

    def _logarithms(self, indices: Indices) -> np.ndarray:
        """Returns those of the parameters, and of the mean share of residual streams."""
        architecture: Any = self._space.architecture(*indices)
        parameters = cost(architecture, "parameters")
        streams = self._space.stream_shares(architecture) or [1.0]
        return np.array([np.log(parameters), np.log(streams).mean()])
