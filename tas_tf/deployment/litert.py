"""LiteRT models: those of float32, and what those of int8 share with them.

All take uint8 images. Those of int8 give int8 logits, whose scale and zero the file has.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tas_tf.deployment.classifier import INPUT, OUTPUTS, Classifier, Trained
from tas_tf.deployment.litert_widths import at_widths
from tas_tf.deployment.running import (
    Logits,
    Runner,
    frozen,
    images_of,
    in_parts,
    random_values,
    traced,
)
from tas_tf.runtime.stderr import held_back

_SIGNATURE, _OUTPUT = "serving_default", OUTPUTS[0]


def write(trained: Trained, path: str, images: np.ndarray) -> None:
    """Writes a network as a LiteRT file of float32, its preprocessing inside."""
    with pixel_converter(trained.classifier, tf.uint8) as converter, open(path, "wb") as file:
        file.write(converter.convert())


def read(trained: Trained, path: str, threads: int) -> Logits:
    """Loads a LiteRT file, of int8 too."""
    with open(path, "rb") as file, held_back():
        return reader(file.read(), threads)


def reader(content: bytes, threads: int) -> Logits:
    """Returns what the content of a LiteRT file gives for images, as float32."""
    model = Interpreter(model_content=content, num_threads=threads)
    model.allocate_tensors()
    run = model.get_signature_runner(_SIGNATURE)
    details = run.get_output_details()[_OUTPUT]
    return lambda images: in_parts(
        lambda part: _scaled(run(**{INPUT: part})[_OUTPUT], details), images
    )


def runner(model: keras.Model, batch_size: int, threads: int, samples: np.ndarray | None) -> Runner:
    """Returns a network of float32 in an interpreter."""
    return LiteRTRunner(content(model, batch_size, samples), threads)


def content(model: keras.Model, batch_size: int, samples: np.ndarray | None) -> bytes:
    """Returns a network of float32 as a LiteRT file's content."""
    return litert_bytes(model, batch_size)


def resized(content: bytes, widths: Mapping[int, int], threads: int) -> LiteRTRunner:
    """Returns what a file says at other widths in an interpreter, with random images in it."""
    made = LiteRTRunner(at_widths(content, widths) if widths else content, threads)
    made.load(random_values(made.input_shape))
    return made


def pixel_converter(
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
    spec = tf.TensorSpec((None, *image_shape), dtype, name=INPUT)
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


class LiteRTRunner(Runner):
    """A LiteRT network in an interpreter; int8 is scaled on the way in and out.

    Args:
        content: The file's content.
        threads: Number of threads.
    """

    def __init__(self, content: bytes, threads: int):
        with held_back():
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        (self._source,) = self._interpreter.get_input_details()
        (self._target,) = self._interpreter.get_output_details()
        self.input_shape: tuple[int, ...] = tuple(self._source["shape"])

    def load(self, images: np.ndarray) -> None:
        """Copies the images into the interpreter."""
        self._interpreter.set_tensor(self._source["index"], _quantize(images, self._source))

    def run(self) -> None:
        """Invokes the interpreter."""
        self._interpreter.invoke()

    def logits(self) -> np.ndarray:
        """Copies the logits out of the interpreter."""
        return _scaled(self._interpreter.get_tensor(self._target["index"]), self._target)


def _scaled(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    scale, zero = details["quantization"]
    return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values


def _quantize(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    scale, zero = details["quantization"]
    if not scale:
        return values
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def litert_bytes(model: keras.Model, batch_size: int, samples: np.ndarray | None = None) -> bytes:
    """Returns a network as a LiteRT file's content.

    Args:
        model: The network.
        batch_size: Images in a call, always as many.
        samples: (images, height, width, channels) float32, normalized: from their ranges all of it
            becomes int8, input and output too. None keeps float32.
    """
    images = images_of(model, batch_size)
    # Constants for int8, whose calibration reads no variables; of float32 the converter makes them.
    function = traced(model, images) if samples is None else frozen(model, images)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    # Else it writes a SavedModel first, and reads it: a third of its time.
    converter.experimental_lower_to_saved_model = False
    if samples is not None:
        batches = [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
        batches = [np.resize(batch, (batch_size, *batch.shape[1:])) for batch in batches]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([batch] for batch in batches)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with held_back(), warnings.catch_warnings():
        # For each network of int8: that its input has no statistics, which it is about to get.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
        return converter.convert()
