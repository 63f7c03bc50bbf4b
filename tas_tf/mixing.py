"""Mixing channels: the weighted sum of candidates as one product (docs/method.md 4).

A mixture is a matrix, applied as a 1x1 convolution; maps of many channels are mixed entry by entry
on CPUs, because interpolation gives a column few entries.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tas_tf.interpolation import interpolation_taps
from tas_tf.normalization import EPSILON

# From so many channels on a CPU mixes them entry by entry, not by a product of matrices; a channel
# then costs it what so many multiplications do (`benchmarks/README.md`, Search step).
TAPPED = 512
TAPPED_COST = 200

# What mixes channels: a matrix, or rows and values of the entries of every column (n, columns).
Mixture = tf.Tensor | tuple[tf.Tensor, tf.Tensor]


class Taps(NamedTuple):
    """The mixture of drawn candidates, entry by entry: at most two for each candidate and channel.

    Args:
        places: (n,) int32, where an entry's scale and offset stand in the flat tables of a unit.
        entries: (n, 2) int32, the channel that is read and the channel that is written.
        shares: (n,), what they are multiplied by; zero where there is no entry.
    """

    places: tf.Tensor
    entries: tf.Tensor
    shares: tf.Tensor


def mixture_taps(
    indices: tf.Tensor, widths: tf.Tensor, weights: tf.Tensor, channels: int
) -> list[Taps]:
    """Returns the mixtures of several units of equally many channels.

    Args:
        indices: (units, k) int32, drawn candidates.
        widths: (units, k) int32, their widths.
        weights: (units, k), their weights.
        channels: Channels C of every unit.
    """
    widest = tf.reduce_max(widths, axis=1, keepdims=True)
    sources, inside = interpolation_taps(widths, widest, channels)
    shares = tf.where(inside, weights[:, :, None, None] / 2, 0)
    shares = tf.broadcast_to(shares, tf.shape(sources))
    places = indices[:, :, None, None] * channels + sources
    columns = tf.broadcast_to(tf.range(channels), tf.shape(sources))
    flat = [indices.shape[0], -1]
    entries = tf.reshape(tf.stack([sources, columns], axis=-1), [*flat, 2])
    several = tf.reshape(places, flat), entries, tf.reshape(shares, flat)
    return [Taps(*of_unit) for of_unit in zip(*map(tf.unstack, several), strict=True)]


def is_tapped(channels: int, sizes: tf.Tensor | None) -> bool:
    """Whether maps of so many channels are mixed entry by entry: on CPUs, as `sizes` tells."""
    return sizes is not None and channels >= TAPPED


def make_mixture(
    entries: tf.Tensor, values: tf.Tensor, channels: int, sizes: tf.Tensor | None
) -> Mixture:
    """Returns the mixture (inner, outer) of some entries: every column has equally many.

    Args:
        entries: (n, 2) int32, rows and columns; columns count up, again and again.
        values: (n,), zero where an entry lies outside of `sizes`.
        channels: Channels C of what is mixed.
        sizes: Inner and outer, or None for C.
    """
    if sizes is None:
        return tf.scatter_nd(entries, values, [channels, channels])
    entries = tf.minimum(entries, sizes - 1)
    if not is_tapped(channels, sizes):
        return tf.scatter_nd(entries, values, sizes)
    columns = [-1, channels]
    sources, values = tf.reshape(entries[:, 0], columns), tf.reshape(values, columns)
    return sources[:, : sizes[1]], values[:, : sizes[1]]


def scaled(x: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Returns x, of any shape, times a scalar, in the type of x."""
    return tf.cast(share, x.dtype) * x


def widen(
    x: tf.Tensor,
    share: tf.Tensor,
    width: tf.Tensor,
    widest: tf.Tensor,
    channels: int,
    size: tf.Tensor | None,
) -> tf.Tensor:
    """Returns `share * CWI(x, widest)`.

    Args:
        x: (batch, height, width, `size`), or C channels for None.
        share: Scalar.
        width: Channels that x really has.
        widest: Channels that it gets, no fewer.
        channels: Channels C of the unpruned network.
        size: Channels of the maps, (2,) int32.
    """

    def mixed():
        sources, inside = interpolation_taps(width, widest, channels)
        columns = tf.broadcast_to(tf.range(channels), [2, channels])
        entries = tf.reshape(tf.stack([sources, columns], axis=-1), [-1, 2])
        halves = tf.cast(tf.broadcast_to(inside, [2, channels]), share.dtype) / 2
        return mix_channels(
            x, make_mixture(entries, tf.reshape(share * halves, [-1]), channels, size)
        )

    if size is None or is_tapped(channels, size):
        return mixed()
    # A map as wide as the widest needs no product.
    return tf.cond(width < widest, mixed, lambda: scaled(x, share))


