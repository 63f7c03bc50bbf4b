"""Batch normalization in training: fused where the device has it, synchronized over replicas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

EPSILON = 1e-5
MOMENTUM = 0.9


def batch_normalize(
    x: tf.Tensor,
    scale: tf.Tensor,
    offset: tf.Tensor,
    epsilon: float = EPSILON,
    synchronized: bool = True,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalizes by the batch's statistics (docs/method.md 4).

    Args:
        x: (batch, height, width, channels).
        scale: (channels,).
        offset: (channels,).
        epsilon: Added to the variance.
        synchronized: Whether the batch is that of all replicas, or this replica's part of it.

    Returns:
        The normalized x; the batch's mean; its *unbiased* variance, for the moving average
        (normalizing itself uses the biased one). Neither has a gradient.
    """
    if x.dtype != tf.float64 and not over_replicas(synchronized):
        if _is_slow(x):
            wide = batch_normalize(tf.cast(x, tf.float32), scale, offset, epsilon, synchronized)
            return tf.cast(wide[0], x.dtype), *wide[1:]
        return _fused(x, scale, offset, epsilon)
    mean, variance, count = batch_moments(x, synchronized)
    scale *= tf.math.rsqrt(variance + epsilon)
    normalized = affine(x, scale, offset - mean * scale)
    return normalized, tf.stop_gradient(mean), tf.stop_gradient(unbiased(variance, count))


def standardize(
    x: tf.Tensor, ones: tf.Tensor, synchronized: bool = True
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor | float]:
    """Normalizes by the batch's statistics; not meant to be differentiated.

    Args:
        x: (batch, height, width, channels).
        ones: (channels,), ones.
        synchronized: See `batch_normalize`.

    Returns:
        `(x - mean) / sqrt(variance + EPSILON)`; the batch's mean; its *biased* variance; the number
        of values that these are of.
    """
    if over_replicas(synchronized) or x.dtype == tf.float64:
        mean, variance, count = batch_moments(x, synchronized)
        rate = tf.math.rsqrt(variance + EPSILON)
        return affine(x, rate, -mean * rate), mean, variance, count
    zeros = tf.zeros_like(ones)
    normalized, mean, variance = batch_normalize(x, ones, zeros, synchronized=synchronized)
    count = _count(x, ones.dtype)
    return normalized, mean, variance / unbiased(1.0, count), count


def unbiased(variance: tf.Tensor | float, count: tf.Tensor | float) -> tf.Tensor | float:
    """Returns the unbiased variance of so many values, given the biased one."""
    if isinstance(count, float):
        return variance * (count / max(count - 1, 1.0))
    return variance * (count / tf.maximum(count - 1, 1))


def over_replicas(synchronized: bool = True) -> bool:
    """Whether statistics are gathered from several replicas."""
    return synchronized and _replicas() > 1


def batch_moments(
    x: tf.Tensor, synchronized: bool = True
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns mean and variance of every channel, and the number of values that they are of.

    Args:
        x: (batch, height, width, channels); a replica's part may be empty.
        synchronized: See `batch_normalize`.

    Returns:
        Mean (channels,), biased variance (channels,), scalar.
    """
    sums = _channel_sums(x)
    mean, squares, count = _means(sums, _count(x, sums[0].dtype), synchronized)
    return mean, tf.maximum(squares - tf.square(mean), 0), count


def input_moments(
    x: tf.Tensor, synchronized: bool = True
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns mean and covariance of the channels, and the number of values that they are of.

    Args:
        x: (batch, height, width, channels).
        synchronized: See `batch_normalize`.

    Returns:
        Mean (channels,), covariance (channels, channels), scalar.
    """
    flat = tf.reshape(x, [-1, tf.shape(x)[-1]])
    mean, second, count = _means(_sums(flat), _count(x, flat.dtype), synchronized)
    return mean, second - mean[:, None] * mean, count


def _means(
    sums: Sequence[tf.Tensor], count: tf.Tensor | float, synchronized: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | float]:
    """Returns two sums divided by their count over all replicas, and that count.

    Replicas may have parts of unequal size: sums and counts are added up, in one message.
    """
    first, second = sums
    if over_replicas(synchronized):
        message = [first, tf.reshape(second, [-1]), tf.reshape(tf.cast(count, first.dtype), [1])]
        message = _over_replicas(tf.concat(message, 0))
        size = tf.shape(first)[0]
        first, count = message[:size], message[-1]
        second = tf.reshape(message[size:-1], tf.shape(second))
    return first / count, second / count, count


def _count(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor | float:
    """Returns the number of values that a channel has, a plain number where it is known."""
    if None not in x.shape[:-1]:
        return float(math.prod(x.shape[:-1]))
    return tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), dtype)


