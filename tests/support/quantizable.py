"""Small classifiers, of 8x8 pixels of three channels, that have every kind of layer."""

import keras
import numpy as np
import small_runs
from keras import layers, ops

from tas_tf.deployment.classifier import Classifier

SHAPE = (8, 8, 3)


def images(count: int = 64) -> np.ndarray:
    """Random pixels, uint8 (count, 8, 8, 3)."""
    return np.random.default_rng(1).integers(0, 256, (count, *SHAPE), np.uint8)


def classifier(name: str) -> Classifier:
    """One of them with random weights; its layers have the names of a model that is alone."""
    keras.utils.clear_session()
    return randomized(ALL[name]())


def randomized(model: keras.Model) -> Classifier:
    """A model with random weights as a classifier."""
    return small_runs.classifier(small_runs.randomized(model, np.random.default_rng(0)))


def _ending(inputs, maps) -> keras.Model:
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(maps)))


def folds() -> keras.Model:
    """Normalization behind a convolution and behind a depthwise one."""
    inputs = maps = layers.Input(SHAPE)
    maps = layers.Conv2D(6, 3, padding="same", use_bias=False)(maps)
    maps = layers.ReLU()(layers.BatchNormalization()(maps))
    maps = layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(maps)
    return _ending(inputs, layers.ReLU(6.0)(layers.BatchNormalization(scale=False)(maps)))


def normalized_first() -> keras.Model:
    """As in DenseNet: joined maps are normalized, and pooled by averages."""
    inputs = layers.Input(SHAPE)
    maps = layers.Conv2D(5, 3, padding="same")(inputs)
    more = layers.Conv2D(3, 1)(layers.Activation("relu")(layers.BatchNormalization()(maps)))
    maps = layers.Dropout(0.5)(layers.Concatenate()([maps, more]))
    maps = layers.Activation("relu")(layers.BatchNormalization(center=False)(maps))
    return _ending(inputs, layers.AveragePooling2D(2)(maps))


def gated() -> keras.Model:
    """As in EfficientNet: silu, squeeze and excitation, preprocessing of its own."""
    inputs = layers.Input(SHAPE)
    maps = layers.Normalization(mean=(0.1, 0.2, 0.3), variance=(1.0, 2.0, 3.0))(inputs)
    maps = layers.Conv2D(6, 3, activation="silu")(layers.Rescaling(0.5, offset=0.1)(maps))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(maps)
    gate = layers.Conv2D(6, 1, activation="sigmoid")(layers.Conv2D(2, 1, activation="silu")(gate))
    return _ending(inputs, layers.Multiply()([maps, gate]))


def hard() -> keras.Model:
    """As in MobileNetV3: hard gates, also of operations; sums and differences."""
    inputs = layers.Input(SHAPE)
    maps = layers.Conv2D(6, 3, activation="hard_silu")(layers.ZeroPadding2D(1)(inputs))
    gate = ops.hard_sigmoid(layers.Conv2D(6, 1)(maps))
    maps = layers.Subtract()([layers.Add()([maps, gate]), ops.relu6(gate + 0.5)])
    return _ending(inputs, layers.MaxPooling2D(2)(maps * 1.5))


def separable() -> keras.Model:
    """As in Xception: separable convolutions, one of them without a normalization."""
    inputs = maps = layers.Input(SHAPE)
    maps = layers.SeparableConv2D(6, 3, use_bias=False, depth_multiplier=2)(maps)
    maps = layers.ReLU()(layers.BatchNormalization()(maps))
    return _ending(inputs, layers.SeparableConv2D(5, 3, activation="tanh")(maps))


def dense() -> keras.Model:
    """As in VGG: dense layers, here normalized too, behind a flattened map."""
    inputs = maps = layers.Input(SHAPE)
    maps = layers.MaxPooling2D(2)(layers.Conv2D(4, 3, activation="relu")(maps))
    maps = layers.BatchNormalization()(layers.Dense(9)(layers.Flatten()(maps)))
    maps = layers.BatchNormalization()(layers.LeakyReLU()(maps))
    return keras.Model(inputs, layers.Dense(10)(layers.Activation("gelu")(maps)))


def shared() -> keras.Model:
    """A nested model and a layer that is called twice, normalized otherwise each time."""
    block = keras.Sequential(
        [layers.Input(SHAPE), layers.Conv2D(3, 1), layers.BatchNormalization()]
    )
    inputs = layers.Input(SHAPE)
    convolution = layers.Conv2D(4, 3)
    one = layers.BatchNormalization()(convolution(block(inputs)))
    other = layers.BatchNormalization()(convolution(inputs))
    return _ending(inputs, layers.Add()([layers.ReLU()(one), other]))


def float32() -> keras.Model:
    """A layer that int8 has no kernels for."""
    inputs = maps = layers.Input(SHAPE)
    return _ending(inputs, layers.LayerNormalization()(layers.Conv2D(4, 3)(maps)))


ALL = {
    make.__name__: make
    for make in (folds, normalized_first, gated, hard, separable, dense, shared, float32)
}
