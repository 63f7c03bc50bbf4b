"""Fake quantization: a network that rounds in float32 as LiteRT does in int8, and learns with it.

Kernels have a scale for each channel that they write, and are symmetric. Maps have one scale and
one zero each. What LiteRT gives the scale of its input is not rounded again.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.deployment.folding import LINEAR
from tas_tf.models.traversal import Visit, readers, traverse, unique

PIXELS = (0.0, 255.0)
# How fast the range of a map follows that of a batch.
_MOMENTUM = 0.99
_SMALLEST = 1e-6  # of a range: where all is zero
_PART = 64  # images that are looked at together
# What LiteRT fuses a following ReLU into: only what that gives is rounded.
_FUSES_RELU = (*LINEAR, "Add", "Multiply", "Subtract")
# What hands values on, by classes of layers and of operations of keras.ops: no new values.
_SAME_VALUES = (
    "MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "ZeroPadding1D",
    "ZeroPadding2D", "Cropping1D", "Cropping2D", "Reshape", "Flatten", "Permute", "Transpose",
    "RepeatVector", "ExpandDims", "Squeeze", "GetItem", "MaxPool",
)  # fmt: skip
# What gives means in the scale of its input.
_SAME_SCALE = ("AveragePooling1D", "AveragePooling2D", "AveragePool")
# The ranges that LiteRT gives the outputs of activations, whatever these are.
_FIXED = {"sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}


class MapRange(keras.Layer):
    """Rounds maps to 256 values of a range that has a zero.

    Args:
        fixed: The range, where it never changes. Otherwise it is widened to all that is seen as
            long as `observes`, when nothing is rounded; then it follows the batches of training.
    """

    def __init__(self, fixed: tuple[float, float] | None = None, **options: Any):
        super().__init__(**options)
        self.observes = self.moves = fixed is None
        self.low, self.high = (
            self.add_weight(
                name=name, shape=(), initializer=value, trainable=False, aggregation="mean"
            )
            for name, value in zip(("low", "high"), map(_constant, fixed or (0, 0)), strict=True)
        )

    def call(self, maps: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the maps rounded, as they are while it observes."""
        if self.moves and (training or self.observes):
            rate = 1 - _MOMENTUM
            seen = tf.minimum(tf.reduce_min(maps), 0.0), tf.maximum(tf.reduce_max(maps), 0.0)
            for end, most, choose in zip((self.low, self.high), seen, (tf.minimum, tf.maximum),
                                         strict=True):  # fmt: skip
                new = choose(end, most) if self.observes else end + rate * (most - end)
                end.assign(tf.stop_gradient(new))
        return maps if self.observes else self.rounded(maps)

    def rounded(self, maps: tf.Tensor) -> tf.Tensor:
        """Returns the maps rounded, by the range as it is."""
        low, high = (tf.convert_to_tensor(end) for end in (self.low, self.high))
        return tf.quantization.fake_quant_with_min_max_vars(
            maps, low, tf.maximum(high, low + _SMALLEST)
        )

    def compute_output_shape(self, shape: Any) -> Any:
        """Returns the shape of the maps."""
        return shape


class InRange(keras.Layer):
    """Rounds maps by the range of other maps.

    Args:
        of: The range.
    """

    def __init__(self, of: MapRange, **options: Any):
        super().__init__(**options)
        self.of = of

    def call(self, maps: tf.Tensor) -> tf.Tensor:
        """Returns the maps rounded; as they are while their range is not known."""
        return maps if self.of.observes else self.of.rounded(maps)

    def compute_output_shape(self, shape: Any) -> Any:
        """Returns the shape of the maps."""
        return shape


