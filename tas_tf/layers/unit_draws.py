"""Draws of single units, computed for all units at once.

A network has hundreds of units: separate operations for each would be half of the step's graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tas_tf.layers.mixing import Taps, mixture_taps
from tas_tf.layers.shapes import Shapes, UnitShapes


@dataclasses.dataclass(frozen=True)
class UnitDraw:
    """What a unit is told of a draw; no structure of tensors, which Keras would look into.

    Args:
        indices: (k,) int32, its drawn candidates.
        weights: (k,), their weights. A candidate of weight zero is not looked at.
        widths: (k,) int32, their widths.
        width: Scalar int32, the widest of them.
        counted: (candidates,), one for every drawn candidate of weight above zero.
        shapes: How many channels are computed, at least the widest candidate of weight above zero,
            and how many are given, at least the widest drawn one.
        taps: What mixes the candidates; None where nothing is interpolated.
    """

    indices: tf.Tensor
    weights: tf.Tensor
    widths: tf.Tensor
    width: tf.Tensor
    counted: tf.Tensor
    shapes: Shapes
    taps: Taps | None


@dataclasses.dataclass(frozen=True)
class BlockDraw:
    """What a block is told of a draw.

    Args:
        units: What each unit is told.
        projection: What the projection is told; None without.
        identity: (k,), shares of identity in the drawn candidates of the last unit; None where an
            identity, if there is one, hands on all of its input.
        in_path: Scalar bool, whether the path that is computed has the block; None where what is
            computed is no single path.
    """

    units: Sequence[UnitDraw]
    projection: UnitDraw | None = None
    identity: tf.Tensor | None = None
    in_path: tf.Tensor | None = None


def drawn_widths(candidates: Sequence[Sequence[int]], indices: tf.Tensor) -> tf.Tensor:
    """Returns the widths (units, k) of drawn candidates (units, k)."""
    table = np.zeros((len(candidates), max(map(len, candidates))), np.int32)
    for row, widths in zip(table, candidates, strict=True):
        row[: len(widths)] = widths
    return tf.gather(tf.constant(table), indices, batch_dims=1)


def draw_units(
    candidates: Sequence[Sequence[int]],
    indices: tf.Tensor,
    weights: tf.Tensor,
    shapes: UnitShapes,
    interpolated: bool,
) -> list[UnitDraw]:
    """Returns what every unit is told.

    Args:
        candidates: For every unit its candidate widths, ascending.
        indices: (units, k) int32, drawn candidates.
        weights: (units, k), their weights.
        shapes: How many channels units compute and give.
        interpolated: Whether candidates are interpolated to the widest.
    """
    widths = drawn_widths(candidates, indices)
    counted = tf.one_hot(indices, max(map(len, candidates)), dtype=weights.dtype)
    counted = tf.reduce_max(tf.where(weights[..., None] > 0, counted, 0), axis=1)
    taps: list[Taps | None] = [None] * len(candidates)
    channels = np.array([of_unit[-1] for of_unit in candidates])
    for size in np.unique(channels) if interpolated else ():
        units = np.flatnonzero(channels == size)
        several = (tf.gather(part, units) for part in (indices, widths, weights, shapes.mixing))
        for unit, of_unit in zip(units, mixture_taps(int(size), *several), strict=True):
            taps[unit] = of_unit
    rows = [
        row[: len(of_unit)] if len(of_unit) < counted.shape[1] else row
        for of_unit, row in zip(candidates, tf.unstack(counted), strict=True)
    ]
    members = map(tf.unstack, (indices, weights, widths, tf.reduce_max(widths, axis=1)))
    return [
        UnitDraw(*of_unit) for of_unit in zip(*members, rows, shapes.of_unit, taps, strict=True)
    ]
