"""The gated network: a trained unpruned network with a gate on all that a space can cut.

A width of a unit inside a block cuts channels behind its ReLU. The width of a block's last unit
cuts channels of the stream behind the block, as the derived network does, and a depth cuts the
branches of blocks. With a gate of ones and zeros at these places, the network is the derived one
with the same weights, but for the normalization of projections that the derived one adds.
"""

from __future__ import annotations

import types
from typing import Any

import keras
import tensorflow as tf

from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.spaces.families import BlockLayers
from tas_tf.spaces.search_space import SearchSpace

Gates = dict[str, tf.Tensor]


class Gate(keras.layers.Layer):
    """The product of a map with a gate for each of its channels."""

    def call(self, x: tf.Tensor, gate: tf.Tensor) -> tf.Tensor:
        """Returns it.

        Args:
            x: (batch, height, width, channels).
            gate: (channels,).
        """
        return x * tf.cast(gate, x.dtype)


def gated_network(network: keras.Model, space: SearchSpace) -> keras.Model:
    """Returns a trained network with gates; weights are copied.

    Args:
        network: The trained unpruned network of the space.
        space: The search space.

    Returns:
        A model from [images (batch, height, width, channels), gates] to logits (batch, classes).
        Gates are a dictionary of (channels,) by the names of `unit_gates` and `branch_gates`.
    """
    gates: dict[str, Any] = {}

    def gated(x: Any, name: str) -> Any:
        gates[name] = keras.layers.Input(batch_shape=(x.shape[-1],), name=f"{name}_gate")
        return Gate(name=f"{name}_gated")(x, gates[name])

    def relu(name: str) -> Any:
        return lambda x: gated(keras.layers.ReLU(name=name)(x), name)

    def add(name: str) -> Any:
        return lambda pair: keras.layers.Add(name=name)([pair[0], gated(pair[1], name)])

    def model(images: Any, logits: Any, name: str) -> keras.Model:
        return keras.Model([images, gates], logits, name=name)

    # The unpruned network's widths need no padding.
    plain = {"Conv2D": keras.layers.Conv2D, "Dense": keras.layers.Dense}
    made = {"ReLU": relu, "Add": add, "Model": model}
    layers = types.SimpleNamespace(**{**vars(TRAINING_LAYERS), **plain, **made})
    twin = build_model(space.unpruned(), layers)
    copy_by_name(network, twin)
    return twin


def copy_by_name(source: keras.Model, target: keras.Model) -> None:
    """Gives the layers of a model the weights of those of the same names in another."""
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())


def unit_gates(space: SearchSpace) -> dict[str, str]:
    """Returns for every unit, by its name, the name of the gate on what its width cuts."""
    names = {space.outline.stem.name: f"{space.outline.stem.name}_relu"}
    for stage in space.outline.stages:
        for block in stage:
            names |= {layer.name: f"{layer.name}_relu" for layer in block.units[:-1]}
            names[block.units[-1].name] = f"{_name(block)}_relu"
    return names


def branch_gates(space: SearchSpace) -> list[list[str]]:
    """Returns for every stage and block the name of the gate on its branch."""
    return [[f"{_name(block)}_add" for block in stage] for stage in space.outline.stages]


def open_gates(model: keras.Model) -> Gates:
    """Returns gates that change nothing."""
    _, gates = model.input
    return {name: tf.ones(gate.shape) for name, gate in gates.items()}


def _name(block: BlockLayers) -> str:
    return block.projection.name.removesuffix("_projection")