@tf.custom_gradient
def _channel_sums(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sums (n,) of channels and of their squares, in float32 at least."""

    def gradient(total: tf.Tensor, squares: tf.Tensor) -> tf.Tensor:
        return affine(x, 2 * squares, total)

    if x.dtype == tf.float64:
        return (tf.reduce_sum(x, (0, 1, 2)), tf.reduce_sum(tf.square(x), (0, 1, 2))), gradient
    # The fused operation reads a map faster than sums do, and centres it; its output is dropped.
    wide = tf.cast(x, tf.float32) if _is_slow(x) else x
    ones = tf.ones(tf.shape(x)[-1:], tf.float32)
    _, mean, variance = _fused(wide, ones, tf.zeros_like(ones), EPSILON)
    count = _count(x, tf.float32)
    biased = variance / unbiased(1.0, count)
    # Of no values the mean is not a number, and the sum zero.
    sums = (tf.math.multiply_no_nan(of_one, count) for of_one in (mean, biased + tf.square(mean)))
    return tuple(sums), gradient


def _fused(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    # Statistics are float32 also for bfloat16 input. The raw operation keeps the epsilon.
    none = tf.zeros([0], scale.dtype)
    return tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=offset, mean=none, variance=none, epsilon=epsilon
    )[:3]


def affine(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Returns `x * scale + offset` over channels, in one pass where there is a fused operation."""
    if x.dtype == tf.float64:
        return x * scale + offset
    if _is_slow(x):
        return tf.cast(affine(tf.cast(x, tf.float32), scale, offset), x.dtype)
    zeros = tf.zeros_like(scale)
    return tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=scale,
        offset=offset,
        mean=zeros,
        variance=zeros + 1,
        epsilon=0.0,
        is_training=False,
    )[0]


def _is_slow(x: tf.Tensor) -> bool:
    """Whether oneDNN normalizes maps of this width ten times slower in bfloat16 than in float32."""
    return x.dtype == tf.bfloat16 and bool((x.shape[-1] or 0) % 16)


@tf.custom_gradient
def _sums(flat: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sum (n,) of rows (m, n), and that of their outer products (n, n)."""
    ones = tf.ones([1, tf.shape(flat)[0]], flat.dtype)

    def gradient(total: tf.Tensor, products: tf.Tensor) -> tf.Tensor:
        # The product is symmetric: one product of matrices instead of two.
        return tf.linalg.matmul(flat, products + tf.transpose(products)) + total

    sums = tf.linalg.matmul(ones, flat)[0], tf.linalg.matmul(flat, flat, transpose_a=True)
    return sums, gradient


def move(
    variable: keras.Variable,
    value: tf.Tensor,
    share: tf.Tensor | float,
    synchronized: bool = True,
) -> None:
    """Moves an average toward a value: `v <- v + share * (value - v)`.

    It stays the same on all replicas: they have the same value, or move by the mean of their moves.

    Args:
        variable: The average. Its `aggregation` is `none`: each replica moves its own copy.
        value: What it moves toward.
        share: How far.
        synchronized: Whether the value is that of all replicas, see `batch_normalize`.
    """
    current = tf.convert_to_tensor(variable)
    by = tf.cast(share, current.dtype) * (tf.cast(value, current.dtype) - current)
    if not synchronized and _replicas() > 1:
        by = _over_replicas(by) / _replicas()
    variable.assign(current + by)


def _replicas() -> int:
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def added_up(sums: Sequence[tf.Tensor], synchronized: bool) -> Sequence[tf.Tensor]:
    """Returns sums, all of one shape, over all replicas where they are synchronized."""
    if not over_replicas(synchronized):
        return sums
    return tf.unstack(_over_replicas(tf.stack(sums)), len(sums))


def _over_replicas(sums: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, sums)
