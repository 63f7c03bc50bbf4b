"""The Keras callback that logs metrics, and durations as people write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tas_tf.runtime.metrics import Metrics, Stopwatch, device_clock
from tas_tf.spaces.cost import Budget
from tas_tf.training.event_files import EventFiles


class MetricsLog(keras.callbacks.Callback):
    """Writes one record per epoch to `metrics.jsonl` and the event files.

    Args:
        metrics: Where records go.
        events: Where their numbers go too.
        steps_per_epoch: Steps of an epoch.
        budgets: Budgets whose bands stand beside the costs.
        shape: Returns what a record holds beside the logs.
        earlier: Seconds of the first epoch that an earlier process took, and device time likewise.
    """

    def __init__(
        self,
        metrics: Metrics,
        events: EventFiles,
        steps_per_epoch: int,
        budgets: Sequence[Budget] = (),
        shape: Callable[[], dict[str, Any]] = dict,
        earlier: tuple[float, float] = (0.0, 0.0),
    ):
        super().__init__()
        self._metrics = metrics
        self._events = events
        self._stopwatch = Stopwatch(metrics.elapsed_seconds() + earlier[0])
        self._device = Stopwatch(metrics.device_seconds() + earlier[1], device_clock())
        self._shape = shape
        self._steps = steps_per_epoch
        self._bands = {}
        for budget in budgets:
            self._bands[f"floor_{budget.kind.name}_ratio"] = budget.floor / budget.unpruned
            self._bands[f"budget_{budget.kind.name}_ratio"] = budget.amount / budget.unpruned

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the epoch's record."""
        step = (epoch + 1) * self._steps
        record = {"step": step, "epoch": epoch + 1, **_numbers(logs or {})}
        record["elapsed_seconds"] = round(self._stopwatch.seconds(), 3)
        record["device_seconds"] = round(self._device.seconds(), 3)
        self._metrics.write({**record, **self._shape()})
        self._events.scalars({**record, **self._bands}, step)


def duration(seconds: float) -> str:
    """Returns a duration as people write it, such as 3 min 20 s."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _numbers(logs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: round(float(value), 6) if isinstance(value, (float, np.floating)) else value
        for name, value in logs.items()
    }
