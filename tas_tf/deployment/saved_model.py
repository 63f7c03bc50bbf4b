"""SavedModels to serve: signatures for images and image files, label names, warm-up requests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tas_tf.deployment.classifier import INPUT, Classifier, Trained, answers, with_some
from tas_tf.deployment.running import Logits, Runner, TensorFlowRunner, frozen, images_of
from tas_tf.plain_text import one_line

# What clients name: signatures, and their input.
IMAGES, ENCODED = "serving_default", "encoded"
INPUTS = {IMAGES: INPUT, ENCODED: "image_bytes"}
LABELS = "labels.txt"
WARM_UP = "tf_serving_warmup_requests"
_WARM_UP_BATCHES = (1, 32)
_HEADS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # of PNG and JPEG files
# What serves has no gradients, and those of Keras' silu cannot be saved.
_OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)


def write(trained: Trained, path: str, images: np.ndarray) -> None:
    """Writes a SavedModel, with warm-up requests of these images."""
    write_saved_model(trained.classifier, path, images)


def read(trained: Trained, path: str, threads: int) -> Logits:
    """Loads a SavedModel; TensorFlow has its threads already."""
    loaded = tf.saved_model.load(path)
    return lambda images: loaded.signatures[IMAGES](images=tf.constant(images))["logits"].numpy()


def runner(model: keras.Model, batch_size: int, threads: int, samples: np.ndarray | None) -> Runner:
    """Returns a network as it is served: its weights are constants, as in what is exported."""
    spec = images_of(model, batch_size)
    constant = frozen(model, spec)
    served = tf.function(lambda images: {"logits": constant(images)[0]}, autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        signature = served.get_concrete_function(spec)
        tf.saved_model.save(tf.Module(), folder, signature, _OPTIONS)
        loaded = tf.saved_model.load(folder)
    return TensorFlowRunner(lambda images: loaded.signatures[IMAGES](images=images)["logits"])


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
        tf.saved_model.save(module, folder, _signatures(classifier), _OPTIONS)
    _write_warm_up(os.path.join(folder, "assets.extra"), images)


def _signatures(classifier: Classifier) -> dict[str, Callable]:
    shape = classifier.image_shape
    of_pixels = frozen(classifier.logits, classifier.images)

    def of_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # What a signature declares, TensorFlow does not check: only an operation of the graph does.
        images = tf.ensure_shape(images, (None, *shape), name=INPUTS[IMAGES])
        return answers(with_some(images, lambda some: of_pixels(some)[0]))

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
        IMAGES: (of_images, classifier.images),
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
