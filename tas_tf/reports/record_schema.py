"""Patterns of a run directory's files: a file that does not fit is not shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tas_tf.json_schema import ANY, count, number, positive, share, text, truth
from tas_tf.spaces.cost import NAMES

# The parts of a pipeline, in order, and what each is.
PIPELINE = {
    "teacher": "training",
    "search": "search",
    "student": "training",
    "student_kd": "training",
    "export": "export",
}


def kind(value: Any) -> bool:
    """A kind of cost."""
    return text(value) and value in NAMES


_PLACED = dict.fromkeys(("floor", "amount", "cost", "unpruned"), positive)
# Patterns: a function above for every value, in dictionaries and lists.
EPOCH = {"step": count, "epoch": count}  # a line of metrics.jsonl
RESULTS: dict[str, dict[str, Any]] = {
    "training": {
        "test": {"loss": number, "accuracy": share, "images": count},
        "cost": {"macs": positive, "parameters": positive},
        "seconds": number,
    },
    "search": {
        "derivation": {
            "in_band": truth,
            "is_argmax": truth,
            "log_probability": number,
            "argmax_log_probability": number,
            "budgets": {ANY: {**_PLACED, "argmax_cost": positive}},
        },
        "tolerance": share,
        "seconds": number,
    },
    "baseline": {
        "derivation": {"method": text, "in_band": truth, "budgets": {ANY: _PLACED}},
        "tolerance": share,
        "seconds": number,
    },
    "export": {"model": text},
}
DATA = {
    "dataset": text,
    "seed": count,
    "evaluation_split": text,
    "splits": {ANY: {"of": text, "images": count, "fingerprint": text}},
    "input_shape": [count],
    "num_classes": count,
}
MACHINE = {"command": [text], "devices": [text], "cores": count, "versions": {ANY: text}}
SPACE = {
    "space": {
        "family": text,
        "block": text,
        "input_shape": [count],
        "num_classes": count,
        "choices": [{"name": text, "candidates": [count]}],
        "unit_choices": [count],
        "depths": [[count]],
    },
    "budgets": [{"kind": kind, "amount": positive, "unpruned": positive, "tolerance": share}],
}

# The same of a model of one's own.
MODEL_SPACE = {
    "space": {
        "model": text,
        "choices": [{"name": text, "candidates": [count]}],
        "branches": [text],
    },
    "budgets": SPACE["budgets"],
}
# The parts of a pipeline that makes such a model smaller.
MODEL_PARTS = ("search", "student_kd", "export")


def run_kind(settings: Mapping[str, Any]) -> str:
    """Returns what kind of run a configuration is of: `pipeline`, one of `RESULTS`, or ""."""
    kinds = [k for k in RESULTS if any(name.startswith(f"run_{k}.") for name in settings)]
    return "pipeline" if len(kinds) > 1 else "".join(kinds)
