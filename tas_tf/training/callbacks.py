"""Keras callbacks that log metrics and profiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.runtime.metrics import Metrics, Stopwatch, device_clock
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.cost import Budget
from tas_tf.training.event_files import EVENTS, EventFiles


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


class Profile(keras.callbacks.Callback):
    """Profiles some steps, for TensorBoard's profile plugin.

    Args:
        directory: The run directory; the profile goes where its event files are.
        first: First step of it, counted from 1 and from where the process begins.
        last: Last step of it.
    """

    def __init__(self, directory: RunDirectory, first: int, last: int):
        super().__init__()
        self._path = directory.file(EVENTS)
        self._first = first
        self._last = last

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Begins to count."""
        self._done = 0
        self._runs = False
        self._start_where_due()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Counts a step; starts or ends the profile where it is due."""
        self._done += 1
        if self._runs and self._done == self._last:
            self._stop()
        self._start_where_due()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Ends a profile that the run was too short for."""
        if self._runs:
            self._stop()
        elif self._done < self._first:
            print(f"--profile_steps: the run ended after {self._done} steps, before the profile")

    def _start_where_due(self) -> None:
        if self._done == self._first - 1:
            tf.profiler.experimental.start(self._path)
            self._runs = True

    def _stop(self) -> None:
        tf.profiler.experimental.stop()
        self._runs = False
        print(
            f"Profile of steps {self._first} to {self._done}: tensorboard --logdir={self._path} "
            "(with tensorboard-plugin-profile, in the extra [profile])"
        )


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
