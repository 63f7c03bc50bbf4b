"""Models that read blue, green, red, made to read red, green, blue."""

import keras
import numpy as np
import pytest
from keras import layers
from masking import randomize

from tas_tf.errors import ModelError
from tas_tf.models.channel_order import reversed_channels


def convolutional():
    i = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.ZeroPadding2D(1)(i))
    one, other = layers.Conv2D(4, 3)(x), layers.Conv2D(4, 3, groups=1)(x)
    x = layers.Concatenate()([layers.DepthwiseConv2D(3)(x), one, other])
    return keras.Model(i, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


def flattened():
    i = keras.Input((4, 4, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(i))
    return keras.Model(i, layers.Dense(5)(layers.Concatenate()([pooled, layers.Flatten()(i)])))


def of_keras():
    return keras.applications.ResNet50(
        weights=None, input_shape=(32, 32, 3), classes=5, classifier_activation=None
    )


@pytest.mark.parametrize(
    "make", [convolutional, flattened, pytest.param(of_keras, marks=pytest.mark.slow)]
)
def test_images_of_reversed_channels_give_the_same(make):
    model, rng = make(), np.random.default_rng(0)
    randomize(model, rng)
    images = rng.normal(size=(3, *model.input_shape[1:])).astype("float32")
    expected, before = model(images).numpy(), model.get_weights()
    received = reversed_channels(model)(images[..., ::-1]).numpy()
    assert np.abs(received - expected).max() < 1e-4 * np.abs(expected).max()
    assert not np.allclose(model(images[..., ::-1]), expected, rtol=1e-3)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_not_understood_is_not_reversed():
    i = keras.Input((8, 8, 3))
    x = layers.Lambda(lambda x: x[..., :2])(i)
    model = keras.Model(i, layers.Dense(5)(layers.Flatten()(x)))
    with pytest.raises(ModelError, match="reading of images is understood"):
        reversed_channels(model)
