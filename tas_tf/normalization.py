"""Batch normalization in training: fused where the device has it, synchronized over replicas."""

from __future__ import annotations

import keras
import tensorflow as tf

EPSILON = 1e-5
MOMENTUM = 0.9


def batch_normalize(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float = EPSILON
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalizes by the batch's statistics, over all replicas (docs/method.md 4).

    Args:
        x: (batch, height, width, channels).
        scale: (channels,).
        offset: (channels,).
        epsilon: Added to the variance.

    Returns:
        The normalized x; the batch's mean; its *unbiased* variance, for the moving average
        (normalizing itself uses the biased one). Neither has a gradient.
    """
    if x.dtype != tf.float64 and _replicas() == 1:
        if x.dtype == tf.bfloat16 and (x.shape[-1] or 0) % 16:
            # oneDNN normalizes such widths ten times slower in bfloat16 than in float32.
            wide = batch_normalize(tf.cast(x, tf.float32), scale, offset, epsilon)
            return tf.cast(wide[0], x.dtype), *wide[1:]
        # Statistics are float32 also for bfloat16 input. The raw operation keeps the epsilon.
        none = tf.zeros([0], scale.dtype)
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=none, variance=none, epsilon=epsilon
        )[:3]
    statistics_dtype = scale.dtype
    wide = tf.cast(x, statistics_dtype)
    mean = _over_replicas(tf.reduce_mean(wide, axis=(0, 1, 2)))
    variance = _over_replicas(tf.reduce_mean(tf.square(wide - mean), axis=(0, 1, 2)))
    normalized = (wide - mean) * (tf.math.rsqrt(variance + epsilon) * scale) + offset
    count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]) * _replicas(), statistics_dtype)
    unbiased = variance * (count / tf.maximum(count - 1, 1))
    return tf.cast(normalized, x.dtype), tf.stop_gradient(mean), tf.stop_gradient(unbiased)


def input_moments(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns mean and covariance of the channels, over all replicas.

    Args:
        x: (batch, height, width, channels).

    Returns:
        Mean (channels,), covariance (channels, channels), and what makes a variance unbiased.
    """
    flat = tf.reshape(x, [-1, tf.shape(x)[-1]])
    count = tf.cast(tf.shape(flat)[0], x.dtype)
    total, products = _sums(flat)
    mean, second = _over_replicas(total / count), _over_replicas(products / count)
    count *= _replicas()
    return mean, second - mean[:, None] * mean, count / tf.maximum(count - 1, 1)


@tf.custom_gradient
def _sums(flat: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sum (n,) of rows (m, n), and that of their outer products (n, n)."""
    ones = tf.ones([1, tf.shape(flat)[0]], flat.dtype)

    def gradient(total, products):
        # The product is symmetric: one product of matrices instead of two.
        return tf.linalg.matmul(flat, products + tf.transpose(products)) + total

    sums = tf.linalg.matmul(ones, flat)[0], tf.linalg.matmul(flat, flat, transpose_a=True)
    return sums, gradient


def move(variable: keras.Variable, value: tf.Tensor, share: tf.Tensor | float) -> None:
    """Moves an average toward a value: `v <- v + share * (value - v)`."""
    current = tf.convert_to_tensor(variable)
    variable.assign(
        current + tf.cast(share, current.dtype) * (tf.cast(value, current.dtype) - current)
    )


def _replicas() -> int:
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def _over_replicas(statistic: tf.Tensor) -> tf.Tensor:
    if _replicas() == 1:
        return statistic
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, statistic)
