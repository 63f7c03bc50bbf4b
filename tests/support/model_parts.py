"""Parts of Keras models that tests build, and layers of one's own."""

import keras
from keras import layers


class Scaled(layers.Layer):
    """A layer of one's own: a factor for each channel."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        return x * self.factor


class Unwritten(Scaled):
    """One that cannot be made anew from its configuration."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function


def image(size=6, channels=3, name=None):
    return layers.Input((size, size, channels), name=name)


def unit(x, filters, kernel=3, **kwargs):
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False, **kwargs)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def classified(inputs, x, classes=5):
    if len(x.shape) > 2:
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x))


def squeezed(x, ratio=2):
    c = x.shape[-1]
    s = layers.GlobalAveragePooling2D()(x)
    s = layers.Dense(c // ratio, activation="relu")(s)
    s = layers.Dense(c, activation="sigmoid")(s)
    return layers.Multiply()([x, layers.Reshape((1, 1, c))(s)])


def shuffled(x, groups):
    h, w, c = x.shape[1:]
    x = layers.Reshape((h, w, groups, c // groups))(x)
    return layers.Reshape((h, w, c))(layers.Permute((1, 2, 4, 3))(x))
