"""LiteRT models in float32, or in int8 by calibration on real images: writing and running.

All take uint8 images and give float32 logits, so one can replace another.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tas_tf.deployment.classifier import Classifier
from tas_tf.errors import ArchitectureError, InstallationError
from tas_tf.runtime.stderr import held_back

_SIGNATURE, _INPUT, _OUTPUT = "serving_default", "images", "logits"
_RUN_BATCH = 64
THREADS = 1  # of an interpreter, as LiteRT has it where nothing is said


def to_float(classifier: Classifier) -> bytes:
    """Returns a network as a LiteRT model of float32, its preprocessing inside."""
    with _converter(classifier, tf.uint8) as converter:
        return converter.convert()


def to_int8(classifier: Classifier, images: np.ndarray) -> bytes:
    """Returns a network as a LiteRT model that computes in int8 from its input to its logits.

    Args:
        classifier: The network.
        images: (batch, height, width, channels) uint8, real training images: every map gets the
            range that it has on them.
    """
    # An int8 pixel is a uint8 pixel less 128 if the range is 0 to 255, whatever these images show.
    samples = images.astype(np.float32)
    samples.reshape(-1)[:2] = 0, 255
    with _converter(classifier, tf.float32) as converter:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ({_INPUT: image[None]} for image in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        return checked_pixels(converter.convert())


def _converter(
    classifier: Classifier, dtype: tf.DType
) -> contextlib.AbstractContextManager[tf.lite.TFLiteConverter]:
    scale, shift = classifier.scale_and_shift

    def logits(images: tf.Tensor) -> tf.Tensor:
        # As a convolution of 1x1: it has an int8 kernel for each channel and an int32 offset, where
        # products and sums of maps would each round to 8 bits.
        pixels, kernel = tf.cast(images, tf.float32), scale[None, None, :, None]
        normalized = tf.nn.depthwise_conv2d(pixels, kernel, (1, 1, 1, 1), "VALID") + shift
        return classifier.model(normalized, training=False)

    variables = [variable.value for variable in classifier.model.variables]
    return converter_of(logits, variables, classifier.image_shape, dtype)


@contextlib.contextmanager
def converter_of(
    function: Callable[[tf.Tensor], tf.Tensor],
    variables: Sequence[tf.Variable],
    image_shape: tuple[int, int, int],
    dtype: tf.DType,
) -> Iterator[tf.lite.TFLiteConverter]:
    """Gives the converter of a function, as long as the context lasts.

    Args:
        function: From images (batch, height, width, channels) to logits.
        variables: What it uses.
        image_shape: Height, width and channels.
        dtype: Type of the images.
    """
    module = tf.Module()
    module.weights = list(variables)
    spec = tf.TensorSpec((None, *image_shape), dtype, name=_INPUT)
    traced = tf.function(lambda images: {_OUTPUT: function(_fitting(images))}, autograph=False)
    signatures = {_SIGNATURE: traced.get_concrete_function(spec)}
    with tempfile.TemporaryDirectory() as folder, held_back(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter's own deprecation
        tf.saved_model.save(module, folder, signatures=signatures)
        yield tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[_SIGNATURE])


def _fitting(images: tf.Tensor) -> tf.Tensor:
    """Returns images that are refused where their size or their channels are not those declared.

    LiteRT resizes an input to whatever it is given, and has no operation that checks a shape; but
    it joins nothing to an image that has another. The image that is joined is taken off again.
    """
    joined = tf.concat([tf.zeros((1, *images.shape[1:]), images.dtype), images], 0)
    return joined[1:]


def checked_pixels(content: bytes) -> bytes:
    """Returns a quantized model if its uint8 input is the images' pixels as they are.

    Raises:
        ArchitectureError: If the input is scaled or shifted.
    """
    scale, zero = interpreter(content).get_input_details()[0]["quantization"]
    if not (abs(scale - 1) < 1e-3 and zero == 0):
        raise ArchitectureError(
            f"the LiteRT model's input is quantized by {scale} and {zero} in place of 1 and 0: it "
            "would not take images as they are, and was not written"
        )
    return content


def interpreter(content: bytes, threads: int = THREADS) -> Any:
    """Returns an `ai_edge_litert` interpreter of a model.

    Raises:
        InstallationError: If `ai_edge_litert` is not installed.
    """
    require_litert()
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=content, num_threads=threads)


def require_litert() -> None:
    """Refuses to go on without the package that runs LiteRT models.

    Raises:
        InstallationError: If `ai_edge_litert` is not installed.
    """
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError:
        raise InstallationError(
            "ai_edge_litert, which runs LiteRT models, is not installed: "
            "pip install 'tas_tf[litert]'"
        ) from None


def read_litert(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Loads a LiteRT model.

    Args:
        path: The file.

    Returns:
        What gives logits (batch, classes) float32 of images (batch, height, width, channels) uint8.
    """
    with tf.io.gfile.GFile(path, "rb") as file, held_back():
        model = interpreter(file.read())
        model.allocate_tensors()
        run = model.get_signature_runner(_SIGNATURE)

    def logits(images: np.ndarray) -> np.ndarray:
        # In parts: memory is for the largest map of all images at once.
        parts = [images[i : i + _RUN_BATCH] for i in range(0, len(images), _RUN_BATCH)]
        return np.concatenate([run(**{_INPUT: part})[_OUTPUT] for part in parts])

    return logits
