"""The searchable block and stage: residual blocks of open widths, stages of open depth
(docs/method.md 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from tas_tf.layers.mixing import (
    scaled,
    widen,
)
from tas_tf.layers.searchable_unit import SearchableUnit
from tas_tf.layers.unit_draws import Sizes, UnitDraw
from tas_tf.spaces.families import BlockLayers


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

    def call(self, x, channels, draws: Sequence[UnitDraw], mode):
        """Returns the block's output and its width.

        Args:
            x: (batch, height, width, in_channels).
            channels: Width of `x`, a scalar int32.
            draws: For every unit what it is told of the draw.
            mode: See `SearchableUnit.call`.
        """
        y = x
        for unit, drawn in zip(self.units, draws, strict=True):
            y = unit(y, drawn, mode=mode)
            if unit.layer.relu:
                y = tf.nn.relu(y)
        width = draws[-1].width
        if self.projection is None:
            # Both have zeros beyond their widths: the sum is over the channels they share.
            return tf.nn.relu(tf.add_n([x, y])), tf.maximum(channels, width)
        shortcut = self.projection(x, self._projection_draw(draws), mode=mode)
        return tf.nn.relu(tf.add_n([shortcut, y])), width

    def _projection_draw(self, draws: Sequence[UnitDraw]) -> UnitDraw:
        """It draws as the last unit does, from the input of the first."""
        first, last = draws[0].sizes, draws[-1].sizes
        if last is None:
            return draws[-1]
        kernel = tf.concat([self.projection.layer.kernel, first.kernel[2:3], last.computed], 0)
        uncut = tf.concat([[[0, 0], [0, 0]], first.uncut[2:3], last.uncut[3:]], 0)
        return draws[-1]._replace(sizes=last._replace(kernel=kernel, uncut=uncut))


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
        dtype=None,
        zero_is_absent: bool = False,
    ):
        super().__init__(name=name, autocast=False, dtype=dtype)
        self.blocks = list(blocks)
        self.depths = tuple(depths)
        self.aggregation = aggregation
        self.zero_is_absent = zero_is_absent
        self.built = True

    def call(self, x, channels, draws: Sequence[Sequence[UnitDraw]], depth_weights, mode):
        """Returns the stage's output and its width.

        Args:
            x: (batch, height, width, in_channels).
            channels: Width of `x`, a scalar int32.
            draws: For every block and unit what it is told of the draw; where the draw has sizes,
                the last units of all blocks give the same.
            depth_weights: Weights of the candidate depths (at least as many entries).
            mode: See `SearchableUnit.call`.
        """
        outputs, widths = [], []
        for number, (block, drawn) in enumerate(zip(self.blocks, draws, strict=True), start=1):
            x, channels = block(x, channels, drawn, mode=mode)
            if number in self.depths:
                outputs.append(x)
                widths.append(channels)
        if len(outputs) == 1:
            return x, channels
        shares = tf.unstack(depth_weights[: len(outputs)])
        # Identities join the blocks, so that widths never fall: the last is the widest.
        if self.aggregation == "interpolate":
            whole = self.blocks[-1].units[-1].channels
            size = _as_wide(draws[-1][-1].sizes)
            summed = [
                widen(*of_depth, widths[-1], whole, size, self.zero_is_absent)
                for of_depth in zip(outputs[:-1], shares[:-1], widths[:-1], strict=True)
            ]
        else:
            summed = [scaled(*of_depth) for of_depth in zip(outputs[:-1], shares[:-1], strict=True)]
        return tf.add_n([*summed, scaled(outputs[-1], shares[-1])]), widths[-1]


def _as_wide(sizes: Sizes | None) -> tf.Tensor | None:
    """Returns the size of a mixture from the given channels to as many; see `mixing.widen`."""
    return None if sizes is None else tf.concat([[1, 1], sizes.given, sizes.given], 0)
