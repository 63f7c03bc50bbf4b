"""Aggregation of maps of different widths: interpolation (the paper's) or zero padding.

`Interpolation` and `Padding` have the same methods (docs/method.md 4). C is the number of a unit's
channels in the unpruned network; `shapes.py` defines the numbers `computed` and `given`.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import tensorflow as tf

from tas_tf.layers.interpolation import interpolation_matrix, interpolation_taps
from tas_tf.layers.mixing import MatrixMixture, Mixture, Taps, mixture_entries, scaled
from tas_tf.layers.normalization import batch_normalize
from tas_tf.layers.shapes import Shapes
from tas_tf.layers.unit_draws import UnitDraw


class Tables(NamedTuple):
    """Scales and offsets of a unit's candidates.

    Args:
        scale: (candidates, C).
        offset: (candidates, C).
        mask: (candidates, C), which channels a candidate has.
    """

    scale: tf.Tensor
    offset: tf.Tensor
    mask: tf.Tensor

    def rows(self, indices: tf.Tensor) -> list[tf.Tensor]:
        """Returns scales and offsets (k, C) of candidates, zero where one has no channel."""
        return [tf.gather(table * self.mask, indices) for table in (self.scale, self.offset)]


class Interpolation:
    """Maps become as wide as the widest by channel-wise interpolation (docs/method.md 3)."""

    name = "interpolate"
    # Whether a mixture of channels follows the normalization, which a 1x1 kernel may take in.
    mixes = True

    def sum_of_candidates(self, tables: Tables, drawn: UnitDraw) -> tuple[Mixture, tf.Tensor]:
        """Returns the mixture and the vector (given,) with `y = n @ mixture + vector`.

        `sum_k w_k * CWI(s_k * n + o_k, c)` for normalized maps n (docs/method.md 4).
        """
        taps = cast(Taps, drawn.taps)  # where maps are mixed every unit is told some
        shares = tf.cast(taps.shares, tables.scale.dtype)
        scales, offsets = (
            shares * tf.gather_nd(table, taps.places) for table in (tables.scale, tables.offset)
        )
        mixture = drawn.shapes.mixture(taps.entries, scales)
        return mixture, drawn.shapes.summed(taps.columns, offsets)

    def apply(self, z: tf.Tensor, mixture: Mixture, vector: tf.Tensor, shapes: Shapes) -> tf.Tensor:
        """Returns what a unit gives of its convolution's output, statistics being fixed."""
        del shapes
        return mixture.mix(z, vector)

    def normalize(
        self, z: tf.Tensor, mixture: Mixture, vector: tf.Tensor, shapes: Shapes, synchronized: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns what a unit gives, and the batch's mean and unbiased variance (computed,)."""
        return mixture.mix_normalized(z, vector, shapes.ones(vector.dtype), synchronized)

    def widened(
        self,
        x: tf.Tensor,
        share: tf.Tensor,
        width: tf.Tensor,
        widest: tf.Tensor,
        shapes: Shapes,
        zero_is_absent: bool,
    ) -> tf.Tensor:
        """Returns `share * CWI(x, widest)`, for streams whose widths never fall.

        Args:
            x: (batch, height, width, given).
            share: Scalar.
            width: Channels that x really has.
            widest: Channels that it gets, no fewer.
            shapes: Those of the unit that gives x.
            zero_is_absent: Whether a share of zero has no gradient either.
        """
        shapes = shapes.of_widening()

        def mixed() -> tf.Tensor:
            sources, inside = interpolation_taps(width, widest, shapes.channels)
            size = tf.convert_to_tensor(shapes.mixing)
            entries = tf.minimum(mixture_entries(sources), size - 1)
            halves = tf.cast(tf.broadcast_to(inside, [2, shapes.channels]), share.dtype) / 2
            return shapes.mixture(entries, share * halves).mix(x)

        # A map as wide as the widest needs no product, nor does one that is absent.
        needed = (width < widest) & (share > 0) if zero_is_absent else width < widest
        return shapes.either(needed, mixed, lambda: scaled(x, share))

    def resampled(
        self,
        x: tf.Tensor,
        share: tf.Tensor,
        width: tf.Tensor,
        wanted: tf.Tensor,
        shapes: Shapes,
        zero_is_absent: bool,
    ) -> tf.Tensor:
        """Returns `share * CWI(x, wanted)`, with the channels that a unit of these shapes gives.

        Args:
            x: (batch, height, width, channels).
            share: Scalar.
            width: Channels that x really has.
            wanted: Channels that it gets, more or fewer.
            shapes: Those of a unit.
            zero_is_absent: Whether a share of zero has no gradient either.
        """

        def mixed() -> tf.Tensor:
            channels = tf.shape(x)[-1]
            matrix = interpolation_matrix(width, wanted, channels, shapes.given, share.dtype)
            y = MatrixMixture((share * matrix)[None, None]).mix(x)
            y.set_shape([*x.shape[:-1], shapes.given if isinstance(shapes.given, int) else None])
            return y

        needed = (width != wanted) & (share > 0) if zero_is_absent else width != wanted
        return shapes.either(needed, mixed, lambda: scaled(shapes.fitted(x), share))

    def carried(
        self, x: tf.Tensor, width: tf.Tensor, identity: tf.Tensor, drawn: UnitDraw
    ) -> tf.Tensor:
        """Returns what identity hands on: `sum_j w_j s_j CWI(x, c)`, `c` the block's width.

        Args:
            x: (batch, height, width, channels), the block's input.
            width: Channels that x really has.
            identity: (k,), shares s of identity in the drawn candidates.
            drawn: The draw of the block's last unit.
        """
        share = tf.reduce_sum(drawn.weights * identity)
        # Where a width of the input agrees with none of the output's, the share has no gradient.
        return self.resampled(x, share, width, drawn.width, drawn.shapes, zero_is_absent=True)

    def given(self, drawn: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        """Returns the least channels (units,) that units give.

        Args:
            drawn: (units, k) int32, drawn widths.
            counted: (units, k) int32, those of weight above zero; zeros elsewhere.
        """
        del counted
        return tf.reduce_max(drawn, axis=1)


class Padding:
    """Every channel stays where it is; a narrower map has zeros in the others."""

    name = "pad"
    mixes = False

    def sum_of_candidates(self, tables: Tables, drawn: UnitDraw) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the vectors (computed,) with `y = n * scale + offset`."""
        weights = tf.cast(drawn.weights, tables.scale.dtype)[:, None]
        scale, offset = (
            drawn.shapes.computed(tf.reduce_sum(weights * rows, axis=0))
            for rows in tables.rows(drawn.indices)
        )
        return scale, offset

    def apply(self, z: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, shapes: Shapes) -> tf.Tensor:
        """See `Interpolation.apply`."""
        return shapes.handed_on(z * tf.cast(scale, z.dtype) + tf.cast(offset, z.dtype))

    def normalize(
        self, z: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, shapes: Shapes, synchronized: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """See `Interpolation.normalize`."""
        y, mean, variance = batch_normalize(z, scale, offset, synchronized=synchronized)
        return shapes.handed_on(y), mean, variance

    def widened(
        self,
        x: tf.Tensor,
        share: tf.Tensor,
        width: tf.Tensor,
        widest: tf.Tensor,
        shapes: Shapes,
        zero_is_absent: bool,
    ) -> tf.Tensor:
        """See `Interpolation.widened`."""
        del width, widest, shapes, zero_is_absent
        return scaled(x, share)

    def resampled(
        self,
        x: tf.Tensor,
        share: tf.Tensor,
        width: tf.Tensor,
        wanted: tf.Tensor,
        shapes: Shapes,
        zero_is_absent: bool,
    ) -> tf.Tensor:
        """See `Interpolation.resampled`."""
        del width, wanted, zero_is_absent
        return scaled(shapes.fitted(x), share)

    def carried(
        self, x: tf.Tensor, width: tf.Tensor, identity: tf.Tensor, drawn: UnitDraw
    ) -> tf.Tensor:
        """Returns what identity hands on: `sum_j w_j s_j x[..., :c_j]`.

        See `Interpolation.carried`.
        """
        del width
        has = tf.sequence_mask(drawn.widths, drawn.shapes.given, drawn.weights.dtype)
        shares = tf.reduce_sum((drawn.weights * identity)[:, None] * has, axis=0)
        return scaled(drawn.shapes.fitted(x), shares)

    def given(self, drawn: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        """See `Interpolation.given`; what weighs nothing is not given."""
        del drawn
        return tf.reduce_max(counted, axis=1)


AGGREGATIONS = {kind.name: kind() for kind in (Interpolation, Padding)}
