"""SavedModels to serve: signatures for images and image files, label names, warm-up requests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tas_tf.deployment.classifier import Classifier
from tas_tf.plain_text import one_line

# What clients name: signatures, their input, and the outputs of both.
IMAGES, ENCODED = "serving_default", "encoded"
INPUTS = {IMAGES: "images", ENCODED: "image_bytes"}
OUTPUTS = ("logits", "probabilities", "classes")
LABELS = "labels.txt"
WARM_UP = "tf_serving_warmup_requests"
_WARM_UP_BATCHES = (1, 32)
_HEADS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # of PNG and JPEG files


def write_saved_model(classifier: Classifier, folder: str, images: np.ndarray) -> None:
    """Writes a SavedModel that holds no Keras, no training and no variables, only what serves.

    Args:
        classifier: The network.
        folder: A folder of this machine that is not there yet.
        images: (batch, height, width, channels) uint8, real images for the warm-up requests.
    """
    module = tf.Module()
    with tempfile.TemporaryDirectory() as beside:
        labels = os.path.join(beside, LABELS)
        with open(labels, "w", encoding="utf-8") as file:
            file.writelines(f"{one_line(name)}\n" for name in classifier.label_names)
        module.labels = tf.saved_model.Asset(labels)
        tf.saved_model.save(module, folder, signatures=_signatures(classifier))
    _write_warm_up(os.path.join(folder, "assets.extra"), images)


def frozen(function: Callable[[tf.Tensor], tf.Tensor], spec: tf.TensorSpec) -> Any:
    """Returns a concrete function of one tensor, its variables made constants; it gives a list.

    What runs it can fold normalization into the convolutions, once: variables it would have to read
    at every call (docs/deployment.md).
    """
    traced = tf.function(function, autograph=False).get_concrete_function(spec)
    return convert_variables_to_constants_v2(traced)


def _signatures(classifier: Classifier) -> dict[str, Callable]:
    shape = classifier.image_shape
    of_pixels = frozen(classifier.logits, tf.TensorSpec((None, *shape), tf.uint8))

    def of_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # What a signature declares, TensorFlow does not check: only an operation of the graph does.
        images = tf.ensure_shape(images, (None, *shape), name=INPUTS[IMAGES])
        # An empty batch is classified as one black image, which is taken off again: oneDNN fails
        # at a convolution of nothing.
        count = tf.shape(images)[0]
        some = tf.pad(images, [[0, tf.maximum(1 - count, 0)], [0, 0], [0, 0], [0, 0]])
        logits = of_pixels(some)[0][:count]
        # keras.ops.argmax becomes operations that not every reader of SavedModels has.
        classes = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return dict(zip(OUTPUTS, (logits, tf.nn.softmax(logits), classes), strict=True))

    def of_files(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        image_bytes = tf.ensure_shape(image_bytes, (None,), name=INPUTS[ENCODED])
        # The operation that decodes takes other formats too, some in another shape.
        heads = [tf.strings.substr(image_bytes, 0, len(head)) == head for head in _HEADS]
        wanted = f"{INPUTS[ENCODED]}: expected the contents of PNG or JPEG files"
        check = tf.debugging.Assert(tf.reduce_all(tf.reduce_any(heads, axis=0)), [wanted])
        with tf.control_dependencies([check]):
            image_bytes = tf.identity(image_bytes)
        return of_images(
            tf.map_fn(
                classifier.decode,
                image_bytes,
                fn_output_signature=tf.TensorSpec(shape, tf.uint8),
            )
        )

    specs = {
        IMAGES: (of_images, tf.TensorSpec((None, *shape), tf.uint8, name=INPUTS[IMAGES])),
        ENCODED: (of_files, tf.TensorSpec((None,), tf.string, name=INPUTS[ENCODED])),
    }
    return {
        name: tf.function(function, autograph=False).get_concrete_function(spec)
        for name, (function, spec) in specs.items()
    }


def _write_warm_up(folder: str, images: np.ndarray) -> None:
    """Writes requests that a server sends itself before it says that it is ready."""
    os.makedirs(folder)
    with tf.io.TFRecordWriter(os.path.join(folder, WARM_UP)) as writer:
        for size in _WARM_UP_BATCHES:
            batch = images[np.arange(size) % len(images)]
            writer.write(_prediction_log(IMAGES, batch))
            files = [tf.io.encode_png(image).numpy() for image in batch]
            writer.write(_prediction_log(ENCODED, np.array(files, object)))


def _prediction_log(signature: str, values: np.ndarray) -> bytes:
    """Returns a `tensorflow.serving.PredictionLog` of one request.

    TensorFlow has no such message, and tensorflow-serving-api would be one more package for four
    fields: a PredictionLog has a PredictLog (6), that a PredictRequest (1), and that a ModelSpec
    (1) with the signature's name (3), and the inputs (2), a map of names (1) to tensors (2).
    """
    tensor = tf.make_tensor_proto(values).SerializeToString()
    inputs = _fields({1: INPUTS[signature].encode(), 2: tensor})
    request = _fields({1: _fields({3: signature.encode()}), 2: inputs})
    return _fields({6: _fields({1: request})})


def _fields(contents: Mapping[int, bytes]) -> bytes:
    """Returns a protocol buffer whose fields, by number, all have a length."""
    return b"".join(
        bytes([number << 3 | 2]) + _varint(len(content)) + content
        for number, content in contents.items()
    )


def _varint(value: int) -> bytes:
    """Returns a number in groups of 7 bits, the lowest first, all but the last marked."""
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def read_saved_model(folder: str) -> Callable[[np.ndarray], np.ndarray]:
    """Loads a SavedModel; returns what gives logits of uint8 images."""
    loaded = tf.saved_model.load(folder)
    return lambda images: loaded.signatures[IMAGES](images=tf.constant(images))["logits"].numpy()
