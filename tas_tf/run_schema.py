"""What the files of a run directory must hold to be shown; a file that does not is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tas_tf.cost import KINDS, NAMES

# The parts of a pipeline, in order, and what each is.
PIPELINE = {
    "teacher": "training",
    "search": "search",
    "student": "training",
    "student_kd": "training",
    "export": "export",
}


def number(value: Any) -> bool:
    """A number of a size that can be shown."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18


def positive(value: Any) -> bool:
    """A number above 0."""
    return number(value) and value > 0


def share(value: Any) -> bool:
    """A number from 0 to 1."""
    return number(value) and 0 <= value <= 1


def count(value: Any) -> bool:
    """A whole number, not below 0."""
    return number(value) and isinstance(value, int) and value >= 0


def text(value: Any) -> bool:
    """Text."""
    return isinstance(value, str)


def truth(value: Any) -> bool:
    """true or false."""
    return isinstance(value, bool)


def kind(value: Any) -> bool:
    """A kind of cost."""
    return text(value) and value in NAMES


@dataclasses.dataclass(frozen=True)
class Optional:
    """A pattern that null has too."""

    pattern: Any


ANY = "*"  # whatever the name
# Patterns: a function above for every value, in dictionaries and lists.
EPOCH = {"step": count, "epoch": count}  # a line of metrics.jsonl
RESULTS = {
    "training": {
        "test": {"loss": number, "accuracy": share, "images": count},
        "cost": dict.fromkeys(KINDS, positive),
        "seconds": number,
    },
    "search": {
        "derivation": {
            "in_band": truth,
            "is_argmax": truth,
            "log_probability": number,
            "argmax_log_probability": number,
            "budgets": {
                ANY: dict.fromkeys(("floor", "amount", "cost", "argmax_cost", "unpruned"), positive)
            },
        },
        "tolerance": share,
        "seconds": number,
    },
    "export": {"model": text},
}
_TIMES = {"median_ms": positive}
_CALL = {
    "batch_size": count,
    "times": {"network": _TIMES, "unpruned": _TIMES},
    "share_of_time": positive,
}
_FILE = {"bytes": count, "sha256": text}
MANIFEST = {
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


def kind_of(settings: Mapping[str, Any]) -> str:
    """Returns what kind of run a configuration is of: `pipeline`, one of `RESULTS`, or ""."""
    kinds = [k for k in RESULTS if any(name.startswith(f"run_{k}.") for name in settings)]
    return "pipeline" if len(kinds) > 1 else "".join(kinds)


def parse(content: str, pattern: dict[str, Any]) -> dict[str, Any]:
    """Reads JSON that must have a pattern; what else it has is left as it is.

    Args:
        content: The file's or the line's text.
        pattern: One of those above.

    Raises:
        ValueError: Where the text is no JSON, or where a field differs.
    """
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
        mismatch = next(_mismatches(value, pattern), None)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if mismatch:
        raise ValueError(mismatch)
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _mismatches(value: Any, pattern: Any, place: str = "") -> Iterator[str]:
    """Yields where a value differs from a pattern."""
    if isinstance(pattern, Optional):
        if value is not None:
            yield from _mismatches(value, pattern.pattern, place)
    elif isinstance(pattern, dict):
        if not isinstance(value, dict):
            yield f"{place or 'the file'}: expected an object"
        elif ANY in pattern:
            for name, inner in value.items():
                yield from _mismatches(inner, pattern[ANY], f"{place}.{name}".lstrip("."))
        else:
            for name, inner in pattern.items():
                field = f"{place}.{name}".lstrip(".")
                if name not in value:
                    yield f"{field} is missing"
                else:
                    yield from _mismatches(value[name], inner, field)
    elif isinstance(pattern, list):
        if not isinstance(value, list):
            yield f"{place}: expected a list"
        else:
            for index, inner in enumerate(value):
                yield from _mismatches(inner, pattern[0], f"{place}[{index}]")
    elif not pattern(value):
        yield f"{place}: unexpected {str(value)[:40]!r}"
