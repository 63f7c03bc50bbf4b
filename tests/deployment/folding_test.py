"""Networks as a device computes them: the same function, of layers that int8 has kernels for."""

import keras
import numpy as np
import pytest
import quantizable
from keras import layers

from tas_tf.deployment.folding import folded


@pytest.fixture
def images():
    return quantizable.images()


def kinds(network):
    return [type(layer).__name__ for layer in network.layers]


@pytest.mark.parametrize("name", quantizable.ALL)
def test_the_function_stays_the_same(name, images):
    classifier = quantizable.classifier(name)
    expected = classifier.logits(images).numpy()
    network = folded(classifier)
    received = network(images.astype(np.float32)).numpy()
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(classifier.logits(images), expected)  # itself is as before
    gone = {"BatchNormalization", "Normalization", "Rescaling", "Dropout", "SeparableConv2D"}
    assert not gone & set(kinds(network))
    for layer in network.layers:
        assert len(layer.weights) in (0, 2) or name == "float32"


def test_what_nothing_else_reads_is_folded_into_the_kernel_before():
    network = folded(quantizable.classifier("folds"))
    expected = ["InputLayer", "DepthwiseConv2D", "Conv2D", "ReLU", "DepthwiseConv2D", "ReLU"]
    assert kinds(network) == [*expected, "GlobalAveragePooling2D", "Dense"]


def test_what_is_read_twice_is_not_folded():
    """Both the convolution's output and its normalization's are read."""
    images = layers.Input((8, 8, 3))
    maps = layers.Conv2D(4, 3)(images)
    normalized = layers.BatchNormalization()(maps)
    logits = layers.Dense(10)(layers.Flatten()(layers.Add()([maps, normalized])))
    network = folded(quantizable.randomized(keras.Model(images, logits)))
    assert kinds(network).count("DepthwiseConv2D") == 2  # of the pixels, and this one


def test_preprocessing_of_pixels_that_something_else_reads_is_not_folded():
    images = layers.Input(quantizable.SHAPE)
    scaled = layers.Conv2D(4, 3)(layers.Rescaling(3.0, offset=1.0)(images))
    logits = layers.Dense(10)(layers.Flatten()(layers.Add()([scaled, layers.Conv2D(4, 3)(images)])))
    classifier = quantizable.randomized(keras.Model(images, logits))
    expected = classifier.logits(quantizable.images()).numpy()
    received = folded(classifier)(quantizable.images() * 1.0)
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_pixels_are_normalized_by_a_layer_that_is_not_trained():
    network = folded(quantizable.classifier("folds"))
    fixed = [layer.name for layer in network.layers if layer.weights and not layer.trainable]
    assert fixed == ["normalization"]
