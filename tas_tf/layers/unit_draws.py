"""Draws unit by unit, made for all units at once.

A step does this for hundreds of units: operations that do it for each alone would be half of the
step's graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tas_tf.layers.mixing import Taps, mixture_taps

GRAIN = 16  # what `round_up` rounds to


class Sizes(NamedTuple):
    """How many channels a unit computes, and how many it gives.

    Args:
        kernel: (4,) int32, the part of its kernel that it computes with.
        uncut: (4, 2) int32, what pads that part to all of the kernel.
        mixture: (4,) int32, the mixture as a kernel: 1, 1, computed, given.
        computed: (1,) int32.
        given: (1,) int32.
        missing: (1, 2) int32, what pads a vector of the computed channels to C.
    """

    kernel: tf.Tensor
    uncut: tf.Tensor
    mixture: tf.Tensor
    computed: tf.Tensor
    given: tf.Tensor
    missing: tf.Tensor


class UnitDraw(NamedTuple):
    """What a unit is told of a draw.

    Args:
        indices: (k,) int32, its drawn candidates.
        weights: (k,), their weights. A candidate of weight zero is not looked at.
        width: Scalar int32, the widest of them.
        counted: (candidates,), one for every drawn candidate of weight above zero.
        taps: What mixes the candidates; None where nothing is interpolated.
        sizes: How many channels are computed, at least the widest candidate of weight above zero,
            and how many are given, at least the widest drawn one; None for C.
    """

    indices: tf.Tensor
    weights: tf.Tensor
    width: tf.Tensor
    counted: tf.Tensor
    taps: Taps | None = None
    sizes: Sizes | None = None


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
    interpolated: bool = True,
    sizes: Sizes | None = None,
) -> list[UnitDraw]:
    """Returns what every unit is told.

    Args:
        candidates: For every unit its candidate widths, ascending.
        indices: (units, k) int32, drawn candidates.
        weights: (units, k), their weights.
        interpolated: Whether candidates are interpolated to the widest.
        sizes: Those of all units, see `unit_sizes`; None for C.
    """
    widths = drawn_widths(candidates, indices)
    counted = tf.one_hot(indices, max(map(len, candidates)), dtype=weights.dtype)
    counted = tf.reduce_max(tf.where(weights[..., None] > 0, counted, 0), axis=1)
    taps: list[Taps | None] = [None] * len(candidates)
    channels = np.array([of_unit[-1] for of_unit in candidates])
    for size in np.unique(channels) if interpolated else ():
        units = np.flatnonzero(channels == size)
        several = [indices, widths, weights, *([sizes.mixture] if sizes else [])]
        of_units = mixture_taps(int(size), *(tf.gather(values, units) for values in several))
        for unit, of_unit in zip(units, of_units, strict=True):
            taps[unit] = of_unit
    members = (indices, weights, tf.reduce_max(widths, axis=1), counted)
    parts = zip(candidates, *map(tf.unstack, members), taps, _each(sizes, candidates), strict=True)
    return [
        UnitDraw(*drawn[:3], drawn[3][: len(of_unit)], *drawn[4:])
        if len(of_unit) < counted.shape[1]
        else UnitDraw(*drawn)
        for of_unit, *drawn in parts
    ]


def unit_sizes(
    kernels: np.ndarray, inputs: tf.Tensor, computed: tf.Tensor, given: tf.Tensor
) -> Sizes:
    """Returns the sizes of all units, those of each along the first axis.

    Args:
        kernels: (units, 4), shapes of kernels.
        inputs: (units,) int32, channels that units are given.
        computed: (units,) int32, channels that they compute.
        given: (units,) int32, channels that they give.
    """
    sides = tf.constant(kernels[:, :2], tf.int32)
    kernel = tf.concat([sides, tf.stack([inputs, computed], 1)], axis=1)
    beyond = tf.constant(kernels, tf.int32) - kernel
    uncut = tf.stack([tf.zeros_like(beyond), beyond], axis=2)
    mixture = tf.stack([tf.ones_like(given), tf.ones_like(given), computed, given], axis=1)
    return Sizes(kernel, uncut, mixture, computed[:, None], given[:, None], uncut[:, 3:])


def _each(sizes: Sizes | None, units: Sequence) -> list[Sizes | None]:
    if sizes is None:
        return [None] * len(units)
    return [Sizes(*of_unit) for of_unit in zip(*map(tf.unstack, sizes), strict=True)]


def round_up(widths: tf.Tensor, channels: tf.Tensor) -> tf.Tensor:
    """Returns sizes to compute widths in: few distinct ones, that devices like.

    Every distinct size costs a new primitive of the device's library, and sizes off its grid run
    in its slow ones: batch normalization of 24 channels takes longer than of 32.

    Args:
        widths: (n,) int32.
        channels: (n,), the unpruned widths, which are never exceeded.
    """
    return tf.minimum(-(-tf.maximum(widths, 1) // GRAIN) * GRAIN, channels)
