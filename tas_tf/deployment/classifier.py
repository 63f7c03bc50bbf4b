"""The classifier that is deployed: a network with its preprocessing and its labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf


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
    def scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """What normalizes pixels from 0 to 255, `pixels * scale + shift`: (channels,) float32."""
        mean, deviation = (np.asarray(v, np.float64) for v in (self.mean, self.deviation))
        return (1 / (255 * deviation)).astype(np.float32), (-mean / deviation).astype(np.float32)

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns logits (batch, classes) of images (batch, height, width, channels) uint8."""
        scale, shift = self.scale_and_shift
        return self.model(tf.cast(images, tf.float32) * scale + shift, training=False)
