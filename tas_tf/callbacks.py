"""What is shown and logged on the way, as Keras callbacks."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import rich.console
import rich.progress

from tas_tf.runtime import Metrics, Stopwatch, device_clock

# Shown on the line of an epoch, in this order, where present.
_SHOWN = {
    "loss": "loss {:.3f}",
    "accuracy": "accuracy {:.3f}",
    "holdout_accuracy": "holdout {:.3f}",
    "architecture_loss": "architecture loss {:.3f}",
    "architecture_accuracy": "accuracy {:.3f}",
    "temperature": "temperature {:.2f}",
    "expected_macs_ratio": "expected MACs {:.1%}",
    "argmax_macs_ratio": "argmax MACs {:.1%}",
    "width_entropy": "entropy {:.2f}",
}


# After how many steps, the first left out, the time of a step is said.
_TIMED_STEPS = 10


class Progress(keras.callbacks.Callback):
    """Shows a bar in a terminal, and one line per epoch everywhere.

    Args:
        title: What is running.
        epochs: Number of epochs.
        steps_per_epoch: Steps of an epoch.
        first_epoch: Epoch that the run goes on from.
    """

    def __init__(self, title: str, epochs: int, steps_per_epoch: int, first_epoch: int = 0):
        super().__init__()
        self._title = title
        self._epochs = epochs
        self._steps = steps_per_epoch
        self._first = first_epoch
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("steps, left"),
            rich.progress.TimeRemainingColumn(),
            console=rich.console.Console(file=sys.stdout),
            transient=True,
            disable=not sys.stdout.isatty(),
        )
        self._task = self._bar.add_task(
            title, total=epochs * steps_per_epoch, completed=first_epoch * steps_per_epoch
        )

    def on_train_begin(self, logs=None):
        """Starts the clock."""
        self._seen = 0
        self._start = time.perf_counter()
        self._bar.start()

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar; says once what the first steps took."""
        self._bar.advance(self._task)
        self._seen += 1
        if self._seen == 1:
            self._first_step = time.perf_counter()
        elif self._seen == _TIMED_STEPS + 1:
            seconds = (time.perf_counter() - self._first_step) / _TIMED_STEPS
            steps = (self._epochs - self._first) * self._steps
            end = datetime.datetime.now() + datetime.timedelta(seconds=steps * seconds)
            self._bar.console.print(
                f"{self._title}: {seconds:.3g} s per step "
                f"({self._first_step - self._start:.1f} s until the first was done, tracing "
                f"included); {duration(steps * seconds)} in all, until {end:%Y-%m-%d %H:%M}",
                highlight=False,
                soft_wrap=True,
            )

    def on_epoch_end(self, epoch, logs=None):
        """Prints the epoch's line, with the time that is left."""
        elapsed = time.perf_counter() - self._start
        left = elapsed / (epoch + 1 - self._first) * (self._epochs - epoch - 1)
        parts = [text.format(logs[name]) for name, text in _SHOWN.items() if name in logs]
        line = f"{self._title} {epoch + 1}/{self._epochs}  {'  '.join(parts)}"
        self._bar.console.print(
            f"{line}  ({duration(elapsed)}, {duration(left)} left)", highlight=False, soft_wrap=True
        )

    def on_train_end(self, logs=None):
        """Removes the bar."""
        self._bar.stop()


class MetricsLog(keras.callbacks.Callback):
    """Writes one record per epoch to `metrics.jsonl` and the event files.

    Args:
        metrics: Where records go.
        steps_per_epoch: Steps of an epoch.
        histograms: Returns name to values of what is logged as a histogram.
        shape: Returns what a record holds beside the logs.
    """

    def __init__(
        self,
        metrics: Metrics,
        steps_per_epoch: int,
        histograms: Callable[[], dict[str, Any]] = dict,
        shape: Callable[[], dict[str, Any]] = dict,
    ):
        super().__init__()
        self._metrics = metrics
        self._stopwatch = Stopwatch(metrics.elapsed_seconds())
        self._device = Stopwatch(metrics.device_seconds(), device_clock())
        self._shape = shape
        self._steps = steps_per_epoch
        self._histograms = histograms

    def on_epoch_end(self, epoch, logs=None):
        """Writes the epoch's record."""
        step = (epoch + 1) * self._steps
        record = {"step": step, "epoch": epoch + 1, **_numbers(logs)}
        record["elapsed_seconds"] = round(self._stopwatch.seconds(), 3)
        record["device_seconds"] = round(self._device.seconds(), 3)
        self._metrics.write({**record, **self._shape()})
        for name, values in self._histograms().items():
            self._metrics.histogram(name, values, step)

    def on_train_end(self, logs=None):
        """Closes the event files."""
        self._metrics.close()


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
