"""Model cards: the facts of a manifest as a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tas_tf.deployment.speed import BATCH_SIZES, is_faster
from tas_tf.runtime import templates
from tas_tf.spaces.cost import shown

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
    return templates.filled(
        "tas_tf.deployment", "model_card.md", manifest=manifest, batch_sizes=BATCH_SIZES
    )


def speed_texts(artifact: Mapping[str, Any]) -> list[str]:
    """Returns what calls of an artifact take, a line for each size of batch; none if not timed."""
    if artifact["speed"] is None:
        return []
    texts = []
    for call in artifact["speed"]["calls"]:
        times = {role: times["median_ms"] for role, times in call["times"].items()}
        faster = is_faster(artifact["speed"], call["share_of_time"])
        texts.append(
            f"batch {call['batch_size']}, threads {artifact['speed']['threads']}: "
            f"{times['network']:.3g} ms, the unpruned network {times['unpruned']:.3g} ms: "
            f"{1 / call['share_of_time']:.2f} times as fast{'' if faster else ', HARDLY FASTER'}"
        )
    return texts


def print_entry(path: str, entry: Mapping[str, Any], keras_accuracy: float | None) -> None:
    """Prints what an artifact came to.

    Args:
        path: Where it lies.
        entry: Its entry in the manifest.
        keras_accuracy: Accuracy of the Keras model; None where it is not known.
    """
    check = entry["check"]
    print(
        f"{path}: {entry['bytes']:,} bytes; on {check['images']} "
        f"{'real images' if check['real_images'] else 'images of noise'} its logits differ "
        f"from the Keras model's by {check['largest_relative_difference']:.1e} of the largest at "
        f"most, {check['class_agreement']:.1%} of the classes agree"
    )
    if "alignment" in entry:
        widths = entry["alignment"]
        print(
            f"  widths are multiples of {widths['grain']}: {shown(widths['true_macs'])} MACs, "
            f"{shown(widths['padded_macs'])} with the zeros"
        )
    for text in speed_texts(entry):
        print(f"  {text}")
    if entry["accuracy"] is not None:
        print(
            f"  accuracy on the test split {entry['accuracy']:.2%}, the Keras model's "
            f"{keras_accuracy:.2%}"
        )