def normalizing_mixture(z, mean, variance, mix: Mixture, shift) -> tf.Tensor:
    """Returns `normalized(z) @ mix + shift`, as one mixture of z.

    Args:
        z: (batch, height, width, inner).
        mean: (inner,), the batch's mean.
        variance: (inner,), its biased variance.
        mix: Mixture (inner, outer).
        shift: (outer,).
    """
    rate = tf.math.rsqrt(variance + EPSILON)
    if isinstance(mix, tuple):
        sources, values = mix
        return mix_with_mean(z, mean, (sources, values * tf.gather(rate, sources)), shift)
    return mix_with_mean(z, mean, mix * rate[:, None], shift)


def mix_with_mean(x: tf.Tensor, mean: tf.Tensor, mix: Mixture, shift: tf.Tensor) -> tf.Tensor:
    """Returns `(x - mean) @ mix + shift`, as one mixture of x (..., inner); see above."""
    if isinstance(mix, tuple):
        return mix_channels(x, mix, shift - mix_channels(mean[None], mix)[0])
    # What coarser precision makes of the mixture is also what the mean goes through.
    mix = tf.cast(mix, x.dtype)
    return mix_channels(x, mix, shift - tf.linalg.matmul(mean[None], tf.cast(mix, shift.dtype))[0])


def mix_channels(x: tf.Tensor, mix: Mixture, vector: tf.Tensor | None = None) -> tf.Tensor:
    """Returns `x @ mix + vector` over channels: (..., inner) to (..., outer)."""
    if isinstance(mix, tuple):
        y = _mix_by_taps(x, *mix)
    elif len(x.shape) == 2:
        y = tf.linalg.matmul(x, mix)
    else:
        y = tf.nn.conv2d(x, tf.cast(mix, x.dtype)[None, None], 1, "VALID")
    if vector is None:
        return y
    return (
        tf.nn.bias_add(y, tf.cast(vector, x.dtype)) if x.dtype == tf.bfloat16 else _shift(y, vector)
    )


@tf.custom_gradient
def _shift(x: tf.Tensor, vector: tf.Tensor):
    """Adds a vector to channels; on CPUs its gradient is faster as a product with ones."""

    def gradient(dy):
        flat = tf.reshape(dy, [-1, tf.shape(dy)[-1]])
        return dy, tf.linalg.matmul(tf.ones([1, tf.shape(flat)[0]], flat.dtype), flat)[0]

    return tf.nn.bias_add(x, vector), gradient


@tf.custom_gradient
def _mix_by_taps(x: tf.Tensor, sources: tf.Tensor, values: tf.Tensor):
    """Returns `x @ M`, for a matrix M of a few entries in every column.

    With channels in rows, an entry is a row that is read, scaled and added: a product of matrices
    does `channels` times as much arithmetic as there are channels.

    Args:
        x: (..., channels).
        sources: (n, columns) int32, the rows of every column's entries.
        values: (n, columns), the entries. Entries of one place add up.

    Returns:
        (..., columns).
    """
    channels = tf.shape(x)[-1]
    wide = tf.float32 if x.dtype == tf.bfloat16 else x.dtype
    rows = _to_rows(x, wide)
    entries = list(zip(tf.unstack(sources), tf.unstack(tf.cast(values, wide)), strict=True))
    y = _from_rows(tf.add_n([tf.gather(rows, s) * v[:, None] for s, v in entries]), x)

    def gradient(dy):
        dy = _to_rows(dy, wide)
        dx = tf.add_n(
            [tf.math.unsorted_segment_sum(dy * v[:, None], s, channels) for s, v in entries]
        )
        shares = tf.stack([tf.reduce_sum(tf.gather(rows, s) * dy, axis=1) for s, _ in entries])
        return _from_rows(dx, x), None, tf.cast(shares, values.dtype)

    return y, gradient


def _to_rows(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns (channels, pixels)."""
    return tf.cast(tf.transpose(tf.reshape(x, [-1, tf.shape(x)[-1]])), dtype)


def _from_rows(rows: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Returns a map of the shape and type of `like`, but for the number of its channels."""
    shape = tf.concat([tf.shape(like)[:-1], tf.shape(rows)[:1]], 0)
    y = tf.reshape(tf.transpose(tf.cast(rows, like.dtype)), shape)
    y.set_shape([*like.shape[:-1], None])
    return y
