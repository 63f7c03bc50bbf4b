"""Artifacts of an export; each is compared with the network before it gets its name."""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tas_tf.data.image_data import ImageData
from tas_tf.deployment import alignment, manifest, model_card, speed
from tas_tf.deployment.classifier import Classifier, Trained
from tas_tf.deployment.formats import FORMATS
from tas_tf.deployment.running import Logits
from tas_tf.errors import ArchitectureError, RunDirectoryError
from tas_tf.models.derived import build_model, without_softmax
from tas_tf.models.network_files import load_architecture, load_model
from tas_tf.runtime import devices
from tas_tf.runtime.files import read_text, replacing, transfer
from tas_tf.runtime.run_directory import CONFIG, DATA_RECORD, MODEL, RESULT, RunDirectory
from tas_tf.spaces.cost import cost
from tas_tf.training.supervised import check_fits

_TEST_BATCH = 256
_SPEED_IMAGES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Trained):
    """Makes artifacts of one trained network; the arguments are those of `Trained`.

    Args:
        at_hand: Whether there are images; what needs none is checked on noise without.
    """

    at_hand: bool = True

    def images(self) -> np.ndarray:
        """Returns training images, or noise, uint8 (batch, height, width, channels)."""
        if not self.at_hand:
            shape = (self.calibration_images, *self.classifier.image_shape)
            return np.random.default_rng(self.seed).integers(0, 256, shape, np.uint8)
        batch = self.at_most(self.calibration_images)
        feed = self.data.training(batch, self.seed, augment=False, raw=True)
        images, _ = next(iter(feed.batches(0, 1)))
        return images.numpy()

    def settings(self, name: str) -> dict[str, Any]:
        """Returns what else than the network an artifact of a format depends on."""
        return {field: getattr(self, field) for field in FORMATS[name].settings}

    def make(self, name: str, path: str, images: np.ndarray) -> dict[str, Any]:
        """Writes an artifact, checked before it gets its name; what stands there is replaced.

        Args:
            name: Its format.
            path: Where it goes.
            images: What `images` returns.

        Returns:
            Its entry in a manifest.

        Raises:
            ArchitectureError: If it disagrees with the Keras model: nothing is written.
        """
        made, accuracy = FORMATS[name], None
        exported, widths = self.with_aligned_widths(name)
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, os.path.basename(path))
            implementation = made.load()
            implementation.write(exported, local, images)
            logits = implementation.read(self, local, self._threads(name))
            expected = self.classifier.logits(images).numpy()
            check = compare(expected, logits(images), made.tolerance, name)
            check["real_images"] = self.at_hand
            if made.quantized:
                accuracy = self.accuracy(logits)
            speed = self.speed(name, logits, images)
            files = manifest.file_facts(local)
            with replacing(path) as temporary:
                transfer(local, temporary)
        return {
            "file": made.file,
            "bytes": sum(file["bytes"] for file in files.values()),
            "files": files,
            "check": check,
            "accuracy": accuracy,
            "speed": speed,
            "settings": self.settings(name),
            **widths,
            "versions": devices.versions([*manifest.PACKAGES, *made.packages]),
        }

    def with_aligned_widths(self, name: str) -> tuple[Export, dict[str, Any]]:
        """Returns what makes a format with the widths that suit it, and what a manifest says."""
        if "align" not in FORMATS[name].settings or self.align == 1:
            return self, {}
        model = self.classifier.model
        if isinstance(self.align, str):
            grain, measured = alignment.fastest(model, self.architecture, name)
        else:
            grain, measured = self.align, None
        wide = alignment.align_widths(model, self.architecture, grain)
        classifier = dataclasses.replace(self.classifier, model=wide)
        return dataclasses.replace(self, classifier=classifier), {
            "alignment": {
                "grain": grain,
                "true_macs": cost(self.architecture),
                "padded_macs": alignment.aligned_macs(self.architecture, grain),
                "measured": measured,
            }
        }

    def speed(self, name: str, logits: Logits, images: np.ndarray) -> dict[str, Any] | None:
        """Returns what calls of an artifact take beside the unpruned network's, exported alike.

        Args:
            name: Its format.
            logits: What gives its logits of uint8 images.
            images: What `images` returns.

        Returns:
            Its part of a manifest; None for the unpruned network, and for what serves nowhere.
        """
        whole, known = speed.unpruned_counterpart(self.architecture)
        timed_as, share = FORMATS[name].timed_as, cost(self.architecture) / cost(whole)
        if timed_as is None or share >= 1:
            return None
        print(f"Timing {name} beside the unpruned network, exported alike", flush=True)
        classifier = dataclasses.replace(self.classifier, model=without_softmax(build_model(whole)))
        other = dataclasses.replace(self, classifier=classifier, architecture=whole)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, FORMATS[timed_as].file)
            implementation = FORMATS[timed_as].load()
            # Its weights are random and few images calibrate them: that changes no time.
            implementation.write(other, path, images[:_SPEED_IMAGES])
            unpruned = implementation.read(other, path, self._threads(name))
            calls = speed.measure_calls(logits, unpruned, images)
        return {
            "threads": self._threads(name),
            "depth_is_known": known,
            "share_of_macs": share,
            "share_asked": speed.share_asked(self.architecture),
            "calls": calls,
        }

    def accuracy(self, logits: Logits) -> float:
        """Returns the accuracy on the test split of what gives logits of uint8 images."""
        right = count = 0
        for images, labels in self.data.evaluation("test", _TEST_BATCH, raw=True):
            right += int(np.sum(logits(images.numpy()).argmax(axis=1) == labels.numpy()))
            count += len(labels)
        return right / count

    def _threads(self, name: str) -> int:
        return FORMATS[name].threads or devices.threads()


