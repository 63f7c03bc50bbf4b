"""Event files for TensorBoard: their content, under stable names (docs/tensorboard.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tas_tf.errors import InstallationError
from tas_tf.runtime.files import explained_writing
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.cost import NAMES, Budget

try:
    from tensorboard.plugins.custom_scalar import layout_pb2
    from tensorboard.plugins.custom_scalar import summary as custom_scalar
    from tensorboard.plugins.histogram import metadata as histogram
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams import summary as hparams_v1
    from tensorboard.plugins.hparams import summary_v2 as hparams
except ModuleNotFoundError as error:
    raise InstallationError(
        f"TensorBoard is not installed (no module named {error.name!r}), and runs write event "
        "files for it: pip install 'tensorboard>=2.20,<3'"
    ) from None

EVENTS = "events"
# What a scalar that `metrics.jsonl` names is called in TensorBoard.
SCALARS = {
    "loss": "loss/train",
    "architecture_loss": "loss/architecture",
    "cost_loss": "loss/cost",
    "accuracy": "accuracy/train",
    "architecture_accuracy": "accuracy/architecture",
    "holdout_accuracy": "accuracy/holdout",
    "test_accuracy": "accuracy/test",
    "width_entropy": "entropy/widths",
    "depth_entropy": "entropy/depths",
    "temperature": "schedule/temperature",
    "learning_rate": "schedule/learning_rate",
    "epoch": "schedule/epoch",
    "seconds_per_step": "time/seconds_per_step",
    "elapsed_seconds": "time/elapsed_seconds",
    "device_seconds": "time/device_seconds",
    **{
        f"{which}_{kind}_ratio": f"cost/{kind}/{which}"
        for kind in NAMES
        for which in ("expected", "argmax", "derived", "floor", "budget")
    },
}


class EventFiles:
    """The event files of a run, in its folder `events/`; to be used in a `with` statement.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: RunDirectory):
        self._path = directory.file(EVENTS)
        with explained_writing(self._path):
            self._writer = tf.summary.create_file_writer(self._path)

    def __enter__(self) -> EventFiles:
        return self

    def __exit__(self, *error: object) -> None:
        with explained_writing(self._path):
            self._writer.close()

    @contextlib.contextmanager
    def _at(self, step: int) -> Iterator[None]:
        with explained_writing(self._path), self._writer.as_default(step=step):
            yield
            self._writer.flush()

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Writes those values that have a name among `SCALARS`."""
        with self._at(step):
            for name, value in values.items():
                if name in SCALARS:
                    tf.summary.scalar(SCALARS[name], value)

    def distribution(
        self, name: str, candidates: Sequence[int], probabilities: np.ndarray, step: int
    ) -> None:
        """Writes the probabilities of candidates as a histogram: a bucket for each, in per cent.

        Args:
            name: Name in TensorBoard.
            candidates: (n,), ascending.
            probabilities: At least (n,); what follows is left out.
            step: The step.
        """
        middles = (np.array(candidates[1:]) + np.array(candidates[:-1])) / 2
        first, last = candidates[0] - 0.5, candidates[-1] + 0.5
        left, right = np.append(first, middles), np.append(middles, last)
        buckets = np.stack([left, right, 100 * probabilities[: len(candidates)]], axis=1)
        with self._at(step):
            description = f"Probability in per cent of {', '.join(map(str, candidates))}."
            metadata = histogram.create_summary_metadata(None, description)
            tf.summary.write(name, tf.constant(buckets, tf.float64), metadata=metadata)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Writes a picture (height, width, 3), uint8."""
        with self._at(step):
            tf.summary.image(name, pixels[None])

    def text(self, name: str, content: str, language: str = "") -> None:
        """Writes text that stands as it is, as of step 0."""
        with self._at(0):
            tf.summary.text(name, f"```{language}\n{content}\n```")

    def settings(self, values: Mapping[str, bool | int | float | str]) -> None:
        """Writes the settings that runs are compared by."""
        self._raw(hparams.hparams_pb(dict(values)))

    def done(self) -> None:
        """Says that the run has come to its end."""
        self._raw(hparams_v1.session_end_pb(api_pb2.STATUS_SUCCESS))

    def cost_charts(self, budgets: Sequence[Budget]) -> None:
        """Lays out a chart for each budget: the expected cost, and the band around it."""
        charts = []
        for kind in [budget.kind.name for budget in budgets]:
            which = ("expected", "floor", "budget")
            value, lower, upper = (SCALARS[f"{name}_{kind}_ratio"] for name in which)
            series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
            margin = layout_pb2.MarginChartContent(series=[series])
            charts.append(layout_pb2.Chart(title=f"{kind}, of the unpruned", margin=margin))
        category = layout_pb2.Category(title="Cost against the budget", chart=charts)
        self._raw(custom_scalar.pb(layout_pb2.Layout(category=[category])))

    def _raw(self, summary: Any) -> None:
        with self._at(0):
            tf.summary.experimental.write_raw_pb(summary.SerializeToString())
