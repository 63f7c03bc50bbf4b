"""What is logged on the way, as Keras callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tas_tf import canvas
from tas_tf.cost import Budget
from tas_tf.events import EVENTS, EventFiles
from tas_tf.metrics import Metrics, Stopwatch, device_clock
from tas_tf.runtime import RunDirectory

# Pictures of a run: at most so many, and at most this share of its time.
_PICTURES = 100
_PICTURES_SHARE = 0.05


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

    def on_epoch_end(self, epoch, logs=None):
        """Writes the epoch's record."""
        step = (epoch + 1) * self._steps
        record = {"step": step, "epoch": epoch + 1, **_numbers(logs)}
        record["elapsed_seconds"] = round(self._stopwatch.seconds(), 3)
        record["device_seconds"] = round(self._device.seconds(), 3)
        self._metrics.write({**record, **self._shape()})
        self._events.scalars({**record, **self._bands}, step)


class Pictures(keras.callbacks.Callback):
    """Writes distributions after every epoch, and pictures after as many as time allows.

    Args:
        events: Where they go.
        distributions: Returns by name the candidates of a choice and their probabilities.
        pictures: Returns pictures by name.
        epochs: Number of epochs.
        steps_per_epoch: Steps of an epoch.
    """

    def __init__(
        self,
        events: EventFiles,
        distributions: Callable[[], dict[str, tuple[Sequence[int], np.ndarray]]],
        pictures: Callable[[], dict[str, Figure]],
        epochs: int,
        steps_per_epoch: int,
    ):
        super().__init__()
        self._events = events
        self._distributions = distributions
        self._pictures = pictures
        self._epochs = epochs
        self._steps = steps_per_epoch
        self._spent = 0.0

    def on_train_begin(self, logs=None):
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Writes distributions, and pictures where they are due: after the last epoch they are."""
        step, start = (epoch + 1) * self._steps, time.perf_counter()
        for name, (candidates, probabilities) in self._distributions().items():
            self._events.distribution(name, candidates, probabilities, step)
        due = epoch % -(-self._epochs // _PICTURES) == 0
        due &= self._spent <= _PICTURES_SHARE * (start - self._start)
        if due or epoch + 1 == self._epochs:
            for name, figure in self._pictures().items():
                self._events.picture(name, canvas.image(figure), step)
            self._spent += time.perf_counter() - start


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

    def on_train_begin(self, logs=None):
        """Begins to count."""
        self._done = 0
        self._runs = False
        self._start_where_due()

    def on_train_batch_end(self, batch, logs=None):
        """Counts a step; starts or ends the profile where it is due."""
        self._done += 1
        if self._runs and self._done == self._last:
            self._stop()
        self._start_where_due()

    def on_train_end(self, logs=None):
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


def _numbers(logs: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(float(value), 6) if isinstance(value, (float, np.floating)) else value
        for name, value in logs.items()
    }
