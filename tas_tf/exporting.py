"""Trained networks as files: `model.keras` of stock layers, and a SavedModel with preprocessing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.architecture import Architecture
from tas_tf.errors import ArchitectureError
from tas_tf.runtime import ARCHITECTURE, MODEL, RunDirectory, first_line, read_text, replacing
from tas_tf.spec_compiler import build_model

# Largest difference of a logit between the SavedModel and the Keras model, relative to the largest.
TOLERANCE = 1e-4


def save_model(
    model: keras.Model, architecture: Architecture, directory: RunDirectory
) -> keras.Model:
    """Writes `model.keras`, and returns it: rebuilt of stock layers, with the model's weights.

    Args:
        model: The trained network, whatever layers it was trained with.
        architecture: Its architecture.
        directory: The run directory.
    """
    stock = build_model(architecture)
    stock.set_weights(model.get_weights())
    with replacing(directory.file(MODEL)) as temporary, tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, MODEL)
        stock.save(local)
        tf.io.gfile.copy(local, temporary, overwrite=True)
    return stock


def load_model(path: str, role: str = "model") -> keras.Model:
    """Loads a trained network; no code of the file is run.

    Args:
        path: A run directory with `architecture.json` and `model.keras`, or a Keras file.
        role: What errors call it.

    Raises:
        ArchitectureError: If there is none, or it cannot be read.
    """
    directory = RunDirectory(path)
    if not tf.io.gfile.exists(directory.path):
        raise ArchitectureError(
            f"{role}: {path} does not exist; give the run directory of a trained network"
        )
    is_run = tf.io.gfile.isdir(directory.path)
    if is_run and not directory.exists(MODEL):
        raise ArchitectureError(f"{role}: {path} holds no trained network ({MODEL} is missing)")
    if not is_run and not path.endswith(".keras"):
        raise ArchitectureError(f"{role}: {path} is neither a run directory nor a .keras file")
    model = build_model(load_architecture(path)) if is_run else None
    try:
        if model is None:
            return keras.saving.load_model(directory.path, compile=False, safe_mode=True)
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, MODEL)
            tf.io.gfile.copy(directory.file(MODEL), local)
            model.load_weights(local)
        return model
    # What Keras, h5py and zipfile raise at a damaged file has nothing else in common.
    except Exception as error:
        reason = first_line(error)
        raise ArchitectureError(
            f"{role}: {directory.file(MODEL) if is_run else path} cannot be read: {reason}"
        ) from None


def copy_weights(source: keras.Model, target: keras.Model, role: str) -> None:
    """Gives a model the weights of another of the same architecture.

    Args:
        source: Where they come from.
        target: The model that gets them.
        role: What errors call the source.

    Raises:
        ArchitectureError: If their weights have other shapes.
    """
    expected = [(variable.name, tuple(variable.shape)) for variable in target.weights]
    received = [(variable.name, tuple(variable.shape)) for variable in source.weights]
    if expected != received:
        raise ArchitectureError(f"{role}: its network is of another architecture")
    target.set_weights(source.get_weights())


def load_architecture(path: str) -> Architecture:
    """Reads an architecture from a JSON file, or from a run directory's `architecture.json`.

    Raises:
        ArchitectureError: If it is missing or malformed.
    """
    path = os.path.expanduser(str(path))
    file = f"{path}/{ARCHITECTURE}" if tf.io.gfile.isdir(path) else path
    try:
        text = read_text(file)
    except (tf.errors.OpError, OSError) as error:
        reason = first_line(error)
        raise ArchitectureError(f"architecture: {file} cannot be read: {reason}") from None
    except UnicodeDecodeError:
        raise ArchitectureError(f"architecture: {file} is not UTF-8 text") from None
    return Architecture.from_json(text, source=file)


class Classifier(tf.Module):
    """A network with its preprocessing: uint8 images to logits, probabilities and classes.

    Args:
        model: From normalized images to logits.
        mean: Mean of each channel, of images scaled to 0..1.
        deviation: Standard deviation of each channel, likewise.
    """

    def __init__(self, model: keras.Model, mean: Sequence[float], deviation: Sequence[float]):
        super().__init__()
        self.model = model
        scale = 255 * np.asarray(deviation, np.float32)
        self._scale = 1 / scale
        self._shift = -np.asarray(mean, np.float32) * 255 / scale

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies images (batch, height, width, channels) uint8."""
        logits = self.model(tf.cast(images, tf.float32) * self._scale + self._shift, training=False)
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "classes": tf.argmax(logits, axis=-1, output_type=tf.int32),
        }


def export_saved_model(
    model: keras.Model, record: dict[str, Any], path: str, images: np.ndarray
) -> dict[str, float]:
    """Writes a SavedModel, checked against the Keras model before it gets its name.

    Args:
        model: The trained network of stock layers.
        record: The data's record: `mean` and `deviation`.
        path: Where the SavedModel goes; one that stands there is replaced.
        images: (batch, height, width, channels) uint8, real images to check with.

    Returns:
        Largest difference of the logits relative to the largest logit, agreement of the classes,
        and the number of images.

    Raises:
        ArchitectureError: If the two disagree.
    """
    classifier = Classifier(model, record["mean"], record["deviation"])
    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name="images")
    with replacing(path) as temporary, tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", classifier.__call__, input_signature=[signature])
        archive.write_out(folder, verbose=False)
        found = _compare(classifier, tf.saved_model.load(folder), images)
        _copy_tree(folder, temporary)
    return found


def _compare(classifier: Classifier, loaded: Any, images: np.ndarray) -> dict[str, float]:
    expected = classifier(tf.constant(images))
    received = loaded.signatures["serving_default"](images=tf.constant(images))
    scale = np.abs(expected["logits"].numpy()).max()
    difference = np.abs(expected["logits"].numpy() - received["logits"].numpy()).max() / scale
    agreement = np.mean(expected["classes"].numpy() == received["classes"].numpy())
    if not difference <= TOLERANCE:
        raise ArchitectureError(
            f"the SavedModel's logits differ from the Keras model's by {difference:.2g} of the "
            f"largest, more than {TOLERANCE}: it was not written"
        )
    return {
        "largest_relative_difference": float(difference),
        "class_agreement": float(agreement),
        "images": len(images),
    }


def _copy_tree(source: str, target: str) -> None:
    """Copies a local folder to a path that may lie anywhere."""
    for folder, _, files in os.walk(source):
        # By name: to some file systems "a/." is another folder than "a".
        destination = folder.replace(source, target, 1)
        tf.io.gfile.makedirs(destination)
        for file in files:
            tf.io.gfile.copy(os.path.join(folder, file), os.path.join(destination, file))
