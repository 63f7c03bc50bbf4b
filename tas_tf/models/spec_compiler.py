"""The spec compiler: from an Architecture to an ordinary Keras model of stock layers."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import keras

from tas_tf.layers.normalization import EPSILON, MOMENTUM
from tas_tf.layers.padding import (
    FusedBatchNormalization,
    PaddedConv2D,
    PaddedDense,
    UnfusedReLU,
)
from tas_tf.runtime import environment
from tas_tf.spaces import families
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.families import BlockLayers, Layer

_HE_NORMAL = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"},
}
_SMALL_NORMAL = {"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 0.01}}

# The namespace that training passes: same layers, same variables, fused batch normalization, maps
# as wide as the device likes.
TRAINING_LAYERS = types.SimpleNamespace(
    **{
        name: getattr(keras.layers, name)
        for name in (
            "Add",
            "AveragePooling2D",
            "GlobalAveragePooling2D",
            "Input",
            "MaxPooling2D",
            "ZeroPadding2D",
        )
    },
    BatchNormalization=FusedBatchNormalization,
    Conv2D=PaddedConv2D,
    Dense=PaddedDense,
    ReLU=UnfusedReLU,
)


def build_model(
    architecture: Architecture,
    layers: Any = keras.layers,
    map_width: Callable[[int], int] = int,
) -> keras.Model:
    """Builds the network of an architecture.

    Args:
        architecture: The architecture.
        layers: The namespace of layers: `keras.layers` (what is saved) or `TRAINING_LAYERS`.
            Layers and variables have the same names in both. A `Model` in it makes the network, of
            images, logits and a name.
        map_width: From the true width of a map to the number of channels that it is built with,
            at least as many. Which layers there are follows from the true widths, and so do
            image channels and classes.

    Returns:
        A model from images (batch, height, width, channels) to logits (batch, classes).

    Raises:
        InstallationError: If Keras has settings that are not supported.
    """
    environment.check_keras()
    return _Compiler(architecture, layers, map_width).build()


def build_layer(
    architecture: Architecture, layer: Layer, in_channels: int, out_channels: int
) -> keras.Model:
    """Builds one layer of a network with all that belongs to it, to be measured on its own.

    The stem has its pooling, the classifier the one before it, and a convolution that ends its
    block the addition and the ReLU.

    Args:
        architecture: An architecture of the same family.
        layer: The layer.
        in_channels: Its input channels.
        out_channels: Its output channels.

    Returns:
        A model from maps (batch, height, width, in_channels).
    """
    compiler = _Compiler(architecture, keras.layers, int)
    maps = keras.layers.Input(shape=(*layer.in_size, in_channels), name="maps")
    if layer.kind == "classifier":
        return keras.Model(maps, compiler._classify(maps, in_channels, out_channels))
    x = compiler._unit(maps, layer, in_channels, out_channels)
    if layer.kind == "convolution" and layer.pooled_size:
        x = compiler._pool_stem(x)
    elif layer.kind == "convolution" and not layer.relu:
        x = compiler._end_block(x, x, "block")
    return keras.Model(maps, x)


class _Compiler:
    def __init__(self, architecture: Architecture, layers: Any, map_width: Callable[[int], int]):
        self.architecture = architecture
        self.layers = layers
        self.map_width = map_width
        self.family = families.FAMILIES[architecture.family]

    def build(self) -> keras.Model:
        architecture, layers, outline = self.architecture, self.layers, self.architecture.outline
        images = layers.Input(shape=architecture.input_shape, name="images")
        channels = architecture.stem_width
        stem_width = self.map_width(channels)
        x = self._unit(images, outline.stem, architecture.input_shape[2], stem_width)
        if self.family.stem_pool:
            x = self._pool_stem(x)
        for stage, stage_widths in zip(outline.stages, architecture.stages, strict=True):
            for block, widths in zip(stage, stage_widths, strict=True):
                x = self._block(x, block, channels, widths)
                channels = widths[-1]
        logits = self._classify(x, self.map_width(channels), architecture.num_classes)
        make = getattr(layers, "Model", keras.Model)
        return make(images, logits, name=architecture.family)

    def _pool_stem(self, x: Any) -> Any:
        # Behind a ReLU padding by zero is padding by the smallest value.
        x = self.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        return self.layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)

    def _classify(self, x: Any, channels: int, classes: int) -> Any:
        x = self.layers.GlobalAveragePooling2D(name="pool")(x)
        classifier = self.layers.Dense(
            classes,
            kernel_initializer=_SMALL_NORMAL,
            name=self.architecture.outline.classifier.name,
            # Logits have the variables' type, whatever maps are computed in.
            dtype=keras.config.dtype_policy().variable_dtype,
        )
        return _built(classifier, (None, channels))(x)

    def _block(self, x: Any, block: BlockLayers, channels: int, widths: tuple[int, ...]) -> Any:
        y = x
        maps = [self.map_width(width) for width in (channels, *widths)]
        for layer, before, width in zip(block.units, maps, maps[1:], strict=False):
            zero_scale = self.family.zero_last_scale and layer is block.units[-1]
            y = self._unit(y, layer, before, width, zero_scale)
        # By the true widths: maps of different ones may come out as wide as each other.
        if block.needs_projection(channels, widths[-1]):
            x = self._unit(x, block.projection, maps[0], maps[-1])
        return self._end_block(x, y, block.projection.name.removesuffix("_projection"))

    def _end_block(self, x: Any, y: Any, name: str) -> Any:
        x = self.layers.Add(name=f"{name}_add")([x, y])
        return self.layers.ReLU(name=f"{name}_relu")(x)

    def _unit(
        self, x: Any, layer: Layer, in_channels: int, channels: int, zero_scale: bool = False
    ) -> Any:
        x = self._convolve(x, layer, in_channels, channels)
        if layer.normalized:
            normalization = self.layers.BatchNormalization(
                momentum=MOMENTUM,
                epsilon=EPSILON,
                gamma_initializer="zeros" if zero_scale else "ones",
                name=f"{layer.name}_bn",
            )
            x = _built(normalization, (None, None, None, channels))(x)
        return self.layers.ReLU(name=f"{layer.name}_relu")(x) if layer.relu else x

    def _convolve(self, x: Any, layer: Layer, in_channels: int, channels: int) -> Any:
        stride, padding = layer.stride, "same"
        if layer.kind == "projection" and stride > 1:
            pooling = self.layers.AveragePooling2D(
                2, strides=stride, padding="same", name=f"{layer.name}_pool"
            )
            x, stride = pooling(x), 1
        elif stride > 1 and layer.kernel != (1, 1):
            # "same" pads otherwise where the stride is 2: here half a kernel on every side.
            pads = tuple(size // 2 for size in layer.kernel)
            x, padding = self.layers.ZeroPadding2D(pads, name=f"{layer.name}_pad")(x), "valid"
        convolution = self.layers.Conv2D(
            channels,
            layer.kernel,
            strides=stride,
            padding=padding,
            use_bias=False,
            kernel_initializer=_HE_NORMAL,
            name=layer.name,
        )
        return _built(convolution, (None, None, None, in_channels))(x)


def _built(layer: Any, true_shape: tuple[int | None, ...]) -> Any:
    """Builds a layer for its true input, which a training twin may pad; returns it."""
    layer.build(true_shape)
    return layer
