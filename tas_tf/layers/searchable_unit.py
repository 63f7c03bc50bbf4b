"""The searchable unit: a convolution of open width (docs/method.md 4).

Layers do not cast by themselves (`autocast=False`): maps and kernels are in the compute type,
scales, offsets, weights of candidates and statistics in the variables' type. All shapes are those
of the unpruned network. A map of fewer channels has zeros in the others, and its width is passed
beside it as a scalar.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.errors import SpecError
from tas_tf.layers.aggregation import AGGREGATIONS, Interpolation, Padding, Tables
from tas_tf.layers.mixing import Mixture, mix_with_mean
from tas_tf.layers.normalization import EPSILON, MOMENTUM, input_moments, move, unbiased
from tas_tf.layers.shapes import Shapes
from tas_tf.layers.unit_draws import UnitDraw
from tas_tf.spaces.families import Layer


class Mode(enum.Enum):
    """How a forward pass treats batch normalization."""

    WEIGHTS = "the batch's statistics, which the averages move towards"
    ARCHITECTURE = "the batch's statistics, and no average moves"
    INFERENCE = "the averages"


class SearchableUnit(keras.layers.Layer):
    """A convolution, one batch normalization per candidate width, and their weighted sum.

    `y = sum_k w_k * CWI(BN_k(z[..., :c_k]), c)` with `z = conv(x, K)` and `c = max_k c_k`
    (docs/method.md 4). Candidates see the same `z`, so on shared channels their batch statistics
    are the same; scales, offsets, interpolation and sum are linear over channels. So the unit
    normalizes once, and applies one small matrix and one vector.

    Args:
        layer: Where the unit stands: kernel, stride, ReLU.
        in_channels: Channels of the input in the unpruned network.
        candidates: Candidate widths, ascending; the last is the unpruned width C.
        aggregation: `interpolate` (the paper) or `pad` (each channel stays where it is).
        private: Whether every candidate has a normalization of its own, or all share that of the
            widest.
        zero_scale: Whether scales start at zero.
        synchronized: Whether statistics are those of all replicas, or each replica has its own.
    """

    def __init__(
        self,
        layer: Layer,
        in_channels: int,
        candidates: Sequence[int],
        aggregation: str = "interpolate",
        private: bool = True,
        zero_scale: bool = False,
        synchronized: bool = True,
        **kwargs: Any,
    ):
        super().__init__(name=layer.name, autocast=False, **kwargs)
        if aggregation not in AGGREGATIONS:
            raise SpecError(
                f"aggregation: expected one of {list(AGGREGATIONS)}. Received: {aggregation!r}"
            )
        self.layer = layer
        self.candidates = tuple(candidates)
        self.channels = self.candidates[-1]
        self.aggregation = AGGREGATIONS[aggregation]
        self.synchronized = synchronized
        # (candidates, C): which channels a candidate has.
        self.channel_mask = np.arange(self.channels) < np.array(self.candidates)[:, None]
        # (rows, C): which channels a row of scales, offsets and averages has.
        self.row_mask = self.channel_mask if private else self.channel_mask[-1:]
        self._add_variables(in_channels, zero_scale)

    def _add_variables(self, in_channels: int, zero_scale: bool) -> None:
        vectors = self.row_mask.shape
        mask = self.row_mask.astype("float32")
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

    def call(self, x: tf.Tensor, drawn: UnitDraw, mode: Mode) -> tf.Tensor:
        """Returns the unit's output before any ReLU.

        Args:
            x: (batch, height, width, channels), zeros in channels that are missing; those beyond
                its last channel are missing too.
            drawn: What it is told of the draw, see `unit_draws.draw_units`.
            mode: How batch normalization is treated.

        Returns:
            (batch, height, width, given), given as the drawn shapes say, zeros beyond the widest
            drawn candidate.
        """
        if self.layer.kind == "projection":
            x = pool_shortcut(x, self.layer.stride)
        aggregation = self.aggregation_of(drawn)
        if mode is Mode.INFERENCE:
            factor, vector = aggregation.sum_of_candidates(self._folded_tables(), drawn)
            z = self._convolve(x, drawn.shapes)
            return aggregation.apply(z, factor, vector, drawn.shapes)
        factor, vector = aggregation.sum_of_candidates(self._tables(), drawn)
        if aggregation.mixes and self._may_fold(x, drawn.shapes):
            y, mean, variance = self._fold(x, factor, vector, drawn.shapes)
        else:
            y, mean, variance = aggregation.normalize(
                self._convolve(x, drawn.shapes), factor, vector, drawn.shapes, self.synchronized
            )
        if mode is Mode.WEIGHTS:
            self._move_averages(drawn.counted, mean, variance, drawn.shapes)
        return y

    def aggregation_of(self, drawn: UnitDraw) -> Interpolation | Padding:
        """Returns how a draw's candidates are put together: one alone needs no interpolation."""
        return self.aggregation if drawn.taps is not None else AGGREGATIONS["pad"]

    def _may_fold(self, x: tf.Tensor, shapes: Shapes) -> bool:
        """Whether the batch's statistics are cheaper to have from the input than the output."""
        strided = self.layer.stride > 1 and self.layer.kind != "projection"
        if self.layer.kernel != (1, 1) or strided:
            return False
        # For every pixel: covariance, its product with the kernel, the kernel's mixture; or the
        # map's mixture. Where the batch is not known it is taken to be large.
        inside, outside = self.kernel.shape[2:]
        pixels = x.shape[0] * self.layer.size[0] * self.layer.size[1] if x.shape[0] else math.inf
        mixing = shapes.mixing_cost
        return inside * (inside + (inside * outside + mixing) / pixels) <= mixing

    def _convolve(self, x: tf.Tensor, shapes: Shapes) -> tf.Tensor:
        """Returns `z = conv(x, K)`: (batch, height, width, inputs) to (..., computed)."""
        kernel = shapes.cut_kernel(tf.cast(self.kernel, x.dtype))
        if self.layer.stride == 1 or self.layer.kind == "projection":
            return tf.nn.conv2d(x, kernel, 1, "SAME")
        # Padded apart: explicit padding in the convolution keeps its gradient off oneDNN.
        pads = [[0, 0], *([size // 2, size // 2] for size in self.layer.kernel), [0, 0]]
        return tf.nn.conv2d(tf.pad(x, pads), kernel, self.layer.stride, "VALID")

    def _tables(self) -> Tables:
        """Returns scales and offsets (candidates, C) behind the normalization."""
        scale, offset = tf.convert_to_tensor(self.scale), tf.convert_to_tensor(self.offset)
        mask = tf.constant(self.channel_mask, scale.dtype)
        if len(self.row_mask) < len(self.channel_mask):
            scale, offset = scale * mask, offset * mask
        return Tables(scale, offset, mask)

    def _folded_tables(self) -> Tables:
        """Returns scales and offsets (candidates, C) that are all of a fixed normalization."""
        tables = self._tables()
        scale = tables.scale * tf.math.rsqrt(tf.convert_to_tensor(self.moving_variance) + EPSILON)
        offset = tables.offset - tf.convert_to_tensor(self.moving_mean) * scale
        return tables._replace(scale=scale, offset=offset)

    def _fold(
        self, x: tf.Tensor, mixture: Mixture, vector: tf.Tensor, shapes: Shapes
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns what `Interpolation.normalize` does of a 1x1 convolution, without its output.

        With mean m and covariance S of the input, `mean(x K) = m K`, `var(x K) = diag(K' S K)`:
        normalization and mixture are one small matrix behind the kernel.

        Args:
            x: (batch, height, width, inputs).
            mixture: Mixture of computed to given channels.
            vector: (given,).
            shapes: What is computed and given.
        """
        # Products of bfloat16 are too coarse for variances.
        wide = tf.cast(x, vector.dtype)
        kernel = shapes.cut_kernel(tf.cast(self.kernel, vector.dtype))[0, 0]
        mean, covariance, count = input_moments(wide, self.synchronized)
        z_mean = tf.linalg.matmul(mean[None], kernel)[0]
        variance = tf.reduce_sum(kernel * tf.linalg.matmul(covariance, kernel), axis=0)
        variance = tf.maximum(variance, 0)
        folded = mixture.mix(kernel * tf.math.rsqrt(variance + EPSILON))
        y = mix_with_mean(x, mean, folded, vector)
        return y, tf.stop_gradient(z_mean), tf.stop_gradient(unbiased(variance, count))

    def _move_averages(
        self, counted: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, shapes: Shapes
    ) -> None:
        """Moves the averages of candidates that count towards the batch's statistics.

        Args:
            counted: (candidates,), ones for those that count.
            mean: (computed,).
            variance: (computed,), unbiased.
            shapes: What is computed.
        """
        counted = tf.cast(counted, mean.dtype)
        if len(self.row_mask) < len(self.channel_mask):
            # A shared average moves in the channels of the widest candidate that counts.
            counted = tf.reduce_max(counted[:, None] * self.channel_mask, axis=0, keepdims=True)
            share = (1 - MOMENTUM) * counted
        else:
            share = tf.expand_dims(counted, 1) * ((1 - MOMENTUM) * self.channel_mask)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            move(average, shapes.restored(value), share, self.synchronized)


def pool_shortcut(x: tf.Tensor, stride: int) -> tf.Tensor:
    """Returns the 2x2 average pooling of a strided shortcut; odd sizes round up."""
    return x if stride == 1 else tf.nn.avg_pool2d(x, 2, stride, "SAME")
