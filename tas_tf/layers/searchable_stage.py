"""The searchable block and stage: residual blocks of open widths, stages of open depth
(docs/method.md 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tas_tf.layers.aggregation import AGGREGATIONS
from tas_tf.layers.mixing import scaled
from tas_tf.layers.searchable_unit import Mode, SearchableUnit
from tas_tf.layers.shapes import Shapes
from tas_tf.layers.streams import Shortcut
from tas_tf.layers.unit_draws import BlockDraw
from tas_tf.spaces.families import BlockLayers


class SearchableBlock(keras.layers.Layer):
    """A residual block of searchable units (docs/method.md 4).

    Args:
        layers: Where its layers stand.
        in_channels: Channels of the input in the unpruned network.
        candidates: For every unit its candidate widths.
        shortcut: What its shortcut may be.
        zero_last_scale: Whether the last unit's scales start at zero.
        make_unit: `SearchableUnit`, or a class that is made as it is.
        options: Further arguments of `SearchableUnit`.
    """

    def __init__(
        self,
        layers: BlockLayers,
        in_channels: int,
        candidates: Sequence[Sequence[int]],
        shortcut: Shortcut,
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
        self.shortcut = shortcut
        # Whether the unpruned network has a projection here.
        self.is_projected_unpruned = layers.needs_projection(in_channels, channels)
        self.projection: Any = None
        if shortcut.projection:
            self.projection = make_unit(layers.projection, in_channels, candidates[-1], **options)
        self.built = True

    def call(
        self, x: tf.Tensor, channels: tf.Tensor, drawn: BlockDraw, mode: Mode
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the block's output and its width.

        Args:
            x: (batch, height, width, in_channels).
            channels: Width of `x`, a scalar int32.
            drawn: What it is told of the draw.
            mode: How batch normalization is treated.
        """
        y = x
        for unit, of_unit in zip(self.units, drawn.units, strict=True):
            y = unit(y, drawn=of_unit, mode=mode)
            if unit.layer.relu:
                y = tf.nn.relu(y)
        last = drawn.units[-1]
        if self.projection is None:
            # Both have zeros beyond their widths: the sum is over the channels they share.
            return tf.nn.relu(tf.add_n([x, y])), tf.maximum(channels, last.width)
        return tf.nn.relu(tf.add_n([*self._shortcuts(x, channels, drawn, mode), y])), last.width

    def _shortcuts(
        self, x: tf.Tensor, channels: tf.Tensor, drawn: BlockDraw, mode: Mode
    ) -> list[tf.Tensor]:
        """Returns the projection, the identity, or both by their shares; see `call`."""

        def projected() -> tf.Tensor:
            return self.projection(x, drawn=drawn.projection, mode=mode)

        if drawn.identity is None:
            return [projected()]
        if drawn.in_path is not None:  # a path has one of the two
            return [tf.cond(drawn.identity[0] > 0, lambda: x, projected)]
        aggregation = self.units[-1].aggregation
        return [projected(), aggregation.carried(x, channels, drawn.identity, drawn.units[-1])]

    def call_if(
        self, wanted: tf.Tensor, x: tf.Tensor, channels: tf.Tensor, drawn: BlockDraw, mode: Mode
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what the block gives if it is wanted, else its input; see `call`."""

        def computed() -> tuple[tf.Tensor, tf.Tensor]:
            return self(x, channels, drawn=drawn, mode=mode)

        return tf.cond(wanted, computed, lambda: (x, channels))


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
        joined: Whether widths never fall from block to block (`streams.PaperStreams`).
    """

    def __init__(
        self,
        name: str,
        blocks: Sequence[SearchableBlock],
        depths: Sequence[int],
        aggregation: str = "interpolate",
        dtype: str | None = None,
        zero_is_absent: bool = False,
        joined: bool = True,
    ):
        super().__init__(name=name, autocast=False, dtype=dtype)
        self.blocks = list(blocks)
        self.depths = tuple(depths)
        self.aggregation = AGGREGATIONS[aggregation]
        self.zero_is_absent = zero_is_absent
        self.joined = joined
        self.built = True

    def call(
        self,
        x: tf.Tensor,
        channels: tf.Tensor,
        depth_weights: tf.Tensor,
        draws: Sequence[BlockDraw],
        mode: Mode,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the stage's output and its width.

        Args:
            x: (batch, height, width, in_channels).
            channels: Width of `x`, a scalar int32.
            depth_weights: Weights of the candidate depths (at least as many entries).
            draws: What every block is told of the draw.
            mode: How batch normalization is treated.
        """
        if draws[-1].in_path is not None:
            return self._along_path(x, channels, draws, mode)
        outputs, widths = [], []
        for number, (block, drawn) in enumerate(zip(self.blocks, draws, strict=True), start=1):
            x, channels = block(x, channels, drawn=drawn, mode=mode)
            if number in self.depths:
                outputs.append(x)
                widths.append(channels)
        if len(outputs) == 1:
            return x, channels
        shares = tf.unstack(depth_weights[: len(outputs)])
        return self._summed(outputs, widths, shares, draws[-1].units[-1].shapes)

    def _along_path(
        self, x: tf.Tensor, channels: tf.Tensor, draws: Sequence[BlockDraw], mode: Mode
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the output of the blocks that a path has, and its width; see `call`."""
        for number, (block, drawn) in enumerate(zip(self.blocks, draws, strict=True), start=1):
            if number <= self.depths[0]:
                x, channels = block(x, channels, drawn=drawn, mode=mode)
            else:
                x, channels = block.call_if(drawn.in_path, x, channels, drawn, mode)
        return x, channels

    def _summed(
        self,
        outputs: Sequence[tf.Tensor],
        widths: Sequence[tf.Tensor],
        shares: Sequence[tf.Tensor],
        shapes: Shapes,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the weighted sum of the outputs of all depths, and its width.

        Args:
            outputs: The outputs, all of one height and width.
            widths: Their widths.
            shares: Their weights.
            shapes: Those of the last unit of the stage.
        """
        options: dict[str, Any] = {"shapes": shapes, "zero_is_absent": self.zero_is_absent}
        several = list(zip(outputs, shares, widths, strict=True))
        if self.joined:
            # The last is the widest.
            summed = [
                self.aggregation.widened(x, share, width, widths[-1], **options)
                for x, share, width in several[:-1]
            ]
            return tf.add_n([*summed, scaled(outputs[-1], shares[-1])]), widths[-1]
        # What weighs nothing widens nothing.
        present = tf.where(tf.stack(shares) > 0, tf.stack(widths), 0)
        widest = tf.reduce_max(present)
        summed = [
            self.aggregation.resampled(x, share, width, widest, **options)
            for x, share, width in several
        ]
        return tf.add_n(summed), widest
