"""The classifier that is deployed: a network with its preprocessing and its labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from tas_tf.data.image_data import ImageData
from tas_tf.spaces.architecture import Architecture

# What clients name: the input, and the outputs of all but LiteRT, which has the logits alone.
INPUT = "images"
OUTPUTS = ("logits", "probabilities", "classes")


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained network with what stands before and behind it: from uint8 images to classes.

    Args:
        model: From normalized images to logits.
        mean: Mean of each channel, of images scaled to 0..1.
        deviation: Standard deviation of each channel, likewise.
        label_names: Names of the classes, in the order of the logits.
        decode: From the bytes of an image file to an image, uint8 (height, width, channels).
    """

    model: keras.Model
    mean: Sequence[float]
    deviation: Sequence[float]
    label_names: Sequence[str]
    decode: Callable[[tf.Tensor], tf.Tensor]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of what it takes."""
        return tuple(self.model.input_shape[1:])

    @property
    def images(self) -> tf.TensorSpec:
        """What it takes: a batch of any size."""
        return tf.TensorSpec((None, *self.image_shape), tf.uint8, name=INPUT)

    @property
    def scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """What normalizes pixels from 0 to 255, `pixels * scale + shift`: (channels,) float32."""
        mean, deviation = (np.asarray(v, np.float64) for v in (self.mean, self.deviation))
        return (1 / (255 * deviation)).astype(np.float32), (-mean / deviation).astype(np.float32)

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns logits (batch, classes) of images (batch, height, width, channels) uint8."""
        scale, shift = self.scale_and_shift
        return self.model(tf.cast(images, tf.float32) * scale + shift, training=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network, with all that its artifacts are made from.

    Args:
        classifier: The network.
        architecture: Its architecture.
        data: Its images, prepared.
        seed: Seed of which images of the training set check, calibrate and train.
        qat_epochs: Epochs of quantization-aware training.
        align: What widths become multiples of, or `auto`: see `alignment.py`.
    """

    classifier: Classifier
    architecture: Architecture
    data: ImageData
    seed: int
    qat_epochs: int
    align: int | str = 1

    calibration_images: ClassVar[int] = 256
    # Quantization-aware training: images in a batch, its first learning rate.
    qat_batch_size: ClassVar[int] = 128
    qat_learning_rate: ClassVar[float] = 2e-4

    def at_most(self, images: int) -> int:
        """Returns a number of images, or that of the training set where it has fewer."""
        known = self.data.describe().train_images
        return images if known is None else min(images, known)


def answers(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns what clients get for logits (batch, classes), by the names of `OUTPUTS`."""
    # keras.ops.argmax becomes operations that not every reader of an artifact has.
    classes = tf.argmax(logits, axis=-1, output_type=tf.int32)
    return dict(zip(OUTPUTS, (logits, tf.nn.softmax(logits), classes), strict=True))


def with_some(images: tf.Tensor, function: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Returns a function of images, of an empty batch too.

    That is taken for one black image, whose result is taken off again: oneDNN fails at a
    convolution of nothing, and OpenVINO gives what the last call gave.

    Args:
        images: (batch, height, width, channels).
        function: From images to maps (batch, ...).
    """
    count = tf.shape(images)[0]
    some = tf.pad(images, [[0, tf.maximum(1 - count, 0)], [0, 0], [0, 0], [0, 0]])
    return function(some)[:count]
