"""Searchable layers: unit, block and stage of open widths and depth (docs/method.md 4).

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

from tas_tf.blocks import BlockLayers, Layer
from tas_tf.errors import SpecError
from tas_tf.interpolation import interpolation_matrix
from tas_tf.mixing import (
    TAPPED_COST,
    Mixture,
    is_tapped,
    make_mixture,
    mix_channels,
    mix_with_mean,
    mixture_taps,
    normalizing_mixture,
    scaled,
    widen,
)
from tas_tf.normalization import (
    EPSILON,
    MOMENTUM,
    batch_moments,
    batch_normalize,
    input_moments,
    move,
    over_replicas,
)

AGGREGATIONS = ("interpolate", "pad")
FORMULATIONS = ("fused", "plain")
GRAIN = 16  # what `round_up` rounds to

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

    def widths(self, indices: tf.Tensor) -> tf.Tensor:
        """Returns the widths (k,) of drawn candidates, and so their largest by `reduce_max`."""
        return tf.gather(tf.constant(self.candidates, tf.int32), indices)

    def call(self, x, indices, weights, mode, sizes=None, taps=None):
        """Returns the unit's output before any ReLU.

        Args:
            x: (batch, height, width, channels), zeros in channels that are missing; those beyond
                its last channel are missing too.
            indices: (k,) int32, drawn candidates.
            weights: (k,), their weights. A candidate of weight zero is not looked at.
            mode: `WEIGHTS`, `ARCHITECTURE` or `INFERENCE`.
            sizes: How many channels are computed, at least the widest candidate of weight above
                zero, and how many the output gets, at least the widest drawn one; None for C.
            taps: What mixes the candidates, where that is known; see `mixture_taps`.

        Returns:
            (batch, height, width, C or as `sizes` says), zeros beyond the widest drawn candidate.
        """
        if self.layer.kind == "projection":
            x = pool_shortcut(x, self.layer.stride)
        if mode != INFERENCE and self.formulation == "plain":
            return self._plain(x, indices, weights, mode)
        mix, shift = self._mixture(indices, weights, taps, mode, sizes)
        if mode == INFERENCE:
            return self._mix(self._convolve(x, sizes), mix, shift, sizes)
        if self.aggregation == "interpolate" and self._may_fold(x, sizes):
            y, mean, variance = self._fold(x, mix, shift, sizes)
        else:
            y, mean, variance = self._normalize_and_mix(self._convolve(x, sizes), mix, shift, sizes)
        if mode == WEIGHTS:
            self._move_averages(indices, weights, mean, variance)
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
        return tf.slice(kernel, [0] * 4, [*self.layer.kernel, tf.shape(x)[-1], sizes[0]])

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

    def _mixture(self, indices, weights, taps, mode, sizes) -> tuple[Mixture, tf.Tensor]:
        """Returns the mixture (inner, outer) and vector (outer,) that aggregate.

        For `pad` the diagonal (inner,) and a vector (inner,).
        """
        tables = self._tables(mode)
        weights = tf.cast(weights, tables[0].dtype)
        if self.aggregation == "pad":
            mix, shift = (
                tf.reduce_sum(weights[:, None] * self._drawn(table, indices), axis=0)
                for table in tables
            )
            return (mix, shift) if sizes is None else (mix[: sizes[0]], shift[: sizes[0]])
        if taps is None:
            widths = self.widths(indices)
            (taps,) = mixture_taps(indices[None], widths[None], weights[None], self.channels)
        scales, offsets = (tf.gather(tf.reshape(t, [-1]), taps.places) for t in tables)
        shift = tf.reduce_sum(tf.reshape(offsets * taps.shares, [-1, self.channels]), axis=0)
        mix = make_mixture(taps.entries, scales * taps.shares, self.channels, sizes)
        return mix, shift if sizes is None else shift[: sizes[1]]

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
        if over_replicas(self.synchronized):
            # Between the statistics and the map lies a message: the mixture normalizes, too.
            mean, variance, unbiased = batch_moments(z)
            return normalizing_mixture(z, mean, variance, mix, shift), mean, variance * unbiased
        ones = tf.ones(tf.shape(z)[-1:], shift.dtype)
        normalized, mean, variance = batch_normalize(
            z, ones, tf.zeros_like(ones), synchronized=self.synchronized
        )
        return mix_channels(normalized, mix, shift), mean, variance

    def _fold(self, x, mix, shift, sizes) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """As `_normalize_and_mix` of a 1x1 convolution, without its output.

        With mean m and covariance S of the input, `mean(x K) = m K`, `var(x K) = diag(K' S K)`:
        normalization and mixture are one small matrix behind the kernel.
        """
        # Products of bfloat16 are too coarse for variances.
        wide = tf.cast(x, shift.dtype)
        kernel = self._sliced_kernel(wide, sizes)[0, 0]
        mean, covariance, unbiased = input_moments(wide, self.synchronized)
        z_mean = tf.linalg.matmul(mean[None], kernel)[0]
        variance = tf.reduce_sum(kernel * tf.linalg.matmul(covariance, kernel), axis=0)
        variance = tf.maximum(variance, 0)
        folded = mix_channels(kernel * tf.math.rsqrt(variance + EPSILON), mix)
        y = mix_with_mean(x, mean, folded, shift)
        return y, tf.stop_gradient(z_mean), tf.stop_gradient(variance * unbiased)

    def _plain(self, x, indices, weights, mode) -> tf.Tensor:
        z = self._convolve(x)
        widths = self.widths(indices)
        matrices = interpolation_matrix(
            widths, tf.reduce_max(widths), self.channels, self.channels, self.variable_dtype
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
                moved = tf.reduce_any(indices[:k] == indices[k])
                own = tf.where(moved, len(self.candidates), indices[k])
                self._move_averages(own[None], weights[k : k + 1], mean, variance)
        return y

    def _move_averages(self, indices, weights, mean: tf.Tensor, variance: tf.Tensor) -> None:
        drawn = tf.one_hot(indices, len(self.candidates), dtype=mean.dtype)
        drawn = tf.reduce_max(tf.where(weights[:, None] > 0, drawn, 0), axis=0)
        share = (1 - MOMENTUM) * drawn[:, None] * tf.constant(self.channel_mask, mean.dtype)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            if value.shape[0] != self.channels:
                value = tf.pad(value, [[0, self.channels - tf.shape(value)[0]]])
            move(average, value, share, self.synchronized)


class SearchableBlock(keras.layers.Layer):
    """A residual block of searchable units (docs/method.md 4).

    Args:
        layers: Where its layers stand.
        in_channels: Channels of the input in the unpruned network.
        candidates: For every unit its candidate widths.
        zero_last_scale: Whether the last unit's scales start at zero.
        options: Further arguments of `SearchableUnit`.
    """

    def __init__(
        self,
        layers: BlockLayers,
        in_channels: int,
        candidates: Sequence[Sequence[int]],
        zero_last_scale: bool = False,
        **options,
    ):
        name = layers.projection.name.removesuffix("_projection")
        super().__init__(name=name, autocast=False, dtype=options.get("dtype"))
        self.units = []
        channels = in_channels
        for layer, widths in zip(layers.units, candidates, strict=True):
            last = layer is layers.units[-1]
            zero_scale = zero_last_scale and last
            self.units.append(
                SearchableUnit(layer, channels, widths, zero_scale=zero_scale, **options)
            )
            channels = widths[-1]
        self.projection = None
        if layers.needs_projection(in_channels, channels):
            self.projection = SearchableUnit(
                layers.projection, in_channels, candidates[-1], **options
            )
        self.built = True

    def call(self, x, channels, indices, weights, mode, sizes=None, taps=None):
        """Returns the block's output and its width.

        Args:
            x: (batch, height, width, in_channels).
            channels: Width of `x`, a scalar int32.
            indices: For every unit its drawn candidates (k,).
            weights: For every unit their weights (k,).
            mode: See `SearchableUnit.call`.
            sizes: For every unit the channels that it computes and gives, see there.
            taps: For every unit what mixes its candidates, see there.
        """
        y = x
        sizes = sizes or [None] * len(self.units)
        taps = taps or [None] * len(self.units)
        for n, unit in enumerate(self.units):
            y = unit(y, indices[n], weights[n], mode=mode, sizes=sizes[n], taps=taps[n])
            if unit.layer.relu:
                y = tf.nn.relu(y)
        width = tf.reduce_max(self.units[-1].widths(indices[-1]))
        if self.projection is None:
            # Both have zeros beyond their widths: the sum is over the channels they share.
            return tf.nn.relu(x + y), tf.maximum(channels, width)
        shortcut = self.projection(
            x, indices[-1], weights[-1], mode=mode, sizes=sizes[-1], taps=taps[-1]
        )
        return tf.nn.relu(shortcut + y), width


class SearchableStage(keras.layers.Layer):
    """Blocks at one resolution, and the aggregation over candidate depths (docs/method.md 4).

    `x = sum_l q_l * CWI(O_l, c)`, `O_l` the output of block l, `c` the widest of them.

    Args:
        name: Name of the stage.
        blocks: Its blocks.
        depths: Candidate depths, ascending.
        aggregation: `interpolate` or `pad`.
    """

    def __init__(
        self,
        name: str,
        blocks: Sequence[SearchableBlock],
        depths: Sequence[int],
        aggregation: str = "interpolate",
        dtype=None,
    ):
        super().__init__(name=name, autocast=False, dtype=dtype)
        self.blocks = list(blocks)
        self.depths = tuple(depths)
        self.aggregation = aggregation
        self.built = True

    def call(self, x, channels, indices, weights, depth_weights, mode, sizes=None, taps=None):
        """Returns the stage's output and its width.

        Args:
            x: (batch, height, width, in_channels).
            channels: Width of `x`, a scalar int32.
            indices: For every block and unit the drawn candidates (k,).
            weights: For every block and unit their weights (k,).
            depth_weights: Weights of the candidate depths (at least as many entries).
            mode: See `SearchableUnit.call`.
            sizes: For every block and unit the channels that it computes and gives; the last
                units of all blocks give the same.
            taps: For every block and unit what mixes its candidates.
        """
        outputs, widths = [], []
        sizes = sizes or [None] * len(self.blocks)
        taps = taps or [None] * len(self.blocks)
        members = zip(self.blocks, indices, weights, sizes, taps, strict=True)
        for number, (block, drawn, shares, size, known) in enumerate(members, start=1):
            x, channels = block(x, channels, drawn, shares, mode=mode, sizes=size, taps=known)
            if number in self.depths:
                outputs.append(x)
                widths.append(channels)
        if len(outputs) == 1:
            return x, channels
        shares = tf.unstack(depth_weights[: len(outputs)])
        # Identities join the blocks, so that widths never fall: the last is the widest.
        if self.aggregation == "interpolate":
            whole = self.blocks[-1].units[-1].channels
            ends = sizes[-1] and sizes[-1][-1]
            drawn = None if ends is None else tf.repeat(ends[1:], 2)
            summed = [
                widen(*of_depth, widths[-1], whole, drawn)
                for of_depth in zip(outputs[:-1], shares[:-1], widths[:-1], strict=True)
            ]
        else:
            summed = [scaled(*of_depth) for of_depth in zip(outputs[:-1], shares[:-1], strict=True)]
        return tf.add_n([*summed, scaled(outputs[-1], shares[-1])]), widths[-1]


def pool_shortcut(x: tf.Tensor, stride: int) -> tf.Tensor:
    """Returns the 2x2 average pooling of a strided shortcut; odd sizes round up."""
    return x if stride == 1 else tf.nn.avg_pool2d(x, 2, stride, "SAME")


def _resize(x: tf.Tensor, sizes) -> tf.Tensor:
    """Returns x (batch, height, width, inner) with `outer` channels: zeros added, or cut off."""
    if sizes is None:
        return x
    inner, outer = tf.unstack(sizes)
    return tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, tf.maximum(outer - inner, 0)]])[..., :outer]


def round_up(widths: tf.Tensor, channels: np.ndarray) -> tf.Tensor:
    """Returns sizes to compute widths in: few distinct ones, that devices like.

    Every distinct size costs a new primitive of the device's library, and sizes off its grid run
    in its slow ones: batch normalization of 24 channels takes longer than of 32.

    Args:
        widths: (n,) int32.
        channels: (n,), the unpruned widths, which are never exceeded.
    """
    return tf.minimum(-(-tf.maximum(widths, 1) // GRAIN) * GRAIN, tf.constant(channels, tf.int32))
