"""Provenance of a run's images: recorded once, and compared wherever a run meets images again."""

from __future__ import annotations

import tensorflow as tf

from tas_tf.data import identity
from tas_tf.data.identity import Identity
from tas_tf.data.image_data import ImageData
from tas_tf.errors import DataError
from tas_tf.experiments import messages
from tas_tf.runtime.run_directory import DATA_RECORD, RunDirectory


def check_images(directory: RunDirectory, images: Identity) -> None:
    """Refuses images that differ from those that a run directory was begun with.

    Raises:
        DataError: With what differs.
    """
    if directory.exists(DATA_RECORD):
        record = directory.read_json(DATA_RECORD)
        advice = "Bring back the images as they were, or give another `run_dir`"
        messages.say_all(identity.check_same(record, images, of=directory.path, advice=advice))


def check_network(path: str, role: str, images: Identity) -> None:
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
    record = directory.read_json(DATA_RECORD)
    advice = f"Give these names to the classes, or a {role} that was trained on these classes"
    messages.say_all(identity.check_classes(record, images, of=of, advice=advice))


def record_images(directory: RunDirectory, data: ImageData) -> None:
    """Records the images once; what goes on must have the same parts of them.

    Raises:
        DataError: If they are divided in another way, as by another `skip_corrupt`.
    """
    record = data.record()
    if not directory.exists(DATA_RECORD):
        directory.write_json(DATA_RECORD, record)
        return
    before = directory.read_json(DATA_RECORD)
    if identity.FIELD in before and before.get("splits") != record["splits"]:
        raise DataError(
            f"these images are divided into parts in another way than {directory.path} was begun "
            "with: images can be read that could not, or the other way. Bring them back as they "
            "were, or give another `run_dir`"
        )
