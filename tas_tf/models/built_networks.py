"""Networks that are built anew and searched like any model that was read.

A network is a function from the images' shape and the number of classes to a Keras model of stock
layers that gives logits. Nothing else has to be said of it: its widths, ties and branches are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces.families import IMAGENET_DEPTHS
from tas_tf.spaces.search_space import SearchSpace

# Smaller images are not halved as often at the start.
_LARGE = 96


def vgg16(input_shape: Sequence[int], num_classes: int) -> keras.Model:
    """Returns VGG-16 with batch normalization, and one layer behind the average of its maps.

    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    ICLR 2015, configuration D; its two layers of 4,096 are left out.

    Args:
        input_shape: (height, width, channels) of the images.
        num_classes: Number of classes.
    """
    images = x = keras.Input(tuple(input_shape))
    for stage, (count, filters) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for number in range(1, count + 1):
            x = _normalized(x, layers.Conv2D, filters, 3, name=f"block{stage}_conv{number}")
        x = layers.MaxPooling2D(padding="same", name=f"block{stage}_pool")(x)
    return _classified(images, x, num_classes, "vgg16")


def mobilenetv2(input_shape: Sequence[int], num_classes: int) -> keras.Model:
    """Returns MobileNetV2: inverted residuals with linear bottlenecks.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2.
    For images below 96 pixels the first layer and the second stage keep the size of the maps.

    Args:
        input_shape: (height, width, channels) of the images.
        num_classes: Number of classes.
    """
    images = keras.Input(tuple(input_shape))
    first = 2 if input_shape[0] >= _LARGE else 1
    x = _normalized(images, layers.Conv2D, 32, 3, strides=first, name="stem", most=6.0)
    stages = ((1, 16, 1, 1), (6, 24, 2, first), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
    for stage, (widening, filters, count, stride) in enumerate(
        (*stages, (6, 160, 3, 2), (6, 320, 1, 1)), 1
    ):
        for number in range(1, count + 1):
            strides = stride if number == 1 else 1
            x = _inverted(x, widening, filters, strides, f"stage{stage}_block{number}")
    x = _normalized(x, layers.Conv2D, 1280, 1, name="head", most=6.0)
    return _classified(images, x, num_classes, "mobilenetv2")


def densenet(input_shape: Sequence[int], num_classes: int) -> keras.Model:
    """Returns DenseNet-BC of depth 40 and growth 12: every layer reads the maps of all before it.

    Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, section 4: the network for
    images of 32 pixels, with bottlenecks, and with transitions that halve the number of channels.

    Args:
        input_shape: (height, width, channels) of the images.
        num_classes: Number of classes.
    """
    growth, count = 12, 6  # of layers in a block: (40 - 4) / 6, since each has two convolutions
    images = keras.Input(tuple(input_shape))
    options = {"padding": "same", "use_bias": False}
    x = layers.Conv2D(2 * growth, 3, name="stem", **options)(images)
    for block in (1, 2, 3):
        for number in range(1, count + 1):
            name = f"block{block}_layer{number}"
            y = layers.Conv2D(4 * growth, 1, name=f"{name}_bottleneck", **options)(
                _activated(x, f"{name}_in")
            )
            y = layers.Conv2D(growth, 3, name=f"{name}_conv", **options)(
                _activated(y, f"{name}_mid")
            )
            x = layers.Concatenate(name=f"{name}_concat")([x, y])
        x = _activated(x, f"block{block}_out")
        if block < 3:
            halved = layers.Conv2D(x.shape[-1] // 2, 1, name=f"transition{block}", **options)(x)
            x = layers.AveragePooling2D(2, padding="same", name=f"transition{block}_pool")(halved)
    return _classified(images, x, num_classes, "densenet")


def resnet(depth: int) -> Callable[[Sequence[int], int], keras.Model]:
    """Returns the function that builds a ResNet, as `families` describes it.

    Args:
        depth: Its layers: 18, 34 and 50 are of the ImageNet family, others of the CIFAR one.
    """

    def build(input_shape: Sequence[int], num_classes: int) -> keras.Model:
        family = "imagenet_resnet" if depth in IMAGENET_DEPTHS else "cifar_resnet"
        space = SearchSpace.resnet(depth, num_classes, input_shape, family=family)
        model = build_model(space.unpruned())
        return keras.Model(model.inputs, model.outputs, name=f"resnet{depth}")

    return build


NETWORKS: dict[str, Callable[[Sequence[int], int], keras.Model]] = {
    **{network.__name__: network for network in (vgg16, mobilenetv2, densenet)},
    **{f"resnet{depth}": resnet(depth) for depth in (18, 20, 32, 34, 50, 56, 110, 164)},
}


def _inverted(x: Any, widening: int, filters: int, strides: int, name: str) -> Any:
    """Returns a block that widens, filters every channel, and narrows without a ReLU."""
    y, width = x, x.shape[-1]
    if widening > 1:
        y = _normalized(y, layers.Conv2D, widening * width, 1, name=f"{name}_expand", most=6.0)
    y = _normalized(
        y, layers.DepthwiseConv2D, 3, strides=strides, name=f"{name}_depthwise", most=6.0
    )
    y = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(y)
    y = layers.BatchNormalization(momentum=0.9, name=f"{name}_project_bn")(y)
    if strides > 1 or width != filters:
        return y
    return layers.Add(name=f"{name}_add")([x, y])


def _normalized(
    x: Any, layer: Any, *sizes: int, name: str, strides: int = 1, most: float | None = None
) -> Any:
    """Returns a convolution's output, normalized, behind a ReLU up to `most`."""
    options = {"strides": strides, "padding": "same", "use_bias": False, "name": name}
    return _activated(layer(*sizes, **options)(x), name, most)


def _activated(x: Any, name: str, most: float | None = None) -> Any:
    """Returns the normalized maps behind a ReLU up to `most`."""
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(most, name=f"{name}_relu")(x)


def _classified(images: Any, x: Any, num_classes: int, name: str) -> keras.Model:
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(images, layers.Dense(num_classes, name="logits")(x), name=name)
