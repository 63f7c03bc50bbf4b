"""Draws of candidates (docs/method.md 2).

A draw is a function of its seed alone, so that a resumed run repeats it and every replica makes
the same one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

STRATEGIES = ("two", "gumbel", "softmax", "straight_through")

# Logits of candidates that do not exist: far below any other, yet finite, so that no gradient
# becomes NaN.
_ABSENT = -1e9

# Named, for by default XLA and other devices take other algorithms: other draws for one seed.
_RANDOM = "philox"


class InitialLogits(keras.initializers.Initializer):
    """N(0, 0.01^2) for candidates that exist, zero for padding."""

    def __init__(self, sizes: np.ndarray):
        self.sizes = sizes

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        values = keras.random.normal(shape, stddev=0.01, dtype=dtype)
        return values * tf.sequence_mask(self.sizes, shape[1], dtype=values.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"sizes": self.sizes.tolist()}


class Draw(NamedTuple):
    """What a forward pass of the supernet is told.

    Args:
        indices: (choices, k) int32, the drawn candidates of every width choice.
        weights: (choices, k), their weights; gradients reach the logits through these.
        depth_weights: (stages, max depths), weights of the depth candidates. What has weight zero
            is neither computed nor are its averages moved.
    """

    indices: tf.Tensor
    weights: tf.Tensor
    depth_weights: tf.Tensor


class Path(Draw):
    """The draw of a single network: one candidate of every choice and one depth of every stage.

    All weights are one, and no gradient of a weight is wanted.
    """


def draw(
    strategy: str,
    width_logits: tf.Tensor,
    width_sizes: tf.Tensor,
    depth_logits: tf.Tensor,
    depth_sizes: tf.Tensor,
    temperature: tf.Tensor,
    seed: tf.Tensor,
) -> Draw:
    """Draws candidates for every width choice and weights for every depth.

    Args:
        strategy: `two` (TAS), `gumbel` (all candidates with Gumbel weights), `softmax` (all, plain
            softmax, as DARTS) or `straight_through` (one, straight-through Gumbel, as GDAS).
        width_logits: (choices, n).
        width_sizes: (choices,) int32, the number of candidates of each.
        depth_logits: (stages, m).
        depth_sizes: (stages,) int32.
        temperature: Temperature tau, a scalar.
        seed: (2,) int32.
    """
    seeds = [tf.random.experimental.stateless_fold_in(seed, n, alg=_RANDOM) for n in range(3)]
    depth = relaxed_logits(strategy, depth_logits, depth_sizes, temperature, seeds[0])
    width = relaxed_logits(strategy, width_logits, width_sizes, temperature, seeds[1])
    if strategy == "straight_through":
        one, indices = _straight_through(width)
        return Draw(
            indices[:, None],
            tf.gather(one, indices, batch_dims=1)[:, None],
            _straight_through(depth)[0],
        )
    depth_weights = _significant(tf.nn.softmax(depth))
    if strategy != "two":
        count = width.shape[1]
        indices = tf.minimum(tf.range(count)[None, :], width_sizes[:, None] - 1)
        return Draw(indices, _significant(tf.nn.softmax(width)), depth_weights)
    indices = draw_pairs(width, width_sizes, seeds[2])
    weights = _significant(tf.nn.softmax(tf.gather(width, indices, batch_dims=1)))
    indices = tf.minimum(indices, width_sizes[:, None] - 1)
    return Draw(indices, weights, depth_weights)


def uniform_path(
    width_sizes: tf.Tensor,
    depth_sizes: tf.Tensor,
    most_depths: int,
    seed: tf.Tensor,
    dtype: tf.DType = tf.float32,
) -> Path:
    """Draws one candidate of every choice and one depth of every stage, all equally probable.

    Args:
        width_sizes: (choices,) int32, the number of candidates of each.
        depth_sizes: (stages,) int32.
        most_depths: Entries of the depth weights.
        seed: (2,) int32.
        dtype: Type of the weights.
    """
    indices = []
    for number, sizes in enumerate((width_sizes, depth_sizes)):
        of_sizes = tf.random.experimental.stateless_fold_in(seed, number, alg=_RANDOM)
        uniform = tf.random.stateless_uniform(sizes.shape, of_sizes, alg=_RANDOM)
        drawn = tf.cast(uniform * tf.cast(sizes, uniform.dtype), tf.int32)
        indices.append(tf.minimum(drawn, sizes - 1))  # a product may round up to the size
    widths, depths = indices
    return Path(
        widths[:, None],
        tf.ones([*widths.shape, 1], dtype),
        tf.one_hot(depths, most_depths, dtype=dtype),
    )


def relaxed_logits(
    strategy: str,
    logits: tf.Tensor,
    sizes: tf.Tensor,
    temperature: tf.Tensor,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Returns `l = (log softmax(logits) + o) / tau`, `o` Gumbel noise; for `softmax` the logits.

    Args:
        strategy: See `draw`.
        logits: (rows, n).
        sizes: (rows,) int32; entries beyond are absent.
        temperature: Temperature tau.
        seed: (2,) int32.
    """
    log_p = tf.nn.log_softmax(_without_absent(logits, sizes))
    if strategy == "softmax":
        return _without_absent(log_p, sizes)
    noisy = (log_p + _gumbel(tf.shape(logits), seed, logits.dtype)) / tf.cast(
        temperature, logits.dtype
    )
    return _without_absent(noisy, sizes)


