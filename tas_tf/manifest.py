"""What an export records: `manifest.json`, and `model_card.md` made from the same facts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tas_tf import configuration, run_schema, runtime
from tas_tf.architecture import Architecture
from tas_tf.errors import RunDirectoryError
from tas_tf.measuring import BATCH_SIZES, is_faster
from tas_tf.networks import Classifier
from tas_tf.runtime import RunDirectory

MANIFEST, CARD = "manifest.json", "model_card.md"
SCHEMA_VERSION = 1
_PACKAGES = ("tas_tf", "tensorflow", "keras", "numpy", "ai-edge-litert", "tf_keras")
_PACKAGES += ("tensorflow-model-optimization",)
# Settings that a model card tells.
_TOLD = {
    "run_training.epochs": "epochs",
    "run_training.batch_size": "batch size",
    "SGD.learning_rate": "peak learning rate",
    "SGD.l2": "L2",
    "ImageData.augmentation": "augmentation",
    "run_training.precision": "precision",
    "run_training.teacher": "teacher (distillation)",
    "run_training.seed": "seed",
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
    weights = hashlib.sha256()
    for value in classifier.model.get_weights():
        weights.update(value.tobytes())
    settings = configuration.settings(config)
    return {
        "schema_version": SCHEMA_VERSION,
        "network": {
            "family": architecture.family,
            "input_shape": list(architecture.input_shape),
            "num_classes": architecture.num_classes,
            "label_names": list(classifier.label_names),
            "cost": dict(architecture.cost),
            "architecture_sha256": _sha256(architecture.to_json().encode()),
            "weights_sha256": weights.hexdigest(),
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
            "settings": {
                title: settings[name] for name, title in _TOLD.items() if name in settings
            },
        },
        "keras_accuracy": accuracy,
        "artifacts": {},
    }


def versions() -> dict[str, str]:
    """Returns the versions of what makes artifacts, as far as it is installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def file_facts(path: str) -> dict[str, dict[str, Any]]:
    """Returns size and hash of every file of an artifact, by its name within the artifact."""
    if not tf.io.gfile.isdir(path):
        return {os.path.basename(path): _of_file(path)}
    found = {}
    for folder, _, names in tf.io.gfile.walk(path):
        for name in sorted(names):
            file = os.path.join(folder, name)
            found[file[len(path) :].lstrip("/")] = _of_file(file)
    return found


def _of_file(path: str) -> dict[str, Any]:
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
        found = run_schema.parse(runtime.read_text(path), run_schema.MANIFEST)
    except (ValueError, tf.errors.OpError) as error:
        raise RunDirectoryError(
            f"{path} cannot be read: {runtime.first_line(error)}. Remove it, and export again"
        ) from None
    if found["network"]["weights_sha256"] != network["weights_sha256"]:
        raise RunDirectoryError(
            f"{path} lists artifacts of another network (weights "
            f"{found['network']['weights_sha256'][:12]} in place of "
            f"{network['weights_sha256'][:12]}); give another --run_dir"
        )
    return found["artifacts"]


def write_manifest(directory: RunDirectory, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest, and the model card made from it."""
    directory.write_json(MANIFEST, manifest)
    runtime.write_whole(directory.file(CARD), card(manifest))


def card(manifest: Mapping[str, Any]) -> str:
    """Returns the model card of a manifest, in Markdown."""
    network, data = manifest["network"], manifest["data"]
    height, width, channels = network["input_shape"]
    cost = network["cost"]
    test = data.get("splits", {}).get("test", {})
    known = manifest["keras_accuracy"]
    lines = [
        f"# Model card: a {network['family']} for {data.get('dataset')}",
        "",
        f"A convolutional network that tells {network['num_classes']} classes apart: "
        f"{cost.get('macs', 0):,} multiply-accumulates for an image, "
        f"{cost.get('parameters', 0):,} parameters.",
        "",
        "## Input and output",
        "",
        f"Images of {height}x{width} pixels with {channels} channels, uint8. Normalization, "
        f"`{manifest['preprocessing']['formula']}` with mean {_numbers(manifest, 'mean')} and "
        f"deviation {_numbers(manifest, 'deviation')}, is inside every artifact but `keras`, which "
        "takes normalized float32 images. Out come logits, in the order of the classes:",
        "",
        ", ".join(f"{number} {name}" for number, name in enumerate(network["label_names"])) + ".",
        "",
        "## Artifacts",
        "",
        *artifact_table(manifest),
        "",
        "Difference: the largest difference of a logit from the Keras model's, relative to the "
        "largest logit; with the agreement of the classes on real images of the training set. "
        "Times as fast: as the unpruned network, exported alike, where it was exported, at batches "
        f"of {' and '.join(map(str, BATCH_SIZES))}.",
        "",
        "## Training",
        "",
        *(f"- {title}: {value}" for title, value in manifest["training"]["settings"].items()),
        f"- split `{data.get('evaluation_split')}` tests: {test.get('images')} images, fingerprint "
        f"`{test.get('fingerprint')}`; trained without them",
        f"- accuracy of the Keras model on it: {'not known' if known is None else f'{known:.2%}'}",
        "",
        "## Limits",
        "",
        "- Accuracy holds for images like those of the test split, brought to size alike.",
        "- Every image gets one of the classes, also one that shows none of them. Probabilities "
        "are not calibrated.",
        "- Artifacts of int8 round: compare their accuracy above.",
        "- Numbers of this card are those of `manifest.json`, which has the hash of every file.",
    ]
    return "\n".join(lines) + "\n"


def speed_texts(artifact: Mapping[str, Any]) -> list[str]:
    """Returns what calls of an artifact take, a line for each size of batch; none if not timed."""
    if artifact["speed"] is None:
        return []
    texts = []
    for call in artifact["speed"]["calls"]:
        times = {role: times["median_ms"] for role, times in call["times"].items()}
        faster = is_faster(artifact["speed"]["share_of_macs"], call["share_of_time"])
        texts.append(
            f"batch {call['batch_size']}, threads {artifact['speed']['threads']}: "
            f"{times['network']:.3g} ms, the unpruned network {times['unpruned']:.3g} ms: "
            f"{1 / call['share_of_time']:.2f} times as fast{'' if faster else ', HARDLY FASTER'}"
        )
    return texts


def artifact_table(manifest: Mapping[str, Any]) -> list[str]:
    """Returns a table of a manifest's artifacts as lines of Markdown."""
    rows = [
        "| artifact | bytes | difference | agreement | test accuracy | times as fast |",
        "|---|---|---|---|---|---|",
    ]
    for name, artifact in manifest["artifacts"].items():
        check, accuracy = artifact["check"], artifact["accuracy"]
        rows.append(
            f"| {name}: `{artifact['file']}` | {artifact['bytes']:,} "
            f"| {check['largest_relative_difference']:.1e} | {check['class_agreement']:.1%} "
            f"| {'-' if accuracy is None else f'{accuracy:.2%}'} | {_times_as_fast(artifact)} |"
        )
    return rows


def _times_as_fast(artifact: Mapping[str, Any]) -> str:
    calls = artifact["speed"]["calls"] if artifact["speed"] else []
    return ", ".join(f"{1 / call['share_of_time']:.2f}" for call in calls) or "-"


def _numbers(manifest: Mapping[str, Any], name: str) -> str:
    return ", ".join(f"{value:.4f}" for value in manifest["preprocessing"][name])
