"""Exports a trained network, and checks what was written against the network itself."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import tensorflow as tf

from tas_tf.errors import ArchitectureError
from tas_tf.networks import Classifier
from tas_tf.runtime import replacing
from tas_tf.saved_models import read_saved_model, write_saved_model

# Largest difference of a logit between the SavedModel and the Keras model, relative to the largest.
TOLERANCE = 1e-4


def export_saved_model(classifier: Classifier, path: str, images: np.ndarray) -> dict[str, float]:
    """Writes a SavedModel, checked against the Keras model before it gets its name.

    Args:
        classifier: The trained network.
        path: Where the SavedModel goes; one that stands there is replaced.
        images: (batch, height, width, channels) uint8, real images to check with.

    Returns:
        Largest difference of the logits relative to the largest logit, agreement of the classes,
        and the number of images.

    Raises:
        ArchitectureError: If the two disagree.
    """
    with replacing(path) as temporary, tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, os.path.basename(path))
        write_saved_model(classifier, local, images)
        found = _compare(classifier.logits(images).numpy(), read_saved_model(local)(images))
        _copy_tree(local, temporary)
    return found


def _compare(expected: np.ndarray, received: np.ndarray) -> dict[str, float]:
    difference = np.abs(expected - received).max() / np.abs(expected).max()
    agreement = np.mean(expected.argmax(axis=1) == received.argmax(axis=1))
    if not difference <= TOLERANCE:
        raise ArchitectureError(
            f"the SavedModel's logits differ from the Keras model's by {difference:.2g} of the "
            f"largest, more than {TOLERANCE}: it was not written"
        )
    return {
        "largest_relative_difference": float(difference),
        "class_agreement": float(agreement),
        "images": len(expected),
    }


def _copy_tree(source: str, target: str) -> None:
    """Copies a local folder to a path that may lie anywhere."""
    for folder, _, files in os.walk(source):
        # By name: to some file systems "a/." is another folder than "a".
        destination = folder.replace(source, target, 1)
        tf.io.gfile.makedirs(destination)
        for file in files:
            tf.io.gfile.copy(os.path.join(folder, file), os.path.join(destination, file))