class RoundedKernel(keras.Layer):
    """A layer whose kernel is rounded to 255 values for each channel, around zero.

    It trains the kernel of each channel in units of the channel's largest value, and the offset in
    units of the layer's: a step then changes all by as much, whatever a normalization that was
    folded in has scaled them by.

    Args:
        layer: A layer of `folding.LINEAR` with a kernel and an offset.
    """

    def __init__(self, layer: Any, **options: Any):
        super().__init__(**options)
        self.trainable = layer.trainable
        layer.trainable = False
        self._layer, self._settled = layer, False
        kernel, bias = layer.get_weights()
        self._shape, kernel = kernel.shape, kernel.reshape(-1, len(bias))
        self._units = np.maximum(np.abs(kernel).max(axis=0), _SMALLEST)
        self._bias_unit = max(np.abs(bias).max(), np.abs(kernel).max(), _SMALLEST)
        self._kernel = self._variable("kernel", kernel / self._units)
        self._bias = self._variable("bias", bias / self._bias_unit)

    def _variable(self, name: str, values: np.ndarray) -> keras.Variable:
        variable = self.add_weight(name=name, shape=values.shape, initializer="zeros")
        variable.assign(values)
        return variable

    def values(self) -> list[tf.Tensor]:
        """Returns the kernel, rounded, and the offset."""
        kernel = tf.convert_to_tensor(self._kernel) * self._units
        most = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(kernel), axis=0), _SMALLEST))
        kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -most, most, narrow_range=True
        )
        return [tf.reshape(kernel, self._shape), tf.convert_to_tensor(self._bias) * self._bias_unit]

    def call(self, maps: tf.Tensor) -> tf.Tensor:
        """Returns what the layer gives with its kernel rounded."""
        if self._settled:
            return self._layer(maps)
        return self._layer.stateless_call([], self.values(), maps)[0]

    def settle(self) -> None:
        """Gives the layer its rounded kernel for good; LiteRT's converter rounds it alike."""
        if not self._settled:
            self._layer.set_weights([value.numpy() for value in self.values()])
        self._settled = True

    def compute_output_shape(self, shape: Any) -> Any:
        """Returns what the layer gives."""
        return self._layer.compute_output_shape(shape)


def fake_quantized(network: keras.Model, images: np.ndarray) -> keras.Model:
    """Returns a network that rounds kernels and maps as int8 does.

    Args:
        network: What `folding.folded` returns; it becomes a part of the result.
        images: (batch, height, width, channels) uint8, real images: the ranges that maps have on
            them are the first ones.
    """
    student = _Rounding(network).student
    for start in range(0, len(images), _PART):
        student(images[start : start + _PART].astype(np.float32), training=False)
    for layer in student.layers:
        if isinstance(layer, MapRange):
            layer.observes = False
    return student


def settle(student: keras.Model) -> None:
    """Gives every kernel of `fake_quantized` its rounded values for good."""
    for layer in student.layers:
        if isinstance(layer, RoundedKernel):
            layer.settle()


class _Rounding:
    def __init__(self, network: keras.Model):
        self._readers = iter(readers(network)[len(network.inputs) :])
        self._names = {operation.name for operation in network.operations}
        # What rounds a tensor, or what it is a part of.
        self._ranges: dict[int, MapRange] = {}
        pixels = keras.Input(network.input_shape[1:], name="pixels")
        start = self._ranged(pixels, "pixels_range", PIXELS)
        self.student = keras.Model(pixels, traverse(network, [start], self._visit)[0])

    def _visit(self, visit: Visit) -> list[Any]:
        operation, kind, name = visit.operation, type(visit.operation).__name__, visit.path
        read_by = next(self._readers)
        if kind in LINEAR and len(getattr(operation, "weights", ())) == 2:
            operation = RoundedKernel(operation, name=self._unique(f"{name}_rounded"))
        outputs = keras.tree.flatten(operation(*visit.args, **visit.kwargs))
        if kind in _FUSES_RELU and len(read_by) == 1 and _is_fused(read_by[0]):
            return outputs
        given = [x for x in keras.tree.flatten((visit.args, visit.kwargs)) if id(x) in self._ranges]
        same = self._ranges[id(given[0])] if len(given) == 1 else None
        if same is not None and kind in _SAME_VALUES:
            self._ranges.update((id(output), same) for output in outputs)
            return outputs
        if same is not None and kind in _SAME_SCALE:
            outputs = [
                InRange(same, name=self._unique(f"{name}_in_range"))(output) for output in outputs
            ]
            self._ranges.update((id(output), same) for output in outputs)
            return outputs
        function = getattr(operation, "activation", None)
        fixed = _FIXED.get(
            getattr(function, "__name__", "") if kind == "Activation" else kind.lower()
        )
        return [
            self._ranged(output, f"{name}_range{index or ''}", fixed)
            if keras.backend.is_float_dtype(output.dtype)
            else output
            for index, output in enumerate(outputs)
        ]

    def _ranged(self, maps: Any, name: str, fixed: tuple[float, float] | None) -> Any:
        layer = MapRange(fixed, name=self._unique(name))
        maps = layer(maps)
        self._ranges[id(maps)] = layer
        return maps

    def _unique(self, name: str) -> str:
        return unique(name, self._names)


def _is_fused(operation: Any) -> bool:
    """Whether LiteRT makes an activation a part of what it follows."""
    if not isinstance(operation, keras.layers.ReLU):
        return False
    return (
        operation.max_value in (None, 6)
        and not operation.negative_slope
        and not operation.threshold
    )


def _constant(value: float) -> keras.initializers.Initializer:
    return keras.initializers.Constant(value)
