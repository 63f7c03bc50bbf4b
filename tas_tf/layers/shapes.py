"""Shapes in which units compute: all channels, or only the channels of a draw.

`StaticShapes` and `DrawnShapes` have the same methods, so no layer needs to know which it has.
C is the number of a unit's channels in the unpruned network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tas_tf.layers.mixing import (
    TAPPED_COST,
    MatrixMixture,
    Mixture,
    TapMixture,
    cut,
    is_tapped,
)

GRAIN = 16  # what `round_up` rounds to


@dataclasses.dataclass(frozen=True)
class StaticShapes:
    """Every channel, in shapes that are known when a step is traced, as XLA needs them.

    Args:
        channels: Channels C of the unit.
    """

    channels: int

    @property
    def mixing(self) -> list[int]:
        """The mixture as a kernel: 1, 1, and the channels that the unit computes and gives."""
        return [1, 1, self.channels, self.channels]

    @property
    def mixing_cost(self) -> int:
        """Multiplications that a mixture of C to C channels takes for each pixel."""
        return self.channels**2

    def cut_kernel(self, kernel: tf.Tensor) -> tf.Tensor:
        """Returns what is computed of a kernel (height, width, inputs, C)."""
        return kernel

    def cut_rows(self, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the rows of the classifier's kernel (C, classes) for the channels given."""
        return kernel

    def computed(self, vector: tf.Tensor) -> tf.Tensor:
        """Returns a vector (C,) for the channels that are computed."""
        return vector

    def restored(self, vector: tf.Tensor) -> tf.Tensor:
        """Returns a vector of the computed channels as (C,), zeros in the others."""
        return vector

    def ones(self, dtype: tf.DType) -> tf.Tensor:
        """Returns ones for the channels that are computed."""
        return tf.cast(tf.ones([self.channels]), dtype)

    def handed_on(self, x: tf.Tensor) -> tf.Tensor:
        """Returns a map (..., computed) with the channels that the unit gives."""
        return x

    def fitted(self, x: tf.Tensor) -> tf.Tensor:
        """Returns any map with the channels that the unit gives: cut, or with zeros beyond."""
        return _fitted(x, x.shape[-1], self.given)

    @property
    def given(self) -> int:
        """Channels that the unit gives."""
        return self.channels

    def mixture(self, entries: tf.Tensor, values: tf.Tensor) -> Mixture:
        """Returns the mixture of some entries, from computed to given channels.

        Args:
            entries: (n, C, 4) int32, see `mixing.Taps`, inside of the mixture's size.
            values: (n, C), zero where there is no entry.
        """
        return MatrixMixture(tf.scatter_nd(entries, values, self.mixing))

    def summed(self, columns: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Returns the sums by column (given,) of values (n, C) that stand in columns (n, C, 1)."""
        return tf.scatter_nd(columns, values, [self.channels])

    def either(
        self, needed: tf.Tensor, product: Callable[[], tf.Tensor], plain: Callable[[], tf.Tensor]
    ) -> tf.Tensor:
        """Returns a product, which is `plain` where it is not needed."""
        del needed, plain
        return product()

    def of_widening(self) -> StaticShapes:
        """Returns the shapes of a mixture from the channels that the unit gives to as many."""
        return self


@dataclasses.dataclass(frozen=True)
class DrawnShapes:
    """The channels that a draw has, rounded up to few distinct sizes.

    Args:
        channels: Channels C of the unit.
        kernel: (4,) int32, the part of its kernel that it computes with.
        uncut: (4, 2) int32, what pads that part to all of the kernel.
        mixing: (4,) int32, the mixture as a kernel: 1, 1, computed, given.
        inner: (1,) int32, channels that it computes.
        outer: (1,) int32, channels that it gives.
        missing: (1, 2) int32, what pads a vector of the computed channels to C.
        fits: Whether it gives what it computes, in every draw.
    """

    channels: int
    kernel: tf.Tensor
    uncut: tf.Tensor
    mixing: tf.Tensor
    inner: tf.Tensor
    outer: tf.Tensor
    missing: tf.Tensor
    fits: bool

    @property
    def mixing_cost(self) -> int:
        """Multiplications, or what takes as long, of a mixture of C to C channels for a pixel."""
        return self.channels * (TAPPED_COST if is_tapped(self.channels) else self.channels)

    def cut_kernel(self, kernel: tf.Tensor) -> tf.Tensor:
        """See `StaticShapes.cut_kernel`."""
        part = cut(kernel, self.kernel, self.uncut)
        part.set_shape([*kernel.shape[:2], None, None])
        return part

    def cut_rows(self, kernel: tf.Tensor) -> tf.Tensor:
        """See `StaticShapes.cut_rows`."""
        return kernel[: self.outer[0]]

    def computed(self, vector: tf.Tensor) -> tf.Tensor:
        """See `StaticShapes.computed`."""
        return tf.slice(vector, [0], self.inner)

    def restored(self, vector: tf.Tensor) -> tf.Tensor:
        """See `StaticShapes.restored`."""
        return tf.pad(vector, self.missing)

    def ones(self, dtype: tf.DType) -> tf.Tensor:
        """See `StaticShapes.ones`."""
        return tf.cast(tf.fill(self.inner, 1.0), dtype)

    def handed_on(self, x: tf.Tensor) -> tf.Tensor:
        """See `StaticShapes.handed_on`; zeros are added, or channels are cut off."""
        return x if self.fits else _fitted(x, self.inner[0], self.given)

    def fitted(self, x: tf.Tensor) -> tf.Tensor:
        """See `StaticShapes.fitted`."""
        return _fitted(x, tf.shape(x)[-1], self.given)

    @property
    def given(self) -> tf.Tensor:
        """See `StaticShapes.given`."""
        return self.outer[0]

    def mixture(self, entries: tf.Tensor, values: tf.Tensor) -> Mixture:
        """See `StaticShapes.mixture`; maps of many channels are mixed entry by entry."""
        if is_tapped(self.channels):
            columns = self.mixing[3]
            return TapMixture(entries[:, :columns, 2], values[:, :columns])
        matrix = tf.scatter_nd(entries, values, self.mixing)
        matrix.set_shape([1, 1, None, None])
        return MatrixMixture(matrix)

    def summed(self, columns: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """See `StaticShapes.summed`."""
        return tf.scatter_nd(columns, values, self.outer)

    def either(
        self, needed: tf.Tensor, product: Callable[[], tf.Tensor], plain: Callable[[], tf.Tensor]
    ) -> tf.Tensor:
        """See `StaticShapes.either`; the device takes the cheaper way of the two."""
        return tf.cond(needed, product, plain)

    def of_widening(self) -> DrawnShapes:
        """See `StaticShapes.of_widening`."""
        return dataclasses.replace(self, mixing=tf.concat([[1, 1], self.outer, self.outer], 0))


Shapes = StaticShapes | DrawnShapes


class UnitShapes(NamedTuple):
    """The shapes of all units.

    Args:
        of_unit: Those of each.
        mixing: (units, 4) int32, their mixtures as kernels, see `DrawnShapes`.
    """

    of_unit: Sequence[Shapes]
    mixing: tf.Tensor


def static_shapes(channels: Sequence[int]) -> UnitShapes:
    """Returns the static shapes of units of so many channels in the unpruned network."""
    of_unit = [StaticShapes(count) for count in channels]
    return UnitShapes(of_unit, tf.constant([shapes.mixing for shapes in of_unit], tf.int32))


def drawn_shapes(
    kernels: np.ndarray, inputs: tf.Tensor, computed: tf.Tensor, given: tf.Tensor, fits: bool
) -> UnitShapes:
    """Returns the drawn shapes of all units; what they need is computed for all at once.

    Args:
        kernels: (units, 4), shapes of kernels.
        inputs: (units,) int32, channels that units are given.
        computed: (units,) int32, channels that they compute.
        given: (units,) int32, channels that they give.
        fits: Whether units that are used give what they compute.
    """
    sides = tf.constant(kernels[:, :2], tf.int32)
    kernel = tf.concat([sides, tf.stack([inputs, computed], 1)], axis=1)
    beyond = tf.constant(kernels, tf.int32) - kernel
    uncut = tf.stack([tf.zeros_like(beyond), beyond], axis=2)
    mixing = tf.stack([tf.ones_like(given), tf.ones_like(given), computed, given], axis=1)
    members = (kernel, uncut, mixing, computed[:, None], given[:, None], uncut[:, 3:])
    parts = [kernels[:, 3].tolist(), *map(tf.unstack, members), [fits] * len(kernels)]
    return UnitShapes([DrawnShapes(*of_unit) for of_unit in zip(*parts, strict=True)], mixing)


def _fitted(x: tf.Tensor, channels: int | tf.Tensor, wanted: int | tf.Tensor) -> tf.Tensor:
    """Returns a map of so many channels with as many as wanted: cut, or with zeros beyond."""
    if isinstance(channels, int) and channels == wanted:
        return x
    missing = tf.maximum(wanted - channels, 0)
    return tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, missing]])[..., :wanted]


def round_up(widths: tf.Tensor, channels: tf.Tensor) -> tf.Tensor:
    """Returns sizes to compute widths in: few distinct ones, that devices like.

    Every distinct size costs a new primitive of the device's library, and sizes off its grid run
    in its slow ones: batch normalization of 24 channels takes longer than of 32.

    Args:
        widths: (n,) int32.
        channels: (n,), the unpruned widths, which are never exceeded.
    """
    return tf.minimum(-(-tf.maximum(widths, 1) // GRAIN) * GRAIN, channels)
