"""What a draw of widths says of every class of channels of a model that was read."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tas_tf.layers.sampling import Draw
from tas_tf.models.narrowing import importance, in_order
from tas_tf.spaces.expected_cost import max_candidates
from tas_tf.spaces.model_space import ModelSpace


class Told(NamedTuple):
    """What a draw says of every class of channels.

    Args:
        index: (classes, k) int32, the drawn candidates of its group.
        parts: (classes, k), their weights, zero where a candidate does not have the class.
        share: (classes,), the sum of its parts.
        present: (classes,), one where a candidate of weight above zero has it, else zero.
        widths: (groups + 1, k) int32, the drawn widths; the last row is of frozen channels.
        weights: (groups + 1, k), those of the drawn widths.
    """

    index: tf.Tensor
    parts: tf.Tensor
    share: tf.Tensor
    present: tf.Tensor
    widths: tf.Tensor
    weights: tf.Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Lookup:
    """What a draw says of every class of channels, by tables.

    Args:
        candidates: (groups + 1, n) int32: candidate widths; the last row is of frozen channels.
        group_of: (classes,) int32: the group of a class, the last row for frozen ones.
        rank: (classes,) int32: its place in its group, the most important one first.
        importances: For every group by its name those of its classes.
    """

    candidates: np.ndarray
    group_of: np.ndarray
    rank: np.ndarray
    importances: dict[str, np.ndarray]

    @classmethod
    def of(cls, space: ModelSpace, by: str) -> Lookup:
        groups, class_of = space.graph.groups, space.graph.partition.class_of
        count = int(class_of.max(initial=-1)) + 1
        candidates = np.ones((len(groups) + 1, max_candidates(space)), np.int32)
        group_of, rank = np.full(count, len(groups), np.int32), np.zeros(count, np.int32)
        importances = importance(space.model, space.graph, by)
        for number, (group, choice) in enumerate(zip(groups, space.choices, strict=True)):
            candidates[number, : len(choice.candidates)] = choice.candidates
            group_of[group.classes] = number
            rank[group.classes[in_order(importances[group.name])]] = np.arange(group.width)
        return cls(candidates, group_of, rank, importances)

    @property
    def searched(self) -> np.ndarray:
        """(classes,): whether a class may fall away."""
        return self.group_of < len(self.candidates) - 1

    def told(self, draw: Draw, gates: tf.Tensor | None) -> Told:
        """Returns what all layers are told of a draw."""
        k = draw.indices.shape[1]
        indices = tf.concat([draw.indices, tf.zeros((1, k), tf.int32)], 0)
        weights = tf.concat([draw.weights, tf.fill((1, k), tf.cast(1 / k, draw.weights.dtype))], 0)
        widths = tf.gather(tf.constant(self.candidates), indices, batch_dims=1)
        counted = tf.reduce_max(tf.where(weights > 0, widths, 0), axis=1)
        rank = tf.constant(self.rank)
        inside = rank[:, None] < tf.gather(widths, self.group_of)
        parts = tf.where(inside, tf.gather(weights, self.group_of), 0)
        parts = parts if gates is None else parts * gates[:, None]
        return Told(
            index=tf.gather(indices, self.group_of),
            parts=parts,
            share=tf.reduce_sum(parts, axis=1),
            present=tf.cast(rank < tf.gather(counted, self.group_of), parts.dtype),
            widths=widths,
            weights=weights,
        )

    def identity(self, told: Told, reads: np.ndarray, writes: np.ndarray) -> tf.Tensor:
        """Returns the share (C,) of identity in the channels that a projection writes.

        `sum_j w_j s_j [rank(c) < c_j]` with `s_j = sum_i p_i [a_i = c_j]`, over the drawn widths
        c_j of what is written and a_i of what is read.

        Args:
            told: What the draw says.
            reads: (C,), the classes of the channels that are read.
            writes: (C,), those of the channels that are written.
        """
        before, after = self.group_of[reads[0]], self.group_of[writes[0]]
        agree = told.widths[before][:, None] == told.widths[after][None, :]
        shares = tf.reduce_sum(tf.where(agree, told.weights[before][:, None], 0), axis=0)
        return tf.reduce_sum(tf.gather(told.parts, writes) * shares, axis=1)

    def of_classes(self, indices: np.ndarray) -> np.ndarray:
        """Returns for every class the candidate of its group, 0 for frozen ones."""
        return np.concatenate([indices, np.zeros(1, np.int32)])[self.group_of]
