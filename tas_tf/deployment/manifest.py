"""Manifests: `manifest.json`, the facts of an export."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tas_tf import json_schema
from tas_tf.config import recorded
from tas_tf.deployment.classifier import Classifier
from tas_tf.deployment.model_card import TOLD, card
from tas_tf.errors import RunDirectoryError
from tas_tf.json_schema import ANY, Optional, count, number, positive, share, text
from tas_tf.models.network_files import weights_digest
from tas_tf.runtime import files
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.architecture import Architecture

MANIFEST, CARD = "manifest.json", "model_card.md"
SCHEMA_VERSION = 1
# Accuracy that an artifact may lack of the Keras model's: int8 costs a point or two.
FALL = 0.05
# Difference of a logit, relative to the largest, beyond which a conversion to int8 is not sound.
UNSOUND = 0.5
# What makes artifacts, beside the packages of a format.
PACKAGES = ("tas_tf", "tensorflow", "keras", "numpy")
_TIMES = {"median_ms": positive}
_CALL = {
    "batch_size": count,
    "times": {"network": _TIMES, "unpruned": _TIMES},
    "share_of_time": positive,
}
_FILE = {"bytes": count, "sha256": text}
# What a manifest must hold to be read.
PATTERN = {
    "network": {"weights_sha256": text},
    "keras_accuracy": Optional(share),
    "artifacts": {
        ANY: {
            "file": text,
            "bytes": count,
            "files": {ANY: _FILE},
            "check": {
                "largest_relative_difference": number,
                "class_agreement": share,
                "images": count,
            },
            "accuracy": Optional(share),
            "speed": Optional({"threads": count, "share_of_macs": positive, "calls": [_CALL]}),
            "settings": lambda value: isinstance(value, dict),
        }
    },
}


def facts(
    classifier: Classifier,
    architecture: Architecture,
    record: Mapping[str, Any],
    config: str,
    accuracy: float | None,
) -> dict[str, Any]:
    """Returns what a manifest says of the network itself.

    Args:
        classifier: The network.
        architecture: Its architecture.
        record: The record of the images that it was trained with.
        config: The configuration of its training.
        accuracy: The Keras model's accuracy on the test split; None where it is not known.
    """
    settings = recorded.settings(config)
    return {
        "schema_version": SCHEMA_VERSION,
        "network": {
            "family": architecture.family,
            "input_shape": list(architecture.input_shape),
            "num_classes": architecture.num_classes,
            "label_names": list(classifier.label_names),
            "cost": architecture.cost,
            "architecture_sha256": _sha256(architecture.to_json().encode()),
            "weights_sha256": weights_digest(classifier.model),
        },
        "preprocessing": {
            "mean": list(classifier.mean),
            "deviation": list(classifier.deviation),
            "formula": "(pixels / 255 - mean) / deviation",
        },
        "data": {
            name: record[name]
            for name in ("dataset", "seed", "evaluation_split", "splits")
            if name in record
        },
        "training": {
            "config_sha256": _sha256(config.encode()),
            "settings": {title: settings[name] for name, title in TOLD.items() if name in settings},
        },
        "keras_accuracy": accuracy,
        "artifacts": {},
    }


def file_facts(path: str) -> dict[str, dict[str, Any]]:
    """Returns size and hash of every file of an artifact, by its name within the artifact."""
    if not tf.io.gfile.isdir(path):
        return {os.path.basename(path): _file_entry(path)}
    entries = {}
    for folder, _, names in tf.io.gfile.walk(path):
        for name in sorted(names):
            file = os.path.join(folder, name)
            entries[file[len(path) :].lstrip("/")] = _file_entry(file)
    return entries


def _file_entry(path: str) -> dict[str, Any]:
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    return {"bytes": len(content), "sha256": _sha256(content)}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_manifest(directory: RunDirectory, network: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the artifacts that a run directory's manifest lists; {} where there is none.

    Args:
        directory: The run directory.
        network: What `facts` says of the network that is exported.

    Raises:
        RunDirectoryError: If it is damaged, or of another network.
    """
    if not directory.exists(MANIFEST):
        return {}
    path = directory.file(MANIFEST)
    try:
        manifest = json_schema.parse(files.read_text(path), PATTERN, "manifest")
    except (ValueError, tf.errors.OpError) as error:
        raise RunDirectoryError(
            f"{path} cannot be read: {files.first_line(error)}. Remove it, and export again"
        ) from None
    listed, exported = manifest["network"]["weights_sha256"], network["weights_sha256"]
    if listed != exported:
        raise RunDirectoryError(
            f"{path} lists artifacts of another network (weights {listed[:12]} in place of "
            f"{exported[:12]}); give another `run_dir`"
        )
    return manifest["artifacts"]


def far_less_accurate(manifest: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Says which artifacts are far less accurate than the Keras model.

    Far is more than `FALL` of the test images, and more than one image; or logits that differ so
    much that few test images cannot show it.

    Args:
        manifest: The manifest.
        names: The formats to look at.
    """
    whole, texts = manifest["keras_accuracy"], []
    images = manifest["data"].get("splits", {}).get("test", {}).get("images")
    for name in names:
        entry = manifest["artifacts"][name]
        if whole is None or entry["accuracy"] is None:
            continue
        difference = entry["check"]["largest_relative_difference"]
        fallen = whole - entry["accuracy"] > FALL + (1 / images if images else 0)
        if fallen or difference > UNSOUND:
            texts.append(
                f"{entry['file']} is FAR LESS ACCURATE than the Keras model: "
                f"{entry['accuracy']:.2%} on the test split in place of {whole:.2%}, and logits "
                f"that differ by {difference:.1e} of the largest. Do not deploy it; another int8 "
                "format, or one without int8, may do"
            )
    return texts


def write_manifest(directory: RunDirectory, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest, and the model card made from it.

    The manifest comes last: whoever finds it finds everything.
    """
    files.write_whole(directory.file(CARD), card(manifest))
    directory.write_json(MANIFEST, manifest)
