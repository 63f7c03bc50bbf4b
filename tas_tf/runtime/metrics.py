"""Metrics of a run: one record for each epoch, and the time that it took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tas_tf.errors import RunDirectoryError
from tas_tf.runtime.files import first_line, read_text, write_whole
from tas_tf.runtime.run_directory import RunDirectory

METRICS = "metrics.jsonl"


class Metrics:
    """`metrics.jsonl` of a run: one record per epoch.

    Args:
        directory: The run directory.
        step: Step that the run goes on from; later records of an interrupted run are dropped.
    """

    def __init__(self, directory: RunDirectory, step: int):
        self._directory = directory
        self._records = [r for r in read_metrics(directory) if r["step"] <= step]

    def write(self, record: dict[str, Any]) -> None:
        """Appends a record with `step` and `epoch`."""
        self._records.append(record)
        text = "".join(json.dumps(r) + "\n" for r in self._records)
        write_whole(self._directory.file(METRICS), text)

    def elapsed_seconds(self) -> float:
        """Returns the seconds that the records so far took."""
        return self._records[-1]["elapsed_seconds"] if self._records else 0.0

    def device_seconds(self) -> float:
        """Returns the seconds of device time that they took, see `device_clock`."""
        return self._records[-1].get("device_seconds", 0.0) if self._records else 0.0


def read_metrics(directory: RunDirectory) -> list[dict[str, Any]]:
    """Returns the records of a run so far.

    Raises:
        RunDirectoryError: If they cannot be read.
    """
    if not directory.exists(METRICS):
        return []
    try:
        records = [json.loads(line) for line in read_text(directory.file(METRICS)).splitlines()]
        for name, kind in (("step", int), ("epoch", int), ("elapsed_seconds", (int, float))):
            if not all(isinstance(r, dict) and isinstance(r.get(name), kind) for r in records):
                raise ValueError(f"a record without `{name}`")
    except (tf.errors.OpError, ValueError, RecursionError) as error:
        raise RunDirectoryError(
            f"{directory.file(METRICS)} cannot be read: {first_line(error)}. Put back a whole one, "
            "or remove it: then the run goes on, and the records of its first epochs are lost"
        ) from None
    return records


class Stopwatch:
    """Time since it was made, in seconds, continued from earlier sessions of the run.

    Args:
        earlier: Seconds of earlier sessions.
        clock: What is read, by default wall time.
    """

    def __init__(self, earlier: float = 0.0, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._start = clock() - earlier

    def seconds(self) -> float:
        """Returns the seconds so far."""
        return self._clock() - self._start


def device_clock() -> Callable[[], float]:
    """Returns a clock of device time in seconds, summed over the devices of this process.

    An accelerator counts as long as it is held; without any, the processor time of all threads is
    counted.
    """
    accelerators = len(tf.config.list_logical_devices("GPU"))
    if accelerators:
        return lambda: accelerators * time.perf_counter()
    return time.process_time
