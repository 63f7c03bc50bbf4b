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
        joined: Whether identities join the blocks of a stage (`streams.PaperStreams`).
    """

    def __init__(
        self, stem: SearchableUnit, stages: Sequence[SearchableStage], joined: bool = True
    ):
        del joined
        units, projections = _members(stem, stages)
        self._channels = [unit.channels for unit in units + projections]

    def unit_shapes(self, widths: tf.Tensor, weights: tf.Tensor, is_path: bool) -> UnitShapes:
        """Returns the shapes of all units, then those of all projections.

        Args:
            widths: (units and projections, k) int32, drawn widths.
            weights: (units and projections, k), their weights.
            is_path: Whether a single path is computed, and nothing else.
        """
        del widths, weights, is_path
        return static_shapes(self._channels)


class DrawnPlan:
    """The channels that a draw has: see `StaticPlan` for arguments."""

    def __init__(
        self, stem: SearchableUnit, stages: Sequence[SearchableStage], joined: bool = True
    ):
        units, projections = _members(stem, stages)
        self._aggregation = stem.aggregation
        self._channels = [unit.channels for unit in units + projections]
        self._kernels = np.array([u.kernel.shape for u in units + projections], np.int32)
        blocks = [block for stage in stages for block in stage.blocks]
        self._streams = _streams(blocks)
        ends = np.cumsum([1, *(len(block.units) for block in blocks)]) - 1
        # For every unit whether another of its block follows.
        self._inner = ~np.isin(np.arange(len(units)), ends)
        self._depth_ends = [] if joined else _depth_ends(stages, ends[1:])
        # Projections read what the first unit of their block reads, and give what its last gives.
        firsts = ends[:-1] + 1
        projecting = [b for b, block in enumerate(blocks) if block.projection is not None]
        self._reads = np.concatenate([np.arange(len(units)), firsts[projecting]])
        self._gives = np.concatenate([np.arange(len(units)), ends[1:][projecting]])

    def unit_shapes(self, widths: tf.Tensor, weights: tf.Tensor, is_path: bool) -> UnitShapes:
        """Returns the shapes of all units and projections, see `StaticPlan.unit_shapes`.

        Units at the ends of blocks that identities join give the same number of channels.
        """
        counted = tf.where(weights > 0, widths, 0)
        computed = tf.reduce_max(counted, axis=1)
        units = len(self._inner)
        if is_path:
            given = self._given_by_path(computed[:units])
        else:
            given = self._given(widths[:units], counted[:units])
        streams = tf.constant(self._streams)
        count = max(self._streams) + 1
        given = tf.gather(tf.math.unsorted_segment_max(given, streams, count), streams)
        channels = tf.constant(self._channels)
        computed = round_up(computed, channels)
        given = round_up(given, channels[:units])
        # A unit is given what the one before it gives, the stem the images.
        inputs = tf.concat([self._kernels[:1, 2], given[:-1]], 0)
        return drawn_shapes(
            self._kernels,
            inputs=tf.gather(inputs, tf.constant(self._reads)),
            computed=computed,
            given=tf.gather(given, tf.constant(self._gives)),
            fits=is_path,
        )

    def _given(self, widths: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        """Returns the channels (units,) that units give, of drawn and of counted widths."""
        given = self._aggregation.given(widths, counted)
        # Within a block that no depth has, nothing needs to be handed on.
        absent = tf.constant(self._inner) & (tf.reduce_max(counted, axis=1) == 0)
        given = tf.where(absent, 0, given)
        for last, others in self._depth_ends:
            # What a stage gives is as wide as the output of any of its depths.
            widest = tf.reduce_max(tf.gather(given, [last, *others]))
            given = tf.tensor_scatter_nd_update(given, [[last]], [widest])
        return given

    def _given_by_path(self, computed: tf.Tensor) -> tf.Tensor:
        """Returns the channels (units,) that units of one path give: those that they compute."""
        for last, others in self._depth_ends:
            # A stage gives what its last block gives that the path has.
            ends = tf.gather(computed, [*others, last])
            end = tf.reduce_max(tf.where(ends > 0, tf.range(len(others) + 1), 0))
            computed = tf.tensor_scatter_nd_update(computed, [[last]], [ends[end]])
        return computed


PLANS: dict[str, type[StaticPlan] | type[DrawnPlan]] = {"static": StaticPlan, "drawn": DrawnPlan}


def _members(
    stem: SearchableUnit, stages: Sequence[SearchableStage]
) -> tuple[list[SearchableUnit], list[SearchableUnit]]:
    """Returns the units and the projections, in order."""
    blocks = [block for stage in stages for block in stage.blocks]
    units = [stem, *(unit for block in blocks for unit in block.units)]
    return units, [block.projection for block in blocks if block.projection is not None]


def _streams(blocks: Sequence[SearchableBlock]) -> list[int]:
    """Returns for every unit a number that it shares with those it is added to by identity."""
    streams, stream = [0], 0
    for block in blocks:
        inside = range(len(streams), len(streams) + len(block.units) - 1)
        if block.projection is not None:
            stream = inside.stop
        streams += [*inside, stream]
    return streams


def _depth_ends(stages: Sequence[SearchableStage], ends: np.ndarray) -> list[tuple[int, list[int]]]:
    """Returns the last unit of every stage that may end early, and those of its other depths."""
    found = []
    first = 0
    for stage in stages:
        *others, last = [int(ends[first + depth - 1]) for depth in stage.depths]
        if others:
            found.append((last, others))
        first += len(stage.blocks)
    return found
