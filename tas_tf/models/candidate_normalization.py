"""Normalizations of channels that may not be there, under a draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.layers.normalization import MOMENTUM, batch_normalize, move
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.lookup import Told


class CandidateNormalization(keras.layers.Layer):
    """A batch normalization that has scale, offset and averages for every candidate.

    `y_c = sum_k p_ck (gamma_kc n_c + beta_kc)`, with n the input normalized by the batch's
    statistics, or by the averages of candidate k.

    Args:
        layer: The model's own; all candidates begin as it is. If it is not trainable, its averages
            normalize always.
        classes: (C,), the classes of its channels.
        rows: Candidates, or 1 where all share one normalization.
        synchronized: See `normalization.batch_normalize`.
    """

    def __init__(self, layer: Any, classes: np.ndarray, rows: int, synchronized: bool):
        super().__init__(name=layer.name, autocast=False)
        self._classes, self._rows, self._synchronized = classes, rows, synchronized
        self._is_fixed, self._epsilon = not layer.trainable, layer.epsilon
        self._computes_in = layer.compute_dtype
        names = [weight.name for weight in layer.weights]
        self._names = names
        channels = len(classes)
        start = {"gamma": np.ones(channels), "beta": np.zeros(channels)}
        start |= {weight.name: np.asarray(weight) for weight in layer.weights}
        self.scale, self.offset, self.moving_mean, self.moving_variance = (
            self.add_weight(
                name=name,
                shape=(rows, channels),
                initializer=keras.initializers.Constant(np.tile(start[name], (rows, 1))),
                trainable=name in ("gamma", "beta") and name in names and layer.trainable,
                autocast=False,
            )
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        self.built = True

    def call(self, x: tf.Tensor, told: Told, mode: Mode) -> tf.Tensor:
        """Returns the normalized input.

        Args:
            x: (batch, ..., C).
            told: What the draw says.
            mode: Which statistics normalize, and whether averages move.
        """
        x = tf.cast(x, self._computes_in)
        index = tf.gather(told.index, self._classes) if self._rows > 1 else None
        parts = tf.gather(told.parts, self._classes)
        scale, offset = self._drawn(self.scale, index), self._drawn(self.offset, index)
        if mode is Mode.INFERENCE or self._is_fixed:
            mean = self._drawn(self.moving_mean, index)
            rate = scale * tf.math.rsqrt(self._drawn(self.moving_variance, index) + self._epsilon)
            vector = tf.reduce_sum(parts * (offset - mean * rate), axis=1)
            factor = tf.reduce_sum(parts * rate, axis=1)
            return x * tf.cast(factor, x.dtype) + tf.cast(vector, x.dtype)
        maps = tf.reshape(x, [-1, 1, 1, x.shape[-1]]) if len(x.shape) != 4 else x
        y, mean, variance = batch_normalize(
            maps,
            tf.reduce_sum(parts * scale, axis=1),
            tf.reduce_sum(parts * offset, axis=1),
            epsilon=self._epsilon,
            synchronized=self._synchronized,
        )
        if mode is Mode.WEIGHTS:
            self._move_averages(parts, index, mean, variance)
        return tf.reshape(y, tf.shape(x)) if len(x.shape) != 4 else y

    def _drawn(self, table: keras.Variable, index: tf.Tensor | None) -> tf.Tensor:
        """Returns the entries (C, k) of drawn candidates, or (C, 1) of the only row."""
        columns = tf.transpose(tf.convert_to_tensor(table))
        return columns if index is None else tf.gather(columns, index, batch_dims=1)

    def _move_averages(
        self, parts: tf.Tensor, index: tf.Tensor | None, mean: tf.Tensor, variance: tf.Tensor
    ) -> None:
        """Moves the averages of candidates that count, in the channels that they have."""
        counted = tf.cast(parts > 0, mean.dtype)
        if index is not None:
            counted = counted[:, :, None] * tf.one_hot(index, self._rows, dtype=mean.dtype)
        share = tf.transpose(tf.reduce_max(counted, axis=1, keepdims=index is None))
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            move(average, value, (1 - MOMENTUM) * share, self._synchronized)

    def weights_of(self, candidates: np.ndarray) -> list[np.ndarray]:
        """Returns the weights of the model's own layer.

        Args:
            candidates: For every class the candidate of its group.
        """
        rows = candidates[self._classes] if self._rows > 1 else np.zeros(len(self._classes), int)
        tables = dict(
            zip(
                ("gamma", "beta", "moving_mean", "moving_variance"),
                (self.scale, self.offset, self.moving_mean, self.moving_variance),
                strict=True,
            )
        )
        columns = np.arange(len(rows))
        return [np.asarray(tables[name])[rows, columns] for name in self._names]


def normalize_present(
    layer: Any, x: tf.Tensor, present: tf.Tensor, values: Sequence[tf.Tensor]
) -> tf.Tensor:
    """Returns what a normalization across channels gives if only some of them are there.

    Args:
        layer: A LayerNormalization, GroupNormalization, RMSNormalization or UnitNormalization
            along the last axis.
        x: (batch, ..., C).
        present: (C,), one for each channel that is there, else zero.
        values: The values of its variables.
    """
    kind = type(layer).__name__
    if kind == "UnitNormalization":
        return layer(x * tf.cast(present, x.dtype))
    x = tf.cast(x, present.dtype)  # as Keras does: half precision is too coarse for statistics
    groups = layer.groups if kind == "GroupNormalization" else 1
    groups = x.shape[-1] if groups == -1 else groups
    shape = tf.shape(x)
    there = tf.reshape(present, [groups, -1])
    # Of a group that is not there at all, nothing is read.
    there = tf.maximum(there, tf.cast(tf.reduce_sum(there, 1, keepdims=True) == 0, there.dtype))
    parts = tf.reshape(x, tf.concat([shape[:-1], tf.shape(there)], 0))
    rank = len(x.shape) + 1
    axes = [*range(1, rank - 2), rank - 1] if kind == "GroupNormalization" else [rank - 1]
    places = tf.cast(tf.reduce_prod([shape[axis] for axis in axes[:-1]] or [1]), x.dtype)
    count = tf.reduce_sum(there, 1, keepdims=True) * places
    mean = 0.0
    if kind != "RMSNormalization":
        mean = tf.reduce_sum(parts * there, axes, keepdims=True) / count
    centred = parts - mean
    moment = tf.reduce_sum(tf.square(centred) * there, axes, keepdims=True) / count
    y = tf.reshape(centred * tf.math.rsqrt(moment + layer.epsilon), shape)
    vectors = {own.name: value for own, value in zip(layer.variables, values, strict=True)}
    y *= vectors.get("gamma", vectors.get("scale", 1.0))
    y = (y + vectors["beta"] if "beta" in vectors else y) * present
    return tf.cast(y, layer.compute_dtype)
