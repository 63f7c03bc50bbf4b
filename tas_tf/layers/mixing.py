"""Mixtures of channels: the weighted sum of candidates as one product (docs/method.md 4).

A mixture is a matrix, applied as a 1x1 convolution (`MatrixMixture`). CPUs mix maps of many
channels entry by entry (`TapMixture`), because each column of the matrix has few entries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tas_tf.layers.interpolation import interpolation_taps
from tas_tf.layers.normalization import (
    EPSILON,
    added_up,
    affine,
    batch_normalize,
    standardize,
    unbiased,
)

# From so many channels on a CPU mixes them entry by entry, not by a product of matrices; a channel
# then costs it what so many multiplications do (`benchmarks/README.md`, Search step).
TAPPED = 512
TAPPED_COST = 200

# A convolution of single pixels.
POINTWISE = {"strides": [1, 1, 1, 1], "padding": "VALID"}


class Taps(NamedTuple):
    """The mixture of drawn candidates, entry by entry: at most two for each candidate and channel.

    Args:
        places: (n, C, 2) int32, where an entry's scale and offset stand in the tables of a unit:
            candidate and channel.
        entries: (n, C, 4) int32, where it stands in the mixture: 0, 0, the channel that is read
            and the channel that is written.
        columns: (n, C, 1) int32, the channel that is written.
        shares: (n, C), what scale and offset are multiplied by; zero where there is no entry.
    """

    places: tf.Tensor
    entries: tf.Tensor
    columns: tf.Tensor
    shares: tf.Tensor


def mixture_taps(
    channels: int,
    indices: tf.Tensor,
    widths: tf.Tensor,
    weights: tf.Tensor,
    sizes: tf.Tensor,
) -> list[Taps]:
    """Returns the mixtures of several units of equally many channels.

    Args:
        channels: Channels C of every unit.
        indices: (units, k) int32, drawn candidates.
        widths: (units, k) int32, their widths.
        weights: (units, k), their weights.
        sizes: (units, 4) int32, their mixtures as kernels: 1, 1, computed, given.
    """
    widest = tf.reduce_max(widths, axis=1, keepdims=True)
    sources, inside = interpolation_taps(widths, widest, channels)
    shares = tf.where(inside, weights[:, :, None, None] / 2, 0)
    # What lies beyond a mixture has the share zero: any place will do.
    entries = tf.minimum(mixture_entries(sources), sizes[:, None, None, None] - 1)
    candidates = tf.broadcast_to(indices[:, :, None, None], tf.shape(sources))
    units, drawn = indices.shape
    several = (
        tf.reshape(tf.stack([candidates, sources], axis=-1), [units, 2 * drawn, channels, 2]),
        tf.reshape(entries, [units, 2 * drawn, channels, 4]),
        tf.reshape(entries[..., 3], [units, 2 * drawn, channels, 1]),
        tf.reshape(tf.broadcast_to(shares, tf.shape(sources)), [units, 2 * drawn, channels]),
    )
    return [Taps(*of_unit) for of_unit in zip(*map(tf.unstack, several), strict=True)]


def mixture_entries(sources: tf.Tensor) -> tf.Tensor:
    """Returns where entries (..., columns) that read `sources` stand in a mixture (..., 4)."""
    zeros = tf.zeros_like(sources)
    return tf.stack([zeros, zeros, sources, zeros + tf.range(sources.shape[-1])], axis=-1)


def is_tapped(channels: int) -> bool:
    """Whether CPUs mix maps of so many channels entry by entry."""
    return channels >= TAPPED


def cut(kernel: tf.Tensor, size: tf.Tensor, uncut: tf.Tensor) -> tf.Tensor:
    """Returns the first channels of a kernel.

    TensorFlow's own gradients of slices take a dozen operations each, or one of a single thread.

    Args:
        kernel: (height, width, inputs, outputs).
        size: (4,) int32, that of the result.
        uncut: (4, 2) int32, what pads the result to the kernel.
    """

    @tf.custom_gradient
    def part(kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        # Within two conditions a gradient may read tensors of the inner one, or of none.
        pads = tf.identity(uncut)
        return tf.slice(kernel, [0] * 4, size), lambda dy: tf.pad(dy, pads)

    return part(kernel)


def scaled(x: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Returns x, of any shape, times a scalar, in the type of x."""
    return tf.cast(share, x.dtype) * x


