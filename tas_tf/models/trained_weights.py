"""Weights of the trained unpruned network, as the units of a supernet take them."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from tas_tf.errors import ArchitectureError
from tas_tf.layers.normalization import EPSILON

# A kernel; and scale, offset, mean and variance of its normalization.
Weights = tuple[np.ndarray, tuple[np.ndarray, ...]]


def of_unpruned(
    model: keras.Model, kernels: Mapping[str, tuple[int, ...]], images: tf.Tensor
) -> dict[str, Weights]:
    """Returns the weights of every convolution, by its name.

    One that the network does not normalize gets the normalization that changes nothing on `images`.

    Args:
        model: The unpruned network, as `spec_compiler.build_model` makes it.
        kernels: The shapes of all its kernels, by the names of their layers.
        images: (batch, height, width, channels), normalized as in training.

    Raises:
        ArchitectureError: If the network has other kernels.
    """
    received = {
        layer.name: tuple(layer.kernel.shape) for layer in model.layers if hasattr(layer, "kernel")
    }
    for name in {**kernels, **received}:
        if kernels.get(name) != received.get(name):
            raise ArchitectureError(
                f"{name}: expected the unpruned network, with a kernel of shape "
                f"{kernels.get(name)} here. Received: {received.get(name)}"
            )
    return {name: _weights(model, name, images) for name in kernels if name != "classifier"}


def of_identities(
    model: keras.Model, readers: Mapping[str, str], images: tf.Tensor
) -> dict[str, Weights]:
    """Returns weights of projections that change nothing on `images`: identities, by their names.

    Args:
        model: The unpruned network, which has none of these projections.
        readers: For every projection a convolution of the network that reads what it reads.
        images: (batch, height, width, channels), normalized as in training.
    """
    weights = {}
    for name, reader in readers.items():
        maps = model.get_layer(reader).input
        kernel = np.eye(maps.shape[-1], dtype="float32")[None, None]
        weights[name] = (kernel, _neutral(keras.Model(model.inputs, maps), images))
    return weights


def _weights(model: keras.Model, name: str, images: tf.Tensor) -> Weights:
    layer = model.get_layer(name)
    kernel = layer.get_weights()[0]
    names = {member.name for member in model.layers}
    if f"{name}_bn" in names:
        return kernel, tuple(model.get_layer(f"{name}_bn").get_weights())
    return kernel, _neutral(keras.Model(model.inputs, layer.output), images)


def _neutral(model: keras.Model, images: tf.Tensor) -> tuple[np.ndarray, ...]:
    """Returns the normalization that changes nothing of what a model gives."""
    output = tf.cast(model(images, training=False), tf.float32)
    mean, variance = (moment.numpy() for moment in tf.nn.moments(output, (0, 1, 2)))
    return np.sqrt(variance + EPSILON), mean, mean, variance