def softmax_of_rows(logits: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """Returns the softmax of rows (rows, n) of so many candidates, zero where absent."""
    present = tf.sequence_mask(sizes, logits.shape[1])
    return tf.where(present, tf.nn.softmax(_without_absent(logits, sizes)), 0.0)


def _without_absent(values: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """Returns rows (rows, n) of logits, far below any other where a candidate is absent."""
    present = tf.sequence_mask(sizes, values.shape[1])
    return tf.where(present, values, tf.constant(_ABSENT, values.dtype))


def draw_pairs(relaxed: tf.Tensor, sizes: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws two distinct candidates of each row without replacement, by `softmax + 1e-7`.

    The two largest of `log p + Gumbel noise` are distributed so.

    Args:
        relaxed: (rows, n).
        sizes: (rows,) int32.
        seed: (2,) int32.

    Returns:
        (rows, 2) int32, the first drawn first. A row of one candidate gives 0, and an absent
        candidate whose weight is zero.
    """
    p = tf.nn.softmax(tf.stop_gradient(relaxed)) + 1e-7
    scores = tf.math.log(p) + _gumbel(tf.shape(p), seed, p.dtype)
    scores = _without_absent(scores, sizes)
    if scores.shape[1] == 1:
        return tf.zeros([scores.shape[0], 2], tf.int32)
    return tf.math.top_k(scores, 2).indices


def step_seed(seed: int, step: tf.Tensor, half: int) -> tf.Tensor:
    """Returns the seed of the draw of one half of a search step.

    Args:
        seed: The run's seed.
        step: Global step, int64.
        half: 0 for the weights, 1 for the architecture.
    """
    return tf.stack([tf.constant(seed, tf.int32), 2 * tf.cast(step, tf.int32) + half])


def replica_seed(seed: tf.Tensor) -> tf.Tensor:
    """Returns a seed (2,) int32 of this replica's own; the first replica keeps the given one."""
    number = tf.distribute.get_replica_context().replica_id_in_sync_group
    folded = tf.random.experimental.stateless_fold_in(seed, number, alg=_RANDOM)
    return tf.where(tf.equal(number, 0), seed, folded)


def _straight_through(relaxed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the one-hot of the largest with the gradient of the softmax, and its index."""
    p = tf.nn.softmax(relaxed)
    indices = tf.argmax(p, axis=1, output_type=tf.int32)
    return tf.one_hot(indices, p.shape[1], dtype=p.dtype) + p - tf.stop_gradient(p), indices


def _significant(weights: tf.Tensor) -> tf.Tensor:
    """Returns the weights, zero where one is lost beside the others in the sum's precision.

    What weighs nothing need not be computed.
    """
    smallest = np.finfo(weights.dtype.as_numpy_dtype).eps / 2
    return tf.where(weights > smallest, weights, 0)


def _gumbel(shape: tf.Tensor, seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns `-log(-log U)`."""
    smallest = dtype.as_numpy_dtype(1e-30)  # log(0) must not be met
    uniform = tf.random.stateless_uniform(shape, seed, minval=smallest, dtype=dtype, alg=_RANDOM)
    return -tf.math.log(-tf.math.log(uniform))
