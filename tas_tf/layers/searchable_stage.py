"""The searchable block and stage: residual blocks of open widths, stages of open depth
(docs/method.md 4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tas_tf.layers.aggregation import AGGREGATIONS
from tas_tf.layers.mixing import scaled
from tas_tf.layers.searchable_unit import Mode, SearchableUnit
from tas_tf.layers.unit_draws import UnitDraw
from tas_tf.spaces.families import BlockLayers


class SearchableBlock(keras.layers.Layer):
    """A residual block of searchable units (docs/method.md 4).

    Args:
        layers: Where its layers stand.
        in_channels: Channels of the input in the unpruned network.
        candidates: For every unit its candidate widths.
        zero_last_scale: Whether the last unit's scales start at zero.
        make_unit: `SearchableUnit`, or a class that is made as it is.
        options: Further arguments of `SearchableUnit`.
    """

    def __init__(
        self,
        layers: BlockLayers,
        in_channels: int,
        candidates: Sequence[Sequence[int]],
        zero_last_scale: bool = False,
        make_unit: type[SearchableUnit] = SearchableUnit,
        **options: Any,
    ):
        name = layers.projection.name.removesuffix("_projection")
        super().__init__(name=name, autocast=False, dtype=options.get("dtype"))
        self.units = []
        channels = in_channels
        for layer, widths in zip(layers.units, candidates, strict=True):
            zero_scale = zero_last_scale and layer is layers.units[-1]
            unit = make_unit(layer, channels, widths, zero_scale=zero_scale, **options)
            self.units.append(unit)
            channels = widths[-1]
        self.projection = None
        if layers.needs_projection(in_channels, channels):
            self.projection = make_unit(layers.projection, in_channels, candidates[-1], **options)
        self.built = True

    def call(
        self, x: tf.Tensor, channels: tf.Tensor, draws: Sequence[UnitDraw], mode: Mode
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the block's output and its width.

        Args:
            x: (batch, height, width, in_channels).
            channels: Width of `x`, a scalar int32.
            draws: For every unit what it is told of the draw.
            mode: How batch normalization is treated.
        """
        y = x
        for unit, drawn in zip(self.units, draws, strict=True):
            y = unit(y, drawn=drawn, mode=mode)
            if unit.layer.relu:
                y = tf.nn.relu(y)
        width = draws[-1].width
        if self.projection is None:
            # Both have zeros beyond their widths: the sum is over the channels they share.
            return tf.nn.relu(tf.add_n([x, y])), tf.maximum(channels, width)
        # It draws as the last unit does, from the input of the first.
        sides = self.projection.layer.kernel
        shapes = draws[-1].shapes.of_projection(draws[0].shapes, sides)
        shortcut = self.projection(
            x, drawn=dataclasses.replace(draws[-1], shapes=shapes), mode=mode
        )
        return tf.nn.relu(tf.add_n([shortcut, y])), width


class SearchableStage(keras.layers.Layer):
    """Blocks at one resolution, and the aggregation over candidate depths (docs/method.md 4).

    `x = sum_l q_l * CWI(O_l, c)`, `O_l` the output of block l, `c` the widest of them.

    Args:
        name: Name of the stage.
        blocks: Its blocks.
        depths: Candidate depths, ascending.
        aggregation: `interpolate` or `pad`.
        zero_is_absent: Whether a depth of weight zero has no gradient either, as all but the
            straight-through estimator have it (`sampling.draw`).
    """

    def __init__(
        self,
        name: str,
        blocks: Sequence[SearchableBlock],
        depths: Sequence[int],
        aggregation: str = "interpolate",
        dtype: str | None = None,
        zero_is_absent: bool = False,
    ):
        super().__init__(name=name, autocast=False, dtype=dtype)
        self.blocks = list(blocks)
        self.depths = tuple(depths)
        self.aggregation = AGGREGATIONS[aggregation]
        self.zero_is_absent = zero_is_absent
        self.built = True

    def call(
        self,
        x: tf.Tensor,
        channels: tf.Tensor,
        depth_weights: tf.Tensor,
        draws: Sequence[Sequence[UnitDraw]],
        mode: Mode,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the stage's output and its width.

        Args:
            x: (batch, height, width, in_channels).
            channels: Width of `x`, a scalar int32.
            depth_weights: Weights of the candidate depths (at least as many entries).
            draws: For every block and unit what it is told of the draw; the last units of all
                blocks give equally many channels.
            mode: How batch normalization is treated.
        """
        outputs, widths = [], []
        for number, (block, drawn) in enumerate(zip(self.blocks, draws, strict=True), start=1):
            x, channels = block(x, channels, draws=drawn, mode=mode)
            if number in self.depths:
                outputs.append(x)
                widths.append(channels)
        if len(outputs) == 1:
            return x, channels
        shares = tf.unstack(depth_weights[: len(outputs)])
        # Identities join the blocks, so that widths never fall: the last is the widest.
        summed = [
            self.aggregation.widened(
                x=output,
                share=share,
                width=width,
                widest=widths[-1],
                shapes=draws[-1][-1].shapes,
                zero_is_absent=self.zero_is_absent,
            )
            for output, share, width in zip(outputs[:-1], shares[:-1], widths[:-1], strict=True)
        ]
        return tf.add_n([*summed, scaled(outputs[-1], shares[-1])]), widths[-1]
