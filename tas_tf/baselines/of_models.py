"""Values of the channels and branches of a model that was read, by what it has learned.

The supernet of the model is its gated network: it begins with the model's weights, the channels of
every group in order, and a draw closes gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf

from tas_tf.baselines import sensitivity
from tas_tf.baselines.importance import share_of
from tas_tf.baselines.values import Rows, Values, of_rows
from tas_tf.layers.sampling import Draw
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.interpreter import ModelSupernet
from tas_tf.models.narrowing import in_order, magnitudes
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.training import losses
from tas_tf.training.loop import Batch


def magnitude(net: ModelSupernet) -> Values:
    """Values by the magnitudes of channels.

    The value of a width is the share of its group's magnitude that it keeps, that of a branch the
    share of what all layers write to its stream. Shares, because magnitudes of different groups do
    not compare.

    Args:
        net: The supernet, which says by what channels are ordered.
    """
    space = net.space
    widths = [share_of(net.importances[choice.name]) for choice in space.choices]
    of_ids = magnitudes(space.model, space.graph)[net.importance == "kernel"]
    class_of = space.graph.partition.class_of
    branches = []
    for branch in space.branches:
        call = space.graph.calls[branch.addition]
        classes = np.unique(class_of[call.outputs[0]])
        written = of_ids[np.isin(class_of, classes)].sum()
        own = of_ids[call.inputs[1 - branch.shortcut]].sum()
        branches.append(own / max(written, np.finfo(np.float32).tiny))
    return _kept(space, widths, branches, net.importances)


def taylor(net: ModelSupernet, batches: Iterable[Batch]) -> Values:
    """Values by the Taylor estimate, see `importance.taylor`: gates on channels and on branches.

    Channels are kept in the supernet's order. Batch normalization uses the batch's statistics.

    Args:
        net: The supernet.
        batches: Batches (images, labels).
    """
    space = net.space
    whole = net.whole_draw()
    gates = tf.ones(net.classes)

    @tf.function(autograph=False)
    def squares(images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([gates, whole.depth_weights])
            logits = net(images, whole, mode=Mode.ARCHITECTURE, gates=gates)
            loss = tf.reduce_mean(losses.cross_entropy(labels, logits))
        found = tape.gradient(loss, [gates, whole.depth_weights], unconnected_gradients="zero")
        return [tf.square(gradient) for gradient in found]

    totals = [np.zeros(net.classes), np.zeros(whole.depth_weights.shape)]
    for batch in batches:
        totals = [total + part.numpy() for total, part in zip(totals, squares(*batch), strict=True)]
    of_classes, of_branches = totals
    channels = [of_classes[group.classes] for group in space.graph.groups]
    return _kept(space, channels, of_branches[:, -1][: len(space.branches)], net.importances)


def measured(
    net: ModelSupernet,
    batches: Sequence[Batch],
    known: sensitivity.Losses,
    record: Callable[[sensitivity.Losses], None],
) -> sensitivity.Losses:
    """Measures the loss with every candidate in turn, see `sensitivity.measure`.

    Args:
        net: The supernet.
        batches: Batches (images, labels).
        known: What has been measured already.
        record: Takes all that has been measured, after every measurement.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def summed(draw: Draw, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        logits = net(images, draw, mode=Mode.ARCHITECTURE)
        return tf.reduce_sum(losses.cross_entropy(labels, logits))

    mean_loss = sensitivity.mean_over(batches, summed)
    return sensitivity.measured_losses(_cases(net), mean_loss, known, record)


def _cases(net: ModelSupernet) -> dict[str, Draw]:
    """Returns for every measurement the draw: the whole model, or one choice of it cut."""
    space, whole = net.space, net.whole_draw()
    cases = {sensitivity.WHOLE: whole}
    for row, (part, candidates) in enumerate(sensitivity.candidates_by_name(space).items()):
        for k, name in enumerate(sensitivity.names(part, candidates)[:-1]):
            if row < len(space.choices):
                indices = whole.indices.numpy()
                indices[row] = k
                cases[name] = whole._replace(indices=tf.constant(indices))
            else:
                depths = whole.depth_weights.numpy()
                depths[row - len(space.choices)] = np.eye(depths.shape[1])[k]
                cases[name] = whole._replace(depth_weights=tf.constant(depths))
    return cases


def _kept(
    space: ModelSpace,
    channels: Rows,
    branches: Sequence[float] | np.ndarray,
    order: dict[str, np.ndarray],
) -> Values:
    """Returns the importance that each candidate keeps.

    Args:
        space: The search space.
        channels: For every group the importance of its channels (n,).
        branches: The importance of every branch.
        order: By the names of groups that by which their channels are kept.
    """
    widths = [
        np.cumsum(importance[in_order(order[choice.name])])[np.array(choice.candidates) - 1]
        for choice, importance in zip(space.choices, channels, strict=True)
    ]
    return of_rows(widths, [np.array([0.0, importance]) for importance in branches])
