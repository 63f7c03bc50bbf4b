"""LiteRT models in int8, their ranges by calibration on real images."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tas_tf.deployment import litert
from tas_tf.deployment.classifier import INPUT, Trained
from tas_tf.deployment.litert import pixel_converter
from tas_tf.deployment.running import Runner, random_images
from tas_tf.errors import ArchitectureError

_SAMPLES = 32  # random images that set the ranges where no real ones are given

read = litert.read
resized = litert.resized


def write(trained: Trained, path: str, images: np.ndarray) -> None:
    """Writes a network as a LiteRT file that computes in int8 from its input to its logits.

    Args:
        trained: The network.
        path: The file.
        images: (batch, height, width, channels) uint8, real training images: every map gets the
            range that it has on them.
    """
    # An int8 pixel is a uint8 pixel less 128 if the range is 0 to 255, whatever these images show.
    samples = images.astype(np.float32)
    samples.reshape(-1)[:2] = 0, 255
    with pixel_converter(trained.classifier, tf.float32) as converter, open(path, "wb") as file:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ({INPUT: image[None]} for image in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.int8
        file.write(checked_pixels(converter.convert()))


def runner(model: keras.Model, batch_size: int, threads: int, samples: np.ndarray | None) -> Runner:
    """Returns a network of int8, input and output too, in an interpreter."""
    return litert.LiteRTRunner(content(model, batch_size, samples), threads)


def content(model: keras.Model, batch_size: int, samples: np.ndarray | None) -> bytes:
    """Returns a network of int8, input and output too, as a LiteRT file's content."""
    if samples is None:
        samples = random_images(model, _SAMPLES)
    return litert.litert_bytes(model, batch_size, samples)


def checked_pixels(content: bytes) -> bytes:
    """Returns a quantized model if its uint8 input is the images' pixels as they are.

    Raises:
        ArchitectureError: If the input is scaled or shifted.
    """
    scale, zero = Interpreter(model_content=content).get_input_details()[0]["quantization"]
    if not (abs(scale - 1) < 1e-3 and zero == 0):
        raise ArchitectureError(
            f"the LiteRT model's input is quantized by {scale} and {zero} in place of 1 and 0: it "
            "would not take images as they are, and was not written"
        )
    return content
