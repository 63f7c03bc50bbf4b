"""Profiles of some steps of a run, as a Keras callback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.training.event_files import EVENTS


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
