"""Candidates: the logits of a search space, and draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.errors import SpecError
from tas_tf.layers import sampling
from tas_tf.layers.sampling import Draw, Path
from tas_tf.runtime import environment
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.expected_cost import table_shapes
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace
from tas_tf.spaces.search_space import SearchSpace

DRAWS = ("shared", "own")
NORMALIZATIONS = ("private", "shared")


class Candidates(keras.layers.Layer):
    """The candidates of a space: one logit for each, and draws; a subclass gives the networks.

    Args:
        space: The search space.
        strategy: How candidates are drawn, see `sampling.draw`.
        draws: `shared` or `own`, see `Supernet`.
        dtype: Precision.
    """

    def __init__(
        self, space: SearchSpace | ModelSpace, strategy: str, draws: str, dtype: str, **known: Any
    ):
        environment.check_keras()
        super().__init__(name="supernet", autocast=False, dtype=dtype)
        options = {"strategy": (strategy, sampling.STRATEGIES), "draws": (draws, DRAWS), **known}
        for name, (value, values) in options.items():
            if value not in values:
                raise SpecError(f"{name}: expected one of {list(values)}. Received: {value!r}")
        self.space: Any = space
        self.strategy = strategy
        self.draws = draws

    def _add_logits(self) -> None:
        """One row per choice or stage, padded to the longest; padding is never looked at."""
        space = self.space
        self._width_sizes = np.array([len(c.candidates) for c in space.choices], np.int32)
        self._depth_sizes = np.array([len(depths) for depths in space.depths], np.int32)
        sizes = self._width_sizes, self._depth_sizes
        self.width_logits, self.depth_logits = (
            self.add_weight(name=name, shape=shape, initializer=sampling.InitialLogits(of_rows))
            for name, shape, of_rows in zip(
                ("width_logits", "depth_logits"), table_shapes(space), sizes, strict=True
            )
        )

    @property
    def architecture_variables(self) -> list[keras.Variable]:
        """The logits of widths and depths."""
        return [self.width_logits, self.depth_logits]

    def probabilities(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns softmax of the logits, zero where absent: float64 (choices, n) and (stages, m).

        Exact costs of large networks do not fit float32 (docs/method.md 5).
        """
        return tuple(
            sampling.softmax_of_rows(tf.cast(tf.convert_to_tensor(logits), tf.float64), sizes)
            for logits, sizes in (
                (self.width_logits, self._width_sizes),
                (self.depth_logits, self._depth_sizes),
            )
        )

    def draw(self, temperature: tf.Tensor, seed: tf.Tensor) -> Draw:
        """Draws candidates, see `sampling.draw`.

        Args:
            temperature: Temperature tau.
            seed: (2,) int32.
        """
        return sampling.draw(
            self.strategy,
            width_logits=tf.convert_to_tensor(self.width_logits),
            width_sizes=tf.constant(self._width_sizes),
            depth_logits=tf.convert_to_tensor(self.depth_logits),
            depth_sizes=tf.constant(self._depth_sizes),
            temperature=temperature,
            seed=self._own_seed(seed),
        )

    def uniform_path(self, seed: tf.Tensor) -> Path:
        """Draws one architecture of the space, see `sampling.uniform_path`.

        Args:
            seed: (2,) int32.
        """
        return sampling.uniform_path(
            tf.constant(self._width_sizes),
            tf.constant(self._depth_sizes),
            most_depths=self.depth_logits.shape[1],
            seed=self._own_seed(seed),
            dtype=tf.as_dtype(self.variable_dtype),
        )

    def _own_seed(self, seed: tf.Tensor) -> tf.Tensor:
        """Returns the seed of a draw: this replica's own, where each draws for itself."""
        return sampling.replica_seed(seed) if self.draws == "own" else seed

    def fixed_draw(self, architecture: Architecture | ModelArchitecture) -> Path:
        """Returns the draw under which the supernet is one architecture of its space.

        Args:
            architecture: An architecture of the space. Cut units stand at their smallest width, so
                that none of them widens the stage's output.
        """
        width_indices, depth_indices = self.space.indices(architecture)
        indices = np.array(width_indices, np.int32)[:, None]
        depth_weights = np.zeros(self.depth_logits.shape, self.variable_dtype)
        depth_weights[np.arange(len(depth_indices)), depth_indices] = 1
        return Path(
            tf.constant(indices),
            tf.ones(indices.shape, self.variable_dtype),
            tf.constant(depth_weights),
        )


def entropy(probabilities: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Returns each row's relative entropy, 1 for uniform, 0 for one-hot (and for a single entry).

    Args:
        probabilities: (rows, n), zeros where absent.
        sizes: (rows,), the number of candidates of each.
    """
    p = np.clip(probabilities, 1e-300, 1.0)
    return -(p * np.log(p)).sum(axis=1) / np.log(np.maximum(np.asarray(sizes), 2))
