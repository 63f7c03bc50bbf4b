"""Shape plans: the number of channels that each unit computes and gives under a draw.

`StaticPlan` and `DrawnPlan` have the same method, each for its kind of shapes (`shapes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tas_tf.layers.searchable_stage import SearchableBlock, SearchableStage
from tas_tf.layers.searchable_unit import SearchableUnit
from tas_tf.layers.shapes import UnitShapes, drawn_shapes, round_up, static_shapes


class StaticPlan:
    """Every channel, whatever is drawn.

    Args:
        stem: The unit before all stages.
        stages: The stages.
    """

    def __init__(self, stem: SearchableUnit, stages: Sequence[SearchableStage]):
        self._channels = [unit.channels for unit in _units(stem, stages)]

    def unit_shapes(self, widths: tf.Tensor, weights: tf.Tensor) -> UnitShapes:
        """Returns the shapes of all units.

        Args:
            widths: (units, k) int32, drawn widths.
            weights: (units, k), their weights.
        """
        del widths, weights
        return static_shapes(self._channels)


class DrawnPlan:
    """The channels that a draw has: see `StaticPlan` for arguments."""

    def __init__(self, stem: SearchableUnit, stages: Sequence[SearchableStage]):
        units = _units(stem, stages)
        blocks = [block for stage in stages for block in stage.blocks]
        self._aggregation = stem.aggregation
        self._channels = [unit.channels for unit in units]
        self._kernels = np.array([unit.kernel.shape for unit in units], np.int32)
        self._streams = _streams(blocks)
        ends = np.cumsum([1, *(len(block.units) for block in blocks)]) - 1
        # For every unit whether another of its block follows.
        self._inner = ~np.isin(np.arange(len(units)), ends)

    def unit_shapes(self, widths: tf.Tensor, weights: tf.Tensor) -> UnitShapes:
        """Returns the shapes of all units, see `StaticPlan.unit_shapes`.

        Units at the ends of blocks that identities join give the same number of channels.
        """
        counted = tf.where(weights > 0, widths, 0)
        given = self._aggregation.given(widths, counted)
        # Within a block that no depth has, nothing needs to be handed on.
        absent = tf.constant(self._inner) & (tf.reduce_max(counted, axis=1) == 0)
        given = tf.where(absent, 0, given)
        streams = tf.constant(self._streams)
        count = max(self._streams) + 1
        given = tf.gather(tf.math.unsorted_segment_max(given, streams, count), streams)
        channels = tf.constant(self._channels)
        computed = round_up(tf.reduce_max(counted, axis=1), channels)
        given = round_up(given, channels)
        # A unit is given what the one before it gives, the stem the images.
        inputs = tf.concat([self._kernels[:1, 2], given[:-1]], 0)
        return drawn_shapes(self._kernels, inputs, computed, given)


PLANS: dict[str, type[StaticPlan] | type[DrawnPlan]] = {"static": StaticPlan, "drawn": DrawnPlan}


def _units(stem: SearchableUnit, stages: Sequence[SearchableStage]) -> list[SearchableUnit]:
    return [stem] + [unit for stage in stages for block in stage.blocks for unit in block.units]


def _streams(blocks: Sequence[SearchableBlock]) -> list[int]:
    """Returns for every unit a number that it shares with those it is added to by identity."""
    streams, stream = [0], 0
    for block in blocks:
        inside = range(len(streams), len(streams) + len(block.units) - 1)
        if block.projection is not None:
            stream = inside.stop
        streams += [*inside, stream]
    return streams
