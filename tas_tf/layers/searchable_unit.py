"""The searchable unit: a convolution of open width (docs/method.md 4).

Layers do not cast by themselves (`autocast=False`): maps and kernels are in the compute type,
scales, offsets, weights of candidates and statistics in the variables' type. All shapes are those
of the unpruned network. A map of fewer channels has zeros in the others, and its width travels
beside it as a scalar.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tas_tf.errors import SpecError
from tas_tf.layers.interpolation import interpolation_matrix
from tas_tf.layers.mixing import (
    TAPPED_COST,
    Mixture,
    cut,
    is_tapped,
    make_mixture,
    mix_channels,
    mix_with_mean,
    normalize_and_mix,
)
from tas_tf.layers.normalization import (
    EPSILON,
    MOMENTUM,
    batch_normalize,
    input_moments,
    move,
    unbiased,
)
from tas_tf.layers.unit_draws import UnitDraw
from tas_tf.spaces.families import Layer

AGGREGATIONS = ("interpolate", "pad")
FORMULATIONS = ("fused", "plain")

# How a forward pass treats batch normalization: WEIGHTS uses the batch's statistics and moves the
# averages, ARCHITECTURE uses the batch's and moves nothing, INFERENCE uses the averages.
WEIGHTS, ARCHITECTURE, INFERENCE = "weights", "architecture", "inference"


class SearchableUnit(keras.layers.Layer):
    """A convolution, one batch normalization per candidate width, and their weighted sum.

    `y = sum_k w_k * CWI(BN_k(z[..., :c_k]), c)` with `z = conv(x, K)` and `c = max_k c_k`
    (docs/method.md 4). Candidates see the same `z`, so on shared channels their batch statistics
    are the same; scales, offsets, interpolation and sum are linear over channels. So the `fused`
    formulation normalizes once, and applies one small matrix and one vector. The `plain` one
    normalizes and interpolates every candidate by itself: it is the tested reference.

    Args:
        layer: Where the unit stands: kernel, stride, ReLU.
        in_channels: Channels of the input in the unpruned network.
        candidates: Candidate widths, ascending; the last is the unpruned width C.
        aggregation: `interpolate` (the paper) or `pad` (each channel stays where it is).
        formulation: `fused` or `plain`.
        zero_scale: Whether scales start at zero.
        synchronized: Whether statistics are those of all replicas, or each replica has its own.
    """

    def __init__(
        self,
        layer: Layer,
        in_channels: int,
        candidates: Sequence[int],
        aggregation: str = "interpolate",
        formulation: str = "fused",
        zero_scale: bool = False,
        synchronized: bool = True,
        **kwargs,
    ):
        super().__init__(name=layer.name, autocast=False, **kwargs)
        if aggregation not in AGGREGATIONS:
            raise SpecError(
                f"aggregation: expected one of {list(AGGREGATIONS)}. Received: {aggregation!r}"
            )
        if formulation not in FORMULATIONS:
            raise SpecError(
                f"formulation: expected one of {list(FORMULATIONS)}. Received: {formulation!r}"
            )
        self.layer = layer
        self.candidates = tuple(candidates)
        self.channels = self.candidates[-1]
        self.aggregation = aggregation
        self.formulation = formulation
        self.synchronized = synchronized
        # (candidates, C): which channels a candidate has.
        self.channel_mask = np.arange(self.channels) < np.array(self.candidates)[:, None]
        self._add_variables(in_channels, zero_scale)

    def _add_variables(self, in_channels: int, zero_scale: bool) -> None:
        vectors = (len(self.candidates), self.channels)
        mask = self.channel_mask.astype("float32")
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.layer.kernel, in_channels, self.channels),
            initializer=keras.initializers.VarianceScaling(
                2.0, mode="fan_out", distribution="untruncated_normal"
            ),
            autocast=False,
        )
        # What a candidate does not have stays zero: it gets no gradient, and decay leaves zero.
        start = keras.initializers.Constant(0.0 if zero_scale else mask)
        self.scale, self.offset = (
            self.add_weight(name=name, shape=vectors, initializer=initializer, autocast=False)
            for name, initializer in (("scale", start), ("offset", "zeros"))
        )
        self.moving_mean, self.moving_variance = (
            self.add_weight(
                name=name,
                shape=vectors,
                initializer=initializer,
                trainable=False,
                autocast=False,
            )
            for name, initializer in (("moving_mean", "zeros"), ("moving_variance", "ones"))
        )
        self.built = True

    def call(self, x, drawn: UnitDraw, mode):
        """Returns the unit's output before any ReLU.

        Args:
            x: (batch, height, width, channels), zeros in channels that are missing; those beyond
                its last channel are missing too.
            drawn: What it is told of the draw, see `unit_draws.draw_units`.
            mode: `WEIGHTS`, `ARCHITECTURE` or `INFERENCE`.

        Returns:
            (batch, height, width, C or as the draw's sizes say), zeros beyond the widest drawn
            candidate.
        """
        if self.layer.kind == "projection":
            x = pool_shortcut(x, self.layer.stride)
        if mode != INFERENCE and self.formulation == "plain":
            return self._plain(x, drawn, mode)
        mix, shift = self._mixture(drawn, mode)
        if mode == INFERENCE:
            return self._mix(self._convolve(x, drawn.sizes), mix, shift, drawn.sizes)
        if self.aggregation == "interpolate" and self._may_fold(x, drawn.sizes):
            y, mean, variance = self._fold(x, mix, shift, drawn.sizes)
        else:
            z = self._convolve(x, drawn.sizes)
            y, mean, variance = self._normalize_and_mix(z, mix, shift, drawn.sizes)
        if mode == WEIGHTS:
            self._move_averages(drawn.counted, mean, variance, drawn.sizes)
        return y

    def _may_fold(self, x: tf.Tensor, sizes) -> bool:
        """Whether the batch's statistics are cheaper to have from the input than the output."""
        strided = self.layer.stride > 1 and self.layer.kind != "projection"
        if self.layer.kernel != (1, 1) or strided:
            return False
        # For every pixel: covariance, its product with the kernel, the kernel's mixture; or the
        # map's mixture. Where the batch is not known it is taken to be large.
        inside, outside = self.kernel.shape[2:]
        pixels = x.shape[0] * self.layer.size[0] * self.layer.size[1] if x.shape[0] else math.inf
        mixture = outside * (TAPPED_COST if is_tapped(outside, sizes) else outside)
        return inside * (inside + (inside * outside + mixture) / pixels) <= mixture

    def _sliced_kernel(self, x: tf.Tensor, sizes) -> tf.Tensor:
        kernel = tf.cast(self.kernel, x.dtype)
        if sizes is None:
            return kernel
        kernel = cut(kernel, sizes.kernel, sizes.uncut)
        kernel.set_shape([*self.layer.kernel, None, None])
        return kernel

    def _convolve(self, x: tf.Tensor, sizes=None) -> tf.Tensor:
        kernel = self._sliced_kernel(x, sizes)
        if self.layer.stride == 1 or self.layer.kind == "projection":
            return tf.nn.conv2d(x, kernel, 1, "SAME")
        # Padded apart: explicit padding in the convolution keeps its gradient off oneDNN.
        pads = [[0, 0], *([size // 2, size // 2] for size in self.layer.kernel), [0, 0]]
        return tf.nn.conv2d(tf.pad(x, pads), kernel, self.layer.stride, "VALID")

    def _tables(self, mode) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns scale and offset (candidates, C) behind the normalization, or all of it."""
        scale, offset = tf.convert_to_tensor(self.scale), tf.convert_to_tensor(self.offset)
        if mode != INFERENCE:
            return scale, offset
        scale *= tf.math.rsqrt(tf.convert_to_tensor(self.moving_variance) + EPSILON)
        return scale, offset - tf.convert_to_tensor(self.moving_mean) * scale

    def _mixture(self, drawn: UnitDraw, mode) -> tuple[Mixture, tf.Tensor]:
        """Returns the mixture of inner to outer channels and vector (outer,) that aggregate.

        For `pad` the diagonal (inner,) and a vector (inner,).
        """
        tables, sizes = self._tables(mode), drawn.sizes
        if self.aggregation == "pad":
            weights = tf.cast(drawn.weights, tables[0].dtype)[:, None]
            mix, shift = (
                tf.reduce_sum(weights * self._drawn(table, drawn.indices), axis=0)
                for table in tables
            )
            if sizes is None:
                return mix, shift
            return tuple(tf.slice(vector, [0], sizes.computed) for vector in (mix, shift))
        taps = drawn.taps
        shares = tf.cast(taps.shares, tables[0].dtype)
        scales, offsets = (shares * tf.gather_nd(table, taps.places) for table in tables)
        mixture, given = (None, [self.channels]) if sizes is None else (sizes.mixture, sizes.given)
        mix = make_mixture(taps.entries, scales, self.channels, mixture)
        return mix, tf.scatter_nd(taps.columns, offsets, given)

    def _drawn(self, table: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        """Returns the (k, C) rows of drawn candidates, zero where a candidate has no channel."""
        return tf.gather(table * tf.constant(self.channel_mask, table.dtype), indices)

    def _mix(self, z: tf.Tensor, mix: Mixture, shift: tf.Tensor, sizes) -> tf.Tensor:
        if self.aggregation == "pad":
            return _resize(z * tf.cast(mix, z.dtype) + tf.cast(shift, z.dtype), sizes)
        return mix_channels(z, mix, shift)

    def _normalize_and_mix(self, z, mix, shift, sizes) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if self.aggregation == "pad":
            y, mean, variance = batch_normalize(z, mix, shift, synchronized=self.synchronized)
            return _resize(y, sizes), mean, variance
        ones = tf.ones([self.channels]) if sizes is None else tf.fill(sizes.computed, 1.0)
        ones = tf.cast(ones, shift.dtype)
        if isinstance(mix, tuple):
            normalized, mean, variance = batch_normalize(
                z, ones, tf.zeros_like(ones), synchronized=self.synchronized
            )
            return mix_channels(normalized, mix, shift), mean, variance
        return normalize_and_mix(z, mix, shift, ones, self.synchronized)

    def _fold(self, x, mix, shift, sizes) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """As `_normalize_and_mix` of a 1x1 convolution, without its output.

        With mean m and covariance S of the input, `mean(x K) = m K`, `var(x K) = diag(K' S K)`:
        normalization and mixture are one small matrix behind the kernel.
        """
        # Products of bfloat16 are too coarse for variances.
        wide = tf.cast(x, shift.dtype)
        kernel = self._sliced_kernel(wide, sizes)[0, 0]
        mean, covariance, count = input_moments(wide, self.synchronized)
        z_mean = tf.linalg.matmul(mean[None], kernel)[0]
        variance = tf.reduce_sum(kernel * tf.linalg.matmul(covariance, kernel), axis=0)
        variance = tf.maximum(variance, 0)
        folded = mix_channels(kernel * tf.math.rsqrt(variance + EPSILON), mix)
        y = mix_with_mean(x, mean, folded, shift)
        return y, tf.stop_gradient(z_mean), tf.stop_gradient(unbiased(variance, count))

    def _plain(self, x, drawn: UnitDraw, mode) -> tf.Tensor:
        z = self._convolve(x)
        indices, weights = drawn.indices, drawn.weights
        widths = tf.gather(tf.constant(self.candidates, tf.int32), indices)
        matrices = interpolation_matrix(
            widths, drawn.width, self.channels, self.channels, self.variable_dtype
        )
        scales, offsets = (self._drawn(table, indices) for table in self._tables(mode))
        mask = tf.gather(tf.constant(self.channel_mask, z.dtype), indices)
        y = tf.zeros_like(z)
        for k in range(indices.shape[0]):
            candidate, mean, variance = batch_normalize(
                z * mask[k], scales[k], offsets[k], synchronized=self.synchronized
            )
            if self.aggregation == "interpolate":
                candidate = tf.linalg.matmul(candidate, tf.cast(matrices[k], z.dtype))
            y += tf.cast(weights[k], z.dtype) * candidate
            if mode == WEIGHTS:
                # A pair of a unit's only candidate names it twice: its averages move once.
                again = tf.reduce_any(indices[:k] == indices[k])
                one = tf.one_hot(indices[k], len(self.candidates), dtype=weights.dtype)
                moved = tf.where(again, tf.zeros_like(one), one * drawn.counted)
                self._move_averages(moved, mean, variance)
        return y

    def _move_averages(self, counted, mean: tf.Tensor, variance: tf.Tensor, sizes=None) -> None:
        counted = tf.cast(counted, mean.dtype)
        share = tf.expand_dims(counted, 1) * ((1 - MOMENTUM) * self.channel_mask)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            if sizes is not None:
                value = tf.pad(value, sizes.missing)
            move(average, value, share, self.synchronized)


def pool_shortcut(x: tf.Tensor, stride: int) -> tf.Tensor:
    """Returns the 2x2 average pooling of a strided shortcut; odd sizes round up."""
    return x if stride == 1 else tf.nn.avg_pool2d(x, 2, stride, "SAME")


def _resize(x: tf.Tensor, sizes) -> tf.Tensor:
    """Returns x (batch, height, width, inner) with `outer` channels: zeros added, or cut off."""
    if sizes is None:
        return x
    (inner,), (outer,) = tf.unstack(sizes.computed), tf.unstack(sizes.given)
    return tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, tf.maximum(outer - inner, 0)]])[..., :outer]
