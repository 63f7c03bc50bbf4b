"""The plain formulation of the supernet: what docs/method.md 4 says, word by word.

The product's units normalize once and apply one matrix; these normalize and interpolate every
candidate by itself. The two are held together by tests.
"""

import tensorflow as tf

from tas_tf.layers.interpolation import interpolation_matrix
from tas_tf.layers.normalization import batch_normalize
from tas_tf.layers.searchable_unit import Mode, SearchableUnit, pool_shortcut
from tas_tf.models.supernet import Supernet


class PlainUnit(SearchableUnit):
    """`y = sum_k w_k * CWI(BN_k(z[..., :c_k]), c)`, candidate by candidate, in static shapes.

    It takes the convolution, the tables and the averages of the product's unit, private as they
    are: the two have these in common, and differ in what is between them.
    """

    def call(self, x, drawn, mode):
        if mode is Mode.INFERENCE:
            return super().call(x, drawn, mode)
        if self.layer.kind == "projection":
            x = pool_shortcut(x, self.layer.stride)
        z = self._convolve(x, drawn.shapes)
        indices, weights = drawn.indices, drawn.weights
        widths = tf.gather(tf.constant(self.candidates, tf.int32), indices)
        matrices = interpolation_matrix(
            widths, drawn.width, self.channels, self.channels, self.variable_dtype
        )
        scales, offsets = self._tables().rows(indices)
        mask = tf.gather(tf.constant(self.channel_mask, z.dtype), indices)
        y = tf.zeros_like(z)
        for k in range(indices.shape[0]):
            candidate, mean, variance = batch_normalize(
                z * mask[k], scales[k], offsets[k], synchronized=self.synchronized
            )
            if self.aggregation.name == "interpolate":
                candidate = tf.linalg.matmul(candidate, tf.cast(matrices[k], z.dtype))
            y += tf.cast(weights[k], z.dtype) * candidate
            if mode is Mode.WEIGHTS:
                # A pair of a unit's only candidate names it twice: its averages move once.
                again = tf.reduce_any(indices[:k] == indices[k])
                one = tf.one_hot(indices[k], len(self.candidates), dtype=weights.dtype)
                moved = tf.where(again, tf.zeros_like(one), one * drawn.counted)
                self._move_averages(moved, mean, variance, drawn.shapes)
        return y


class PlainSupernet(Supernet):
    """A supernet of plain units; it computes every channel."""

    unit_class = PlainUnit

    def __init__(self, space, **options):
        super().__init__(space, shapes="static", **options)
