"""Networks that are loaded and ready to run, whatever runs them; and TensorFlow's own."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

# From images (batch, height, width, channels) uint8 to logits (batch, classes) float32.
Logits = Callable[[np.ndarray], np.ndarray]


class Runner(abc.ABC):
    """A network in a runtime; a call gives logits (batch, classes) for images.

    Images are normalized, (batch, height, width, channels) float32, always as many.
    """

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns the logits of images."""
        self.load(images)
        self.run()
        return self.logits()

    @abc.abstractmethod
    def load(self, images: np.ndarray) -> None:
        """Takes the images that `run` runs on."""

    @abc.abstractmethod
    def run(self) -> None:
        """Runs the network; this is what is timed."""

    @abc.abstractmethod
    def logits(self) -> np.ndarray:
        """Returns what the last run gave."""


class TensorFlowRunner(Runner):
    """A network as a traced function of TensorFlow, with TensorFlow's threads.

    Args:
        function: From images to logits, tensors both.
    """

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor]):
        self._function, self.built = function, True

    def load(self, images: np.ndarray) -> None:
        """Makes a tensor of the images."""
        self._images = tf.constant(images)

    def run(self) -> None:
        """Calls the function."""
        self._logits = self._function(self._images)

    def logits(self) -> np.ndarray:
        """Returns the function's result."""
        return self._logits.numpy()


def images_of(model: keras.Model, batch_size: int) -> tf.TensorSpec:
    """Returns what a runner of a network takes: normalized images, always as many."""
    return tf.TensorSpec((batch_size, *model.input_shape[1:]), tf.float32, name="images")


def traced(network: Callable[[tf.Tensor], tf.Tensor], images: tf.TensorSpec) -> Any:
    """Returns a concrete function of images: what a network does when it is not trained."""
    if isinstance(network, keras.Model):
        network = functools.partial(network, training=False)
    return tf.function(lambda x: network(x), autograph=False).get_concrete_function(images)


def frozen(network: Callable[[tf.Tensor], tf.Tensor], images: tf.TensorSpec) -> Any:
    """Returns the same with the variables made constants; it gives a list.

    What runs it can fold normalization into the convolutions, once: variables it would have to read
    at every call (docs/deployment.md).
    """
    return convert_variables_to_constants_v2(traced(network, images))


def inlined(network: Callable[[tf.Tensor], tf.Tensor], images: tf.TensorSpec) -> Any:
    """Returns what `frozen` does, of operations alone: converters read no function within another.

    Keras has grouped convolutions in one, which XLA compiles.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)  # those within; what is traced is traced
    try:
        return frozen(network, images)
    finally:
        tf.config.run_functions_eagerly(before)


class Exportable(keras.Model):
    """A function of images as a Keras model, which Keras' own exports take.

    Args:
        function: It uses constants alone, such as what `inlined` returns: tf2onnx takes those that
            a layer has beside its variables, such as those of a Normalization, for inputs.
    """

    def __init__(self, function: Callable[[tf.Tensor], Any]):
        super().__init__(name="network")
        self._function, self.built = function, True

    def call(self, images: tf.Tensor) -> Any:
        """Returns what the function gives."""
        return self._function(images)


def in_parts(run: Logits, images: np.ndarray, most: int = 64) -> np.ndarray:
    """Returns logits of images, of some at a time: memory is for the largest map of all at once."""
    parts = [images[i : i + most] for i in range(0, len(images), most)]
    return np.concatenate([run(part) for part in parts])


def random_images(model: keras.Model, count: int, seed: int = 0) -> np.ndarray:
    """Returns random normalized images that fit a network, (count, height, width, channels)."""
    return random_values((count, *model.input_shape[1:]), seed)


def random_values(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Returns random numbers of a shape, as normalized images have them."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
