"""A network as a device computes it: pixels in, normalization folded, activations on their own.

Each layer is one that int8 has a kernel for, if there is one. The function stays the same, but for
the rounding of float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tas_tf.deployment.classifier import Classifier
from tas_tf.models.traversal import Visit, graph_of, readers, remade, traverse, unique

# Layers of a kernel that has a scale for each channel that it writes, and of an offset.
LINEAR = ("Conv2D", "DepthwiseConv2D", "Dense")
# Layers that do nothing but in training.
_TRAINING_ONLY = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianDropout", "GaussianNoise",
    "AlphaDropout", "ActivityRegularization", "Identity",
)  # fmt: skip
# Operations of keras.ops that are activations, by their classes.
_ACTIVATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "Tanh": "tanh",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
}


def folded(classifier: Classifier) -> keras.Model:
    """Returns a classifier as a device computes it.

    A normalization, or a multiplication and an offset of each channel, is folded into the layer
    before it where that has a kernel and no other reader. Else it is a depthwise convolution of
    1x1: its kernel rounds by channel, where a product and a sum of maps would each round to 8 bits.

    Args:
        classifier: It stays as it is.

    Returns:
        A functional model of the classifier's logits, from images (batch, height, width, channels),
        float32 from 0 to 255.
    """
    return _Folding(classifier).network


class _Folding:
    def __init__(self, classifier: Classifier):
        functional = graph_of(classifier.model)
        self._readers = iter(readers(functional))
        self._names = {"pixels"}
        self._made: dict[int, Any] = {}
        # The layers whose outputs nothing else reads, by these: what follows can be folded in.
        self._open: dict[int, Any] = {}
        pixels = keras.Input(classifier.image_shape, name="pixels")
        self._alone = len(next(self._readers)) == 1
        images = self._scaled(pixels, *classifier.scale_and_shift, "normalization")
        images._keras_history.operation.trainable = False
        ends = traverse(functional, [images], self._visit)
        self.network = keras.Model(pixels, ends[0], name=functional.name)

    def _visit(self, visit: Visit) -> Any:
        self._alone = len(next(self._readers)) == 1
        operation, kind = visit.operation, type(visit.operation).__name__
        name = visit.path.replace("/", "_")
        if kind in _TRAINING_ONLY:
            return self._handed_on(visit.args[0])
        affine = _affine(operation, visit.inputs)
        if affine:
            return self._scaled(visit.args[0], *affine, name)
        if kind == "SeparableConv2D":
            return self._separable(operation, visit.args[0], name)
        if kind in LINEAR and getattr(operation, "data_format", "") != "channels_first":
            return self._linear(operation, visit.args[0], name)
        function = getattr(operation, "activation", None) if kind == "Activation" else None
        if kind in _ACTIVATIONS:
            function = keras.activations.get(_ACTIVATIONS[kind])
        if function is not None:
            return self._activated(visit.args[0], function, name)
        return self._other(visit, name)

    def _handed_on(self, maps: Any) -> Any:
        if id(maps) in self._open and not self._alone:
            del self._open[id(maps)]
        return maps

    def _scaled(self, maps: Any, scale: np.ndarray, shift: np.ndarray, name: str) -> Any:
        """Returns `maps * scale + shift`; both (channels,)."""
        layer = self._open.get(id(maps))
        if layer is not None:
            kernel, bias = layer.get_weights()
            of_kernel = scale.reshape(*kernel.shape[-2:]) if _is_depthwise(layer) else scale
            layer.set_weights([kernel * of_kernel, bias * scale + shift])
            return self._handed_on(maps)
        maps, back = self._as_maps(maps, name)
        layer = keras.layers.DepthwiseConv2D(1, name=self._unique(name))
        return back(self._with_weights(layer, maps, [scale[None, None, :, None], shift]))

    def _as_maps(self, maps: Any, name: str) -> tuple[Any, Callable[[Any], Any]]:
        """Returns a tensor as maps (batch, places, 1, channels), and what undoes that."""
        places = maps.shape[1:-1]
        if len(places) == 2:
            return maps, lambda results: results
        shape = (math.prod(places), 1, maps.shape[-1])
        there = keras.layers.Reshape(shape, name=self._unique(f"{name}_in"))

        def back(results: Any) -> Any:
            shape = (*places, results.shape[-1])
            return keras.layers.Reshape(shape, name=self._unique(f"{name}_out"))(results)

        return there(maps), back

    def _with_weights(self, layer: Any, maps: Any, weights: Sequence[np.ndarray]) -> Any:
        """Calls a new layer of a kernel and an offset."""
        maps = layer(maps)
        layer.set_weights(weights)
        if self._alone:
            self._open[id(maps)] = layer
        return maps

    def _linear(self, operation: Any, maps: Any, name: str) -> Any:
        """Returns what a convolution or a dense layer gives, its activation on its own.

        A layer that is called twice becomes two: each is folded by what follows it.
        """
        changed = {"use_bias": True, "activation": "linear", "dtype": "float32"}
        kernel, *bias = operation.get_weights()
        width = math.prod(kernel.shape[-2:]) if _is_depthwise(operation) else kernel.shape[-1]
        weights = [kernel, *(bias or [np.zeros(width, np.float32)])]
        if isinstance(operation, keras.layers.Dense) and len(maps.shape) > 2:
            # LiteRT has a dense layer in int8 for vectors alone.
            maps, back = self._as_maps(maps, name)
            layer = keras.layers.Conv2D(width, 1, name=self._unique(name))
            maps = back(self._with_weights(layer, maps, [kernel[None, None], weights[1]]))
        else:
            layer = remade(operation, self._unique(name), changed)
            maps = self._with_weights(layer, maps, weights)
        return self._activated(maps, operation.activation, f"{name}_activation")

    def _separable(self, operation: Any, maps: Any, name: str) -> Any:
        """Returns a separable convolution as the two that it consists of."""
        depthwise, pointwise, *bias = operation.get_weights()
        alone, self._alone = self._alone, False
        first = keras.layers.DepthwiseConv2D(
            operation.kernel_size,
            strides=operation.strides,
            padding=operation.padding,
            depth_multiplier=operation.depth_multiplier,
            dilation_rate=operation.dilation_rate,
            name=self._unique(f"{name}_depthwise"),
        )
        zeros = np.zeros(math.prod(depthwise.shape[-2:]), np.float32)
        maps = self._with_weights(first, maps, [depthwise, zeros])
        self._alone = alone
        second = keras.layers.Conv2D(operation.filters, 1, name=self._unique(f"{name}_pointwise"))
        bias = bias or [np.zeros(operation.filters, np.float32)]
        maps = self._with_weights(second, maps, [pointwise, *bias])
        return self._activated(maps, operation.activation, f"{name}_activation")

    def _activated(self, maps: Any, function: Any, name: str) -> Any:
        """Returns an activation of maps, of operations that LiteRT has in int8."""
        layers = keras.layers
        if function is keras.activations.linear:
            return self._handed_on(maps)
        if function is keras.activations.relu:
            return layers.ReLU(name=self._unique(name))(maps)
        if function is keras.activations.relu6:
            return layers.ReLU(6.0, name=self._unique(name))(maps)
        if function is keras.activations.silu:
            gate = layers.Activation("sigmoid", name=self._unique(f"{name}_gate"))(maps)
            return layers.Multiply(name=self._unique(name))([maps, gate])
        if function in (keras.activations.hard_sigmoid, keras.activations.hard_silu):
            gate = self._named(maps + 3.0, f"{name}_shift")
            gate = layers.ReLU(6.0, name=self._unique(f"{name}_relu"))(gate)
            gate = self._named(gate * (1 / 6), f"{name}_gate")
            if function is keras.activations.hard_sigmoid:
                return gate
            return layers.Multiply(name=self._unique(name))([maps, gate])
        return layers.Activation(function, name=self._unique(name))(maps)

    def _named(self, maps: Any, name: str) -> Any:
        """Gives the operation of keras.ops that writes maps a name that no layer has."""
        maps._keras_history.operation.name = self._unique(name)
        return maps

    def _other(self, visit: Visit, name: str) -> Any:
        """Calls any other operation, made anew with its weights."""
        operation, key = visit.operation, id(visit.operation)
        first = key not in self._made
        if first:
            self._made[key] = remade(operation, self._unique(name), {})
        outputs = self._made[key](*visit.args, **visit.kwargs)
        if first and isinstance(operation, keras.Layer) and operation.weights:
            self._made[key].set_weights(operation.get_weights())
        return outputs

    def _unique(self, name: str) -> str:
        return unique(name, self._names)


def _is_depthwise(layer: Any) -> bool:
    return isinstance(layer, keras.layers.DepthwiseConv2D)


def _affine(operation: Any, inputs: Sequence[Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns scale and shift of each channel, (channels,), of a layer that does only that."""
    layers = keras.layers
    if not isinstance(
        operation, (layers.BatchNormalization, layers.Normalization, layers.Rescaling)
    ):
        return None
    shape = inputs[0].shape
    if isinstance(operation, layers.BatchNormalization):
        if operation.axis not in (-1, len(shape) - 1):
            return None
        mean, variance = (np.asarray(v) for v in (operation.moving_mean, operation.moving_variance))
        scale = 1 / np.sqrt(variance + operation.epsilon)
        scale = scale * np.asarray(operation.gamma) if operation.scale else scale
        shift = np.asarray(operation.beta) if operation.center else 0.0
        shift = shift - mean * scale
    elif isinstance(operation, layers.Rescaling):
        scale, shift = np.asarray(operation.scale), np.asarray(operation.offset)
    else:
        mean, deviation = np.asarray(operation.mean), np.sqrt(np.asarray(operation.variance))
        deviation = np.maximum(deviation, keras.config.epsilon())
        scale, shift = 1 / deviation, -mean / deviation
        if operation.invert:
            scale, shift = deviation, mean
    parts = [np.squeeze(part) for part in (scale, shift)]
    if not all(part.shape in ((), shape[-1:]) for part in parts):
        return None
    scale, shift = (np.broadcast_to(part, shape[-1:]).astype(np.float32) for part in parts)
    return scale, shift