def normalize_and_mix(
    z: tf.Tensor, mix: tf.Tensor, shift: tf.Tensor, ones: tf.Tensor, synchronized: bool = True
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns `n @ mix + shift`, n the batch-normalized z; the mean; the unbiased variance.

    Neither mean nor variance has a gradient. That of the rest keeps n alone, not z. Summed over
    pixels, `D = n' dy` is the mixture's, `q = sum dy` the vector's. Normalization's needs the sums
    of `dn = dy @ mix'` and of `n dn`: they are `mix q`, and `mix * D` summed over columns. So with
    `r = 1 / sqrt(variance + epsilon)`
    `dz = dy @ (r mix)' - r / pixels * (mix q + n sum(mix * D))`.

    Args:
        z: (batch, height, width, inner).
        mix: Mixture (1, 1, inner, outer).
        shift: (outer,).
        ones: (inner,), ones.
        synchronized: See `normalization.batch_normalize`.
    """
    normalized, mean, variance, count = standardize(tf.stop_gradient(z), ones, synchronized)

    @tf.custom_gradient
    def mixed(
        z: tf.Tensor, mix: tf.Tensor, shift: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple]]:
        def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            total = _pixel_sum(dy, shift.dtype)
            d_mix = tf.raw_ops.Conv2DBackpropFilter(
                input=normalized, filter_sizes=tf.shape(mix), out_backprop=dy, **POINTWISE
            )
            d_mix = tf.cast(d_mix, mix.dtype)
            sums = [tf.reduce_sum(mix * of, axis=(0, 1, 3)) for of in (total, d_mix)]
            rate = tf.math.rsqrt(variance + EPSILON)
            factor = rate * (-1 / count)
            offset, scale = (factor * of for of in added_up(sums, synchronized))
            through = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(normalized),
                filter=tf.cast(tf.expand_dims(rate, 1) * mix, z.dtype),
                out_backprop=dy,
                **POINTWISE,
            )
            return through + affine(normalized, scale, offset), d_mix, total

        y = MatrixMixture(mix).mix(normalized)
        y = tf.nn.bias_add(y, tf.cast(shift, z.dtype))
        return y, gradient

    return mixed(z, mix, shift), mean, unbiased(variance, count)


class MatrixMixture(NamedTuple):
    """A mixture as a matrix.

    Args:
        kernel: (1, 1, inner, outer).
    """

    kernel: tf.Tensor

    def mix(self, x: tf.Tensor, vector: tf.Tensor | None = None) -> tf.Tensor:
        """Returns `x @ mixture + vector`: (..., inner) to (..., outer)."""
        if len(x.shape) == 2:
            y = tf.linalg.matmul(x, self.kernel[0, 0])
        else:
            y = tf.nn.conv2d(x, tf.cast(self.kernel, x.dtype), 1, "VALID")
        return y if vector is None else _shift(y, vector)

    def mix_normalized(
        self, z: tf.Tensor, shift: tf.Tensor, ones: tf.Tensor, synchronized: bool = True
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """See `normalize_and_mix`."""
        return normalize_and_mix(z, self.kernel, shift, ones, synchronized)


class TapMixture(NamedTuple):
    """A mixture as a few entries in every column.

    Args:
        sources: (n, outer) int32, the channels that entries read.
        values: (n, outer), the entries.
    """

    sources: tf.Tensor
    values: tf.Tensor

    def mix(self, x: tf.Tensor, vector: tf.Tensor | None = None) -> tf.Tensor:
        """Returns `x @ mixture + vector`: (..., inner) to (..., outer)."""
        y = _mix_by_taps(x, self.sources, self.values)
        return y if vector is None else _shift(y, vector)

    def mix_normalized(
        self, z: tf.Tensor, shift: tf.Tensor, ones: tf.Tensor, synchronized: bool = True
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """See `normalize_and_mix`."""
        normalized, mean, variance = batch_normalize(
            z, ones, tf.zeros_like(ones), synchronized=synchronized
        )
        return self.mix(normalized, shift), mean, variance


Mixture = MatrixMixture | TapMixture


def mix_with_mean(x: tf.Tensor, mean: tf.Tensor, mix: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Returns `(x - mean) @ mix + shift`, as one mixture (inner, outer) of x."""
    # What coarser precision makes of the mixture is also what the mean goes through.
    mix = tf.cast(mix, x.dtype)
    offset = tf.linalg.matmul(mean[None], tf.cast(mix, shift.dtype))[0]
    return MatrixMixture(mix[None, None]).mix(x, shift - offset)


@tf.custom_gradient
def _shift(x: tf.Tensor, vector: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple]]:
    """Adds a vector to channels, of which wide maps have many: products sum them up faster."""

    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        flat = tf.reshape(dy, [-1, tf.shape(dy)[-1]])
        total = tf.linalg.matmul(tf.ones([1, tf.shape(flat)[0]], dy.dtype), flat)[0]
        return dy, tf.cast(total, vector.dtype)

    return tf.nn.bias_add(x, tf.cast(vector, x.dtype)), gradient


def _pixel_sum(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns the sums of channels.

    On CPUs BiasAddGrad adds bfloat16 up in bfloat16: beyond 256 a one is lost.
    """
    return tf.cast(tf.reduce_sum(x, axis=(0, 1, 2)), dtype)


@tf.custom_gradient
def _mix_by_taps(
    x: tf.Tensor, sources: tf.Tensor, values: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple]]:
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

    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, None, tf.Tensor]:
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
