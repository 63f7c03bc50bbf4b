"""Records of a search: its space, its budgets, its latencies, its logits."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from tas_tf.errors import RunDirectoryError
from tas_tf.runtime import files
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces import cost
from tas_tf.spaces.expected_cost import table_shapes
from tas_tf.spaces.latency_table import LatencyTable
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace

SPACE = "space.json"
LOGITS = "logits.json"
LATENCY_TABLE = "latency_table.json"


def check_latency(directory: RunDirectory, table: LatencyTable | None) -> None:
    """Refuses to go on with another table than a search began with.

    Raises:
        RunDirectoryError: If the run directory holds another one.
    """
    if table is not None and directory.exists(LATENCY_TABLE):
        if files.read_text(directory.file(LATENCY_TABLE)) != table.to_json():
            raise RunDirectoryError(
                f"{directory.path} began with another table of latencies than {table.source}: give "
                f"{directory.file(LATENCY_TABLE)}, or another `run_dir`",
                field="run_dir",
            )


def write_space(
    directory: RunDirectory,
    space: SearchSpace | ModelSpace,
    budgets: Sequence[cost.Budget],
    latency: LatencyTable | None,
) -> None:
    """Records what is searched, within which budgets, by which table of latencies."""
    if latency is not None:
        files.write_whole(directory.file(LATENCY_TABLE), latency.to_json())
    record = {
        "space": space.record(),
        "budgets": [budget.record() for budget in budgets],
    }
    files.write_whole(directory.file(SPACE), json.dumps(record) + "\n")


def write_logits(directory: RunDirectory, logits: Sequence[np.ndarray]) -> None:
    """Records the values of widths (choices, n) and depths (stages, m)."""
    names = ("width_logits", "depth_logits")
    values = {name: rows.tolist() for name, rows in zip(names, logits, strict=True)}
    directory.write_json(LOGITS, values)


def read_logits(directory: RunDirectory, space: SearchSpace | ModelSpace) -> list[np.ndarray]:
    """Reads a search's logits of widths and depths.

    Raises:
        RunDirectoryError: If they are damaged, or of another space.
    """
    record = directory.read_json(LOGITS, ("width_logits", "depth_logits"))
    logits = []
    for name, shape in zip(("width_logits", "depth_logits"), table_shapes(space), strict=True):
        try:
            values = np.array(record[name], np.float64)
        except (TypeError, ValueError):
            values = np.empty(0)
        if values.size == np.prod(shape) == 0:  # such as no depths: a list tells no width
            values = values.reshape(shape)
        if values.shape != shape or not np.isfinite(values).all():
            raise RunDirectoryError(
                f"{directory.file(LOGITS)}: {name}: expected finite numbers {shape}. "
                f"Received: shape {values.shape}"
            )
        logits.append(values)
    return logits
