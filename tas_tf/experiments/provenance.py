"""Provenance of a run's images: recorded once, and compared wherever a run meets images again."""

from __future__ import annotations

import os

import tensorflow as tf

from tas_tf.data import identity
from tas_tf.data.identity import Identity
from tas_tf.data.image_data import ImageData
from tas_tf.data.listing import MissingDataError
from tas_tf.errors import DataError
from tas_tf.experiments import messages
from tas_tf.runtime.run_directory import ARCHITECTURE, DATA_RECORD, RunDirectory


def check_images(directory: RunDirectory, images: Identity | None) -> None:
    """Refuses images that differ from those that a run directory was begun with.

    Args:
        directory: The run directory.
        images: The images at hand; None before a download, after which they are compared.

    Raises:
        DataError: With what differs.
    """
    if images is not None and directory.exists(DATA_RECORD):
        record = directory.read_json(DATA_RECORD)
        advice = "Bring back the images as they were, or give another `run_dir`"
        messages.say_all(identity.check_same(record, images, of=directory.path, advice=advice))


def images_at_hand(source: RunDirectory, data: ImageData, needed: bool) -> bool:
    """Whether the images of a trained network are at hand to export it with.

    Where they are gone, what needs none is exported: labels, normalization and size of the images
    are in the run's record.

    Args:
        source: Its run directory.
        data: The images.
        needed: Whether what is exported needs images.

    Raises:
        DataError: If there are others in their place, or none and they are needed.
    """
    try:
        images = data.describe().identity
    except MissingDataError as error:
        if needed or not source.exists(DATA_RECORD):
            raise
        print(f"The images are not at hand, the artifacts are checked on noise: {error.message}")
        return False
    if images is not None and source.exists(DATA_RECORD):
        record = source.read_json(DATA_RECORD)
        advice = (
            "Bring back the images as they were. Formats without int8 need none: where `dataset` "
            "leads to no images, they are exported"
        )
        messages.say_all(identity.check_same(record, images, of=source.path, advice=advice))
    return True


def check_network(path: str, role: str, images: Identity | None) -> None:
    """Refuses a network of other classes; one of other images of these classes is let pass.

    Args:
        path: Its run directory, or a Keras file.
        role: What errors call it.
        images: The images at hand.

    Raises:
        DataError: With what differs.
    """
    directory = RunDirectory(path)
    of = f"the {role} {path}"
    if not (tf.io.gfile.isdir(directory.path) and directory.exists(DATA_RECORD)):
        messages.say_all([f"Nothing tells which images {of} was trained on"])
        return
    if images is None:
        return
    record = directory.read_json(DATA_RECORD)
    advice = f"Give these names to the classes, or a {role} that was trained on these classes"
    messages.say_all(identity.check_classes(record, images, of=of, advice=advice))


def say_found_on(path: str, images: Identity | None) -> None:
    """Says that an architecture was found on other images: it may be trained on any of its shape.

    Args:
        path: The run directory, or the architecture's file in it, that it comes from.
        images: The images at hand.
    """
    is_run = tf.io.gfile.isdir(path) or os.path.basename(path) == ARCHITECTURE
    directory = RunDirectory(path if tf.io.gfile.isdir(path) else os.path.dirname(path))
    if images is None or not (is_run and directory.exists(DATA_RECORD)):
        return
    found = identity.compare(directory.read_json(DATA_RECORD), {identity.FIELD: images.record()})
    if found:
        messages.say_all([f"The architecture {path} was found on other images: {'; '.join(found)}"])


def record_unread(directory: RunDirectory, data: ImageData) -> None:
    """Records the images of a run that reads none of them, once; before a download, nothing."""
    if data.describe().identity is not None and not directory.exists(DATA_RECORD):
        directory.write_json(DATA_RECORD, data.description())


def record_images(directory: RunDirectory, data: ImageData) -> None:
    """Records the images once; what goes on must have the same parts of them.

    Raises:
        DataError: If they are divided in another way, as by another `skip_corrupt`.
    """
    if not directory.exists(DATA_RECORD):
        directory.write_json(DATA_RECORD, data.record())
        return
    check_images(directory, data.identity)
    before = directory.read_json(DATA_RECORD)
    if identity.FIELD in before and before.get("splits") != data.splits(identity.read(before)):
        raise DataError(
            f"these images are divided into parts in another way than {directory.path} was begun "
            "with: images can be read that could not, or the other way. Bring them back as they "
            "were, or give another `run_dir`"
        )
