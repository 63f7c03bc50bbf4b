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


def interpolation_taps(
    source: tf.Tensor, target: tf.Tensor, columns: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the entries of `interpolation_matrix`, for widths that do not shrink.

    With `source <= target` a window `[s_i, e_i)` has one channel or two: the mean of its first and
    its last is the mean of all of it.

    Args:
        source: Widths of what is interpolated, int32, any shape (...).
        target: Widths that it gets, no smaller, int32, broadcastable to that shape.
        columns: Channels that the result gets.

    Returns:
        First and last channel of every column's window, int32 (..., 2, columns); whether there is a
        column, broadcastable to (..., 2, columns): beyond the target there is none.
    """
    source = tf.convert_to_tensor(source, tf.int32)[..., None]
    target = tf.convert_to_tensor(target, tf.int32)[..., None]
    column = tf.range(columns)
    inside = column < target
    column = tf.where(inside, column, 0)
    first = column * source // target
    last = -(-(column + 1) * source // target) - 1
    return tf.stack([first, last], axis=-2), inside[..., None, :]


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
