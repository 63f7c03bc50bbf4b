"""Channel-wise interpolation (docs/method.md 3): adaptive average pooling over channels."""

from __future__ import annotations

import tensorflow as tf


def interpolation_matrix(
    source: tf.Tensor,
    target: tf.Tensor,
    rows: int | tf.Tensor,
    columns: int | tf.Tensor,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Returns the matrix `A` with `CWI(x, target) = x @ A`, padded with zeros or cut to a size.

    `A[j, i] = 1 / (e_i - s_i)` for `s_i <= j < e_i`, with `s_i = floor(i * source / target)` and
    `e_i = ceil((i + 1) * source / target)`; zero for `i >= target` (docs/method.md 3).

    Args:
        source: Widths of what is interpolated, int32, any shape (...).
        target: Widths that it gets, int32, broadcastable to that shape.
        rows: Rows of the matrix: channels that x has.
        columns: Columns of the matrix: channels that the result gets.
        dtype: Type of the matrix.

    Returns:
        (..., rows, columns).
    """
    source = tf.convert_to_tensor(source, tf.int32)[..., None, None]
    target = tf.convert_to_tensor(target, tf.int32)[..., None, None]
    column = tf.range(columns)
    row = tf.range(rows)[:, None]
    start = column * source // target
    end = -(-(column + 1) * source // target)
    inside = (row >= start) & (row < end) & (column < target)
    share = 1 / tf.cast(tf.maximum(end - start, 1), dtype)
    return tf.where(inside, share, tf.zeros([], dtype))


def interpolate(x: tf.Tensor, channels: int) -> tf.Tensor:
    """Returns `CWI(x, channels)`.

    Args:
        x: (..., C).
        channels: Width of the result.

    Returns:
        (..., channels).
    """
    width = x.shape[-1]
    return tf.linalg.matmul(x, interpolation_matrix(width, channels, width, channels, x.dtype))