def compare(
    expected: np.ndarray, received: np.ndarray, tolerance: float, name: str
) -> dict[str, Any]:
    """Compares logits (batch, classes) of an artifact with those of the Keras model.

    Raises:
        ArchitectureError: If they differ by more than the tolerance.
    """
    difference = np.abs(expected - received).max() / np.abs(expected).max()
    if not difference <= tolerance:
        raise ArchitectureError(
            f"{name}: the logits differ from the Keras model's by {difference:.2g} of the largest, "
            f"more than {tolerance}: it was not written"
        )
    return {
        "largest_relative_difference": float(difference),
        "largest_difference": float(np.abs(expected - received).max()),
        "class_agreement": float(np.mean(expected.argmax(axis=1) == received.argmax(axis=1))),
        "images": len(expected),
    }


def load_export(
    source: RunDirectory, data: ImageData, *, at_hand: bool = True, **settings: Any
) -> Export:
    """Loads a trained network with what an export needs to know.

    Args:
        source: Its run directory.
        data: Its images, which need not be prepared.
        at_hand: Whether its images are there.
        settings: What `Trained` takes after its seed.

    Raises:
        RunDirectoryError: If there is none, or its record is damaged.
        ArchitectureError: If it cannot be read, or takes other images.
    """
    if not source.exists(MODEL):
        raise RunDirectoryError(f"{source.path} holds no trained network ({MODEL})")
    record = source.read_json(DATA_RECORD, ("seed", "mean", "deviation"))
    model = without_softmax(load_model(source.path))
    mean, deviation = record["mean"], record["deviation"]
    shape = tuple(model.input_shape[1:])
    if at_hand:
        info = data.describe()
        check_fits(model, info.input_shape, info.num_classes, "model")
    # Labels are the network's own, whatever folders are called now; very old records lack them.
    labels = record.get("label_names") or data.describe().label_names
    decode = functools.partial(data.decoded, shape=shape)
    classifier = Classifier(model, mean, deviation, labels, decode)
    return Export(
        classifier=classifier,
        architecture=load_architecture(source.path),
        data=data,
        seed=record["seed"],
        at_hand=at_hand,
        **settings,
    )


def export_all(
    export: Export, source: RunDirectory, directory: RunDirectory, names: Sequence[str]
) -> dict[str, Any]:
    """Makes artifacts and records them; those that stand as they would be made are kept.

    Args:
        export: What makes them.
        source: The run directory of the trained network.
        directory: Where they go.
        names: Their formats.

    Returns:
        The manifest.

    Raises:
        ArchitectureError: If one disagrees with the Keras model.
        RunDirectoryError: If the directory holds artifacts of another network.
    """
    record = source.read_json(DATA_RECORD)
    config = read_text(source.file(CONFIG)) if source.exists(CONFIG) else ""
    accuracy = _test_accuracy(source, record, export)
    said = manifest.facts(export.classifier, export.architecture, record, config, accuracy)
    said["artifacts"] = manifest.read_manifest(directory, said["network"])
    if any(FORMATS[name].quantized for name in names) and accuracy is None:
        said["keras_accuracy"] = export.accuracy(lambda x: export.classifier.logits(x).numpy())
    images = export.images()
    for name in names:
        path = directory.file(FORMATS[name].file)
        entry = said["artifacts"].get(name)
        if entry is not None and _is_current(path, entry, export.settings(name)):
            print(f"Already done: {path}")
            continue
        entry = export.make(name, path, images)
        said["artifacts"][name] = entry
        manifest.write_manifest(directory, said)
        model_card.print_entry(path, entry, said["keras_accuracy"])
    return said


def _test_accuracy(source: RunDirectory, record: Mapping[str, Any], export: Export) -> float | None:
    """Returns the accuracy that a training has measured on these test images, None without one."""
    if not source.exists(RESULT):
        return None
    if export.at_hand and export.data.record()["splits"]["test"] != record.get("splits", {}).get(
        "test"
    ):
        return None
    return source.read_json(RESULT).get("test", {}).get("accuracy")


def _is_current(path: str, entry: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether the artifact that a manifest lists is there as it was made, and made in this way."""
    return (
        entry["settings"] == settings
        and tf.io.gfile.exists(path)
        and manifest.file_facts(path) == entry["files"]
    )
