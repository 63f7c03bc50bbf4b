"""Searchable layers: unit, block and stage of open widths and depth (docs/method.md 4).

Layers do not cast by themselves (`autocast=False`): maps and kernels are in the compute type,
scales, offsets, weights of candidates and statistics in the variables' type. All shapes are those
of the unpruned network. A map of fewer channels has zeros in the others, and its width travels
beside it as a scalar.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tas_tf.blocks import BlockLayers, Layer
from tas_tf.errors import SpecError
from tas_tf.interpolation import interpolation_matrix
from tas_tf.normalization import EPSILON, MOMENTUM, batch_normalize, move

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
    """

    def __init__(
        self,
        layer: Layer,
        in_channels: int,
        candidates: Sequence[int],
        aggregation: str = "interpolate",
        formulation: str = "fused",
        zero_scale: bool = False,
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
                aggregation="mean",
            )
            for name, initializer in (("moving_mean", "zeros"), ("moving_variance", "ones"))
        )
        self.built = True

    def widths(self, indices: tf.Tensor) -> tf.Tensor:
        """Returns the widths (k,) of drawn candidates, and so their largest by `reduce_max`."""
        return tf.gather(tf.constant(self.candidates, tf.int32), indices)

    def call(self, x, indices, weights, mode):
        """Returns the unit's output before any ReLU.

        Args:
            x: (batch, height, width, in_channels), zeros in channels that are missing.
            indices: (k,) int32, drawn candidates.
            weights: (k,), their weights.
            mode: `WEIGHTS`, `ARCHITECTURE` or `INFERENCE`.

        Returns:
            (batch, height, width, C), zeros beyond the widest drawn candidate.
        """
        z = self._convolve(x)
        if mode == INFERENCE:
            return self._from_averages(z, indices, weights)
        if self.formulation == "plain":
            return self._plain(z, indices, weights, mode)
        mix, shift = self._mixture(indices, weights, self._drawn(self.scale, indices),
                                   self._drawn(self.offset, indices))  # fmt: skip
        if self.aggregation == "pad":
            y, mean, variance = batch_normalize(z, mix, shift)
        else:
            ones = tf.ones([self.channels], mix.dtype)
            normalized, mean, variance = batch_normalize(z, ones, tf.zeros_like(ones))
            y = _mix_channels(normalized, mix, shift)
        if mode == WEIGHTS:
            self._move_averages(indices, mean, variance)
        return y

    def _convolve(self, x: tf.Tensor) -> tf.Tensor:
        kernel = tf.cast(self.kernel, x.dtype)
        if self.layer.kind == "projection":
            x = pool_shortcut(x, self.layer.stride)
            return tf.nn.conv2d(x, kernel, 1, "VALID")
        pads = [[0, 0], *([size // 2, size // 2] for size in self.layer.kernel), [0, 0]]
        return tf.nn.conv2d(x, kernel, self.layer.stride, pads)

    def _drawn(self, vectors: keras.Variable, indices: tf.Tensor) -> tf.Tensor:
        """Returns the (k, C) vectors of drawn candidates, zero where a candidate has no channel."""
        values = tf.convert_to_tensor(vectors)
        return tf.gather(values * tf.constant(self.channel_mask, values.dtype), indices)

    def _mixture(self, indices, weights, scales, offsets) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns matrix (C, C) and vector (C,) that aggregate; for `pad` the diagonal (C,)."""
        weights = tf.cast(weights, scales.dtype)
        if self.aggregation == "pad":
            return (
                tf.linalg.matvec(scales, weights, transpose_a=True),
                tf.linalg.matvec(offsets, weights, transpose_a=True),
            )
        matrices = weights[:, None, None] * self._interpolations(indices, scales.dtype)
        return (
            tf.reduce_sum(scales[:, :, None] * matrices, axis=0),
            tf.reduce_sum(tf.linalg.matvec(matrices, offsets, transpose_a=True), axis=0),
        )

    def _interpolations(self, indices: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Returns the (k, C, C) matrices from each drawn width to the widest."""
        widths = self.widths(indices)
        return interpolation_matrix(widths, tf.reduce_max(widths), self.channels, dtype)

    def _from_averages(self, z, indices, weights) -> tf.Tensor:
        variances = tf.gather(tf.convert_to_tensor(self.moving_variance), indices)
        means = tf.gather(tf.convert_to_tensor(self.moving_mean), indices)
        scales = self._drawn(self.scale, indices) * tf.math.rsqrt(variances + EPSILON)
        offsets = self._drawn(self.offset, indices) - means * scales
        mix, shift = self._mixture(indices, weights, scales, offsets)
        if self.aggregation == "pad":
            return z * tf.cast(mix, z.dtype) + tf.cast(shift, z.dtype)
        return _mix_channels(z, mix, shift)

    def _plain(self, z, indices, weights, mode) -> tf.Tensor:
        scales, offsets = self._drawn(self.scale, indices), self._drawn(self.offset, indices)
        matrices = self._interpolations(indices, scales.dtype)
        mask = tf.gather(tf.constant(self.channel_mask, z.dtype), indices)
        y = tf.zeros_like(z)
        for k in range(indices.shape[0]):
            candidate, mean, variance = batch_normalize(z * mask[k], scales[k], offsets[k])
            if self.aggregation == "interpolate":
                candidate = tf.linalg.matmul(candidate, tf.cast(matrices[k], z.dtype))
            y += tf.cast(weights[k], z.dtype) * candidate
            if mode == WEIGHTS:
                # A pair of a unit's only candidate names it twice: its averages move once.
                moved = tf.reduce_any(indices[:k] == indices[k])
                own = tf.where(moved, len(self.candidates), indices[k])
                self._move_averages(own[None], mean, variance)
        return y

    def _move_averages(self, indices: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> None:
        drawn = tf.reduce_max(tf.one_hot(indices, len(self.candidates), dtype=mean.dtype), axis=0)
        share = (1 - MOMENTUM) * drawn[:, None] * tf.constant(self.channel_mask, mean.dtype)
        move(self.moving_mean, mean, share)
        move(self.moving_variance, variance, share)


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

    def call(self, x, channels, indices, weights, mode):
        """Returns the block's output and its width.

        Args:
            x: (batch, height, width, in_channels).
            channels: Width of `x`, a scalar int32.
            indices: For every unit its drawn candidates (k,).
            weights: For every unit their weights (k,).
            mode: See `SearchableUnit.call`.
        """
        y = x
        for unit, drawn, share in zip(self.units, indices, weights, strict=True):
            y = unit(y, drawn, share, mode=mode)
            if unit.layer.relu:
                y = tf.nn.relu(y)
        width = tf.reduce_max(self.units[-1].widths(indices[-1]))
        if self.projection is None:
            # Both have zeros beyond their widths: the sum is over the channels they share.
            return tf.nn.relu(x + y), tf.maximum(channels, width)
        return tf.nn.relu(self.projection(x, indices[-1], weights[-1], mode=mode) + y), width


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

    def call(self, x, channels, indices, weights, depth_weights, mode):
        """Returns the stage's output and its width.

        Args:
            x: (batch, height, width, in_channels).
            channels: Width of `x`, a scalar int32.
            indices: For every block and unit the drawn candidates (k,).
            weights: For every block and unit their weights (k,).
            depth_weights: Weights of the candidate depths (at least as many entries).
            mode: See `SearchableUnit.call`.
        """
        outputs, widths = [], []
        for number, (block, drawn, shares) in enumerate(
            zip(self.blocks, indices, weights, strict=True), start=1
        ):
            x, channels = block(x, channels, drawn, shares, mode=mode)
            if number in self.depths:
                outputs.append(x)
                widths.append(channels)
        if len(outputs) == 1:
            return x, channels
        widest = tf.reduce_max(tf.stack(widths))
        if self.aggregation == "interpolate":
            matrices = interpolation_matrix(tf.stack(widths), widest, x.shape[-1], x.dtype)
            outputs = [
                tf.linalg.matmul(o, m) for o, m in zip(outputs, tf.unstack(matrices), strict=True)
            ]
        total = tf.add_n(
            [tf.cast(depth_weights[d], x.dtype) * output for d, output in enumerate(outputs)]
        )
        return total, widest


def pool_shortcut(x: tf.Tensor, stride: int) -> tf.Tensor:
    """Returns the 2x2 average pooling of a strided shortcut; odd sizes round up."""
    return x if stride == 1 else tf.nn.avg_pool2d(x, 2, stride, "SAME")


def _mix_channels(x: tf.Tensor, matrix: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """Returns `x @ matrix + vector` over channels, as a 1x1 convolution."""
    kernel = tf.cast(matrix, x.dtype)[None, None]
    return tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), tf.cast(vector, x.dtype))
