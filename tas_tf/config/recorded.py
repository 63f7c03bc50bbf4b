"""Configurations that runs have recorded, read as data and never as code."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Sequence

from tas_tf.config.presets import find_spec, read_lines
from tas_tf.errors import SpecError

_LOADS = re.compile(r"\s*(import|from|include)\b")

# Settings that older specs and configurations have, and what holds in their place.
RETIRED = {
    "Supernet.formulation": "every supernet is of the fused formulation",
    "run_export.qat_batch_size": "batches of quantization-aware training have 128 images",
    "run_export.qat_learning_rate": "quantization-aware training starts at 0.0002",
    "run_search.cost_band": "run_search.cost_formula says which band is meant",
}
_SETTING = re.compile(r"\s*([\w.]+)\s*=")


# Settings that say where a network or a table lies: what lies there is compared, not its place.
PLACES = (
    "run_search.start_from",
    "run_search.latency_table",
    "run_training.architecture",
    "run_training.teacher",
    "run_training.start_from",
    "run_baseline.start_from",
    "run_baseline.latency_table",
    "run_export.model",
    "own_model.model",
    "run_pipeline.model",
)
IMAGES = "ImageData.dataset"  # likewise, where it is recorded which they are
HERE = "{here}"  # in a gin file the folder that holds it
# A value that gin breaks goes on in indented lines, in parentheses where it is text.
_PLACE = re.compile(
    rf"^({'|'.join(map(re.escape, PLACES))}) = (?:\\\n +)?(.*(?:\n +.*)*)$", re.MULTILINE
)


def anchored(config: str, folder: str) -> str:
    """Returns a configuration whose places beside its run directory are told from there.

    What lies together, as the parts of a pipeline do, can then be moved together.

    Args:
        config: Text as `resolved` returns it.
        folder: The run directory that it will lie in.
    """

    def told(match: re.Match[str]) -> str:
        try:
            place = ast.literal_eval(match[2])
        except (SyntaxError, ValueError):  # a macro
            return match[0]
        new = told_from(place, folder) if isinstance(place, str) else place
        return match[0] if new == place else f"{match[1]} = {new!r}"

    return _PLACE.sub(told, config)


def told_from(place: str, folder: str) -> str:
    """Returns a place as told from a folder if it lies beside it; any other as it is."""
    above, name = os.path.split(_absolute(place))
    return f"{HERE}/../{name}" if above == os.path.dirname(_absolute(folder)) else place


def _absolute(path: str) -> str:
    path = path.rstrip("/")
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def without_here(line: str, file: str) -> str:
    """Returns a line of a gin file with the folder that holds it in the place of `{here}`."""
    if HERE not in line:
        return line
    folder = os.path.dirname(file)
    above, name = os.path.split(folder)
    for text, path in ((f"{HERE}/../", above and f"{above}/"), (HERE, folder or ".")):
        if text == HERE or name not in ("", ".", ".."):
            line = line.replace(text, path.replace("\\", "\\\\").replace("'", "\\'"))
    return line


def unbroken(config: str) -> str:
    """Returns a configuration whose values stand in one line each: gin breaks long ones."""
    return re.sub(r"\\?\n +", " ", config)


def placeless(bindings: Sequence[str], images: bool = False) -> list[str]:
    """Returns bindings without the places in them: only whether there is one remains.

    Args:
        bindings: Lines `NAME = VALUE`, macros among them.
        images: Whether that of the images is no part of them either.
    """
    places = {*PLACES, IMAGES} if images else {*PLACES}
    pairs = [tuple(text.strip() for text in line.partition("=")[::2]) for line in bindings]
    macros = {value[1:] for name, value in pairs if name in places and value.startswith("%")}
    return sorted(
        f"{name} = (a place)" if name in places and value != "None" else f"{name} = {value}"
        for name, value in pairs
        if name not in macros
    )


def retired(line: str) -> str | None:
    """Returns the retired setting that a line of a gin file gives, if it is one."""
    match = _SETTING.match(line)
    return match[1] if match and match[1] in RETIRED else None


def check_recorded(file: str) -> None:
    """Refuses a recorded configuration that loads code; none that a run records does.

    Args:
        file: A gin file that lies in a run directory, which may come from anywhere.

    Raises:
        SpecError: If it imports a module or includes a file.
    """
    for number, line in enumerate(read_lines(find_spec(file)), 1):
        if _LOADS.match(line):
            raise SpecError(
                f"{file}, line {number}: {line.strip()}: no run records such a line. If you trust "
                f"it, give --gin_file={file}"
            )


def settings(config: str) -> dict[str, bool | int | float | str]:
    """Returns what a resolved configuration sets, macros resolved; less where things lie.

    Args:
        config: Text as `resolved` returns it.
    """
    joined = re.sub(r"\\?\n +", " ", config)  # gin breaks a long value into indented lines
    lines = re.findall(r"^([\w./]+) = (.*)$", joined, re.MULTILINE)
    macros = {f"%{name}": value for name, value in lines if "." not in name}
    values = {}
    for name, text in lines:
        text = macros.get(text.strip(), text).strip()
        if "." in name and not name.endswith(("data_dir", "download")) and text != "None":
            try:
                value = ast.literal_eval(text)
            # A reference such as @SGD(), or whatever a damaged file holds.
            except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
                value = text
            values[name] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return values
