"""Configurations that runs have recorded, read as data and never as code."""

from __future__ import annotations

import ast
import re

from tas_tf.config.presets import find_spec, read_lines
from tas_tf.errors import SpecError

_LOADS = re.compile(r"\s*(import|from|include)\b")

# Settings that older specs and configurations have, and what holds in their place.
RETIRED = {
    "Supernet.formulation": "every supernet is of the fused formulation",
    "run_export.qat_batch_size": "batches of quantization-aware training have 128 images",
    "run_export.qat_learning_rate": "quantization-aware training starts at 0.005",
    "run_search.cost_band": "run_search.cost_formula says which band is meant",
}
_SETTING = re.compile(r"\s*([\w.]+)\s*=")


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
