"""Pictures of a running search for TensorBoard, as a Keras callback."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import keras

from tas_tf.reports import canvas, model_plots, shape_plots
from tas_tf.spaces import derivation
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.training.architecture_search import ArchitectureSearch
from tas_tf.training.event_files import EventFiles

# Pictures of a run: at most so many, and at most this share of its time.
_PICTURES = 100
_PICTURES_SHARE = 0.05


class LivePictures(keras.callbacks.Callback):
    """Writes distributions after every epoch, and pictures after as many as time allows.

    Pictures show the network that is most probable now, and all distributions.

    Args:
        search: The search.
        events: Where they go.
        epochs: Number of epochs.
        steps_per_epoch: Steps of an epoch.
    """

    def __init__(
        self, search: ArchitectureSearch, events: EventFiles, epochs: int, steps_per_epoch: int
    ):
        super().__init__()
        self._search = search
        self._events = events
        self._epochs = epochs
        self._steps = steps_per_epoch
        self._spent = 0.0

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes distributions, and pictures where they are due: after the last epoch they are."""
        step, start = (epoch + 1) * self._steps, time.perf_counter()
        for name, (candidates, probabilities) in self._search.distributions().items():
            self._events.distribution(name, candidates, probabilities, step)
        due = epoch % -(-self._epochs // _PICTURES) == 0
        due &= self._spent <= _PICTURES_SHARE * (start - self._start)
        if due or epoch + 1 == self._epochs:
            self._draw(step)
            self._spent += time.perf_counter() - start

    def _draw(self, step: int) -> None:
        space = self._search.supernet.space
        now = derivation.argmax(space, *self._search.logits())
        widths, depths = (p.numpy() for p in self._search.supernet.probabilities())
        if isinstance(space, ModelSpace):
            figure = model_plots.draw_widths(space, widths, depths, now)
            self._events.picture("distributions", canvas.image(figure), step)
            return
        figures = {
            "architecture": shape_plots.draw_architecture(now, space.unpruned()),
            "distributions": shape_plots.draw_distributions(space, widths, depths, now),
        }
        for name, figure in figures.items():
            self._events.picture(name, canvas.image(figure), step)
