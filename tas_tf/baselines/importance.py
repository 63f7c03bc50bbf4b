"""Importance of channels in a trained network: magnitude, and the first-order Taylor estimate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from tas_tf.baselines.gated import branch_gates, gated_network, open_gates, unit_gates
from tas_tf.baselines.values import Values, kept
from tas_tf.models.inheritance import order_channels, scale_magnitudes
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import losses
from tas_tf.training.loop import Batch

Criterion = Literal["scale", "l1"]


def magnitudes(network: keras.Model, criterion: Criterion) -> dict[str, np.ndarray]:
    """Returns the magnitudes of the output channels (C,) of layers, by their names.

    Args:
        network: A trained network, as `spec_compiler.build_model` makes it.
        criterion: `scale`, |gamma| of the batch normalization behind a layer (Liu et al.,
            "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017); or
            `l1`, the sum of the magnitudes of a filter's kernel (Li et al., "Pruning Filters for
            Efficient ConvNets", ICLR 2017).
    """
    if criterion == "scale":
        return scale_magnitudes(network)
    return {
        layer.name: np.abs(layer.kernel.numpy()).sum((0, 1, 2))
        for layer in network.layers
        if isinstance(layer, keras.layers.Conv2D)
    }


def magnitude(network: keras.Model, space: SearchSpace, criterion: Criterion) -> Values:
    """Values by the magnitudes of channels; orders the network's channels by them, in place.

    The value of a width is the share of its magnitude that the first channels keep. A block's
    output cuts the residual stream, so its magnitude is what all layers so far have written to a
    channel. The value of a depth is the share of what the stage writes to its stream. Shares,
    because magnitudes of different layers do not compare: every layer counts alike. (Liu et al.
    compare scales of all layers, which a penalty on scales has made comparable in training; Li et
    al. take one share for each stage, chosen by hand.)

    Args:
        network: The trained unpruned network, as `spec_compiler.build_model` makes it.
        space: The search space.
        criterion: See `magnitudes`.
    """
    order_channels(network, space.unpruned(), magnitudes(network, criterion))
    return kept(space, *_written(space, magnitudes(network, criterion)))


def _written(
    space: SearchSpace, importance: Mapping[str, np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns shares of what each unit's width cuts (C,), and of what each stage's blocks write."""
    stream = importance[space.outline.stem.name]
    channels, blocks = [share_of(stream)], []
    for stage in space.outline.stages:
        written = []
        for block in stage:
            channels += [share_of(importance[layer.name]) for layer in block.units[:-1]]
            branch = importance[block.units[-1].name]
            if block.needs_projection(len(stream), len(branch)):
                # It begins a new stream; one without a scale counts for nothing.
                stream = importance.get(block.projection.name, np.zeros(len(branch)))
            stream = stream + branch
            channels.append(share_of(stream))
            written.append(branch.sum())
        blocks.append(np.array(written) / stream.sum())
    return channels, blocks


def share_of(importance: np.ndarray) -> np.ndarray:
    """Returns what share of the sum each entry has."""
    return importance / max(importance.sum(), np.finfo(np.float32).tiny)


def taylor(network: keras.Model, space: SearchSpace, batches: Iterable[Batch]) -> Values:
    """Values by the Taylor estimate; orders the network's channels by it, in place.

    `I_c = sum over batches (dL/dg_c)^2`, with a gate g_c = 1 on what a width cuts: the squared
    first-order change of the loss L if the channel is cut (Molchanov et al., "Importance Estimation
    for Neural Network Pruning", CVPR 2019, equation 8). Behind a batch normalization the derivative
    by the gate is `gamma dL/dgamma + beta dL/dbeta`: gradient times weight, summed over the
    channel's parameters. The value of a width is the sum over the channels it keeps; that of a
    depth is the sum over gates on the branches of the blocks it keeps. Estimates of different
    layers compare, and are not normalized. Batch normalization uses the batch's statistics.

    Args:
        network: The trained unpruned network, as `spec_compiler.build_model` makes it.
        space: The search space.
        batches: Batches (images, labels), images (batch, height, width, channels), normalized.
    """
    importance = gate_importance(gated_network(network, space), batches)
    units = unit_gates(space)
    orders = order_channels(
        network, space.unpruned(), {layer: importance[gate] for layer, gate in units.items()}
    )
    channels = [importance[gate][orders[layer]] for layer, gate in units.items()]
    blocks = [np.array([importance[gate].sum() for gate in stage]) for stage in branch_gates(space)]
    return kept(space, channels, blocks)


def gate_importance(model: keras.Model, batches: Iterable[Batch]) -> dict[str, np.ndarray]:
    """Returns `sum over batches (dL/dg)^2` (channels,) of every gate of a gated network.

    Args:
        model: The gated network.
        batches: Batches (images, labels).
    """
    gates = open_gates(model)

    @tf.function(autograph=False)
    def squares(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(gates)
            logits = model([images, gates], training=True)
            loss = tf.reduce_mean(losses.cross_entropy(labels, logits))
        return tf.nest.map_structure(tf.square, tape.gradient(loss, gates))

    total = {name: np.zeros(gate.shape) for name, gate in gates.items()}
    for images, labels in batches:
        for name, value in squares(images, labels).items():
            total[name] += value.numpy()
    return total
