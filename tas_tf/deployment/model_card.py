"""Model cards: the facts of a manifest as a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tas_tf.deployment.speed import BATCH_SIZES, is_faster

# Settings that a model card tells.
TOLD = {
    "run_training.epochs": "epochs",
    "run_training.batch_size": "batch size",
    "SGD.learning_rate": "peak learning rate",
    "SGD.l2": "L2",
    "ImageData.augmentation": "augmentation",
    "run_training.precision": "precision",
    "run_training.teacher": "teacher (distillation)",
    "run_training.seed": "seed",
}


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
