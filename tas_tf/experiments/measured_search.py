"""The measured part of a search: its display, and what it says of its choice."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from tas_tf.experiments import messages
from tas_tf.reports import canvas, measurement_plots, model_plots, shape_plots
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.cost import Budget
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.training import measurement
from tas_tf.training.event_files import EventFiles
from tas_tf.training.measurement import Choice, Measured, Scorer, Show
from tas_tf.training.progress import Progress
from tas_tf.training.scores import Scores


def measure(scorer: Scorer, directory: RunDirectory) -> Measured:
    """Measures paths of a trained supernet, showing how far it is.

    Args:
        scorer: Measures the paths of a search, whose supernet is trained.
        directory: The run directory, which keeps the scores.
    """
    scores, plan = Scores(directory), scorer.plan
    messages.say_measurement(plan)
    with _shown("measurement", plan.paths + plan.near, scores) as show:
        return measurement.measure(scorer, scores, show)


def choose(measured: Measured, budgets: Sequence[Budget], references: dict[str, Any]) -> Choice:
    """Measures the best within budgets and chooses among them, showing how far it is.

    Args:
        measured: The measured paths.
        budgets: The budgets.
        references: Architectures that the choice is compared with, by name.
    """
    total = measured.scorer.plan.finalists + len(references)
    with _shown("finalists", total, measured.scores) as show:
        return measurement.choose(measured, budgets, references, show)


@contextlib.contextmanager
def _shown(title: str, total: int, scores: Scores) -> Iterator[Show]:
    """Shows how far a round of scores is; gives what is told of each."""
    taken, loss = scores.taken, math.nan
    known = min(len(scores.scores) - taken, total - 1)
    display = Progress(title, 1, total, first_step=known)
    display.on_train_begin()

    def show(done: int, measured: bool, of_path: float) -> None:
        nonlocal loss
        loss = of_path
        if measured:
            display.on_train_batch_end(done - taken - 1, {"loss": loss})

    try:
        yield show
        display.on_epoch_end(0, {"loss": loss})
    finally:
        display.on_train_end()


def draw_choice(choice: Choice, directory: RunDirectory, step: int) -> None:
    """Writes the network for TensorBoard, and what its widths and depths are worth.

    Args:
        choice: What was chosen.
        directory: The run directory.
        step: Steps that trained the paths.
    """
    space, model = choice.model.space, choice.model
    if isinstance(space, ModelSpace):
        shape = model_plots.draw_kept(choice.architecture)
    else:
        shape = shape_plots.draw_architecture(choice.architecture, space.unpruned())
    figures = {
        "architecture": shape,
        **measurement_plots.draw_worth(
            space, model.width_terms(), model.depth_terms(), choice.architecture
        ),
    }
    with EventFiles(directory) as events:
        for name, figure in figures.items():
            events.picture(name, canvas.image(figure), step)


def say_choice(choice: Choice, asked: int) -> None:
    """Says how far the chosen architecture leads, and whether that is decided.

    Args:
        choice: What was chosen.
        asked: How many finalists were asked for.
    """
    finalists = sum(score.name is None for score in choice.finalists)
    if finalists < asked:
        print(
            f"Finalists: {finalists}, where {asked} were asked for: models drawn from the fit find "
            "no other network within the budget"
        )
    for name, lead in choice.leads.items():
        decided = "decided" if lead.decided else "not decided"
        print(
            f"Lead over {name}: {lead.value:.4f} of corrected loss "
            f"({lead.loss:.4f} in loss alone), standard error {lead.standard_error:.4f}: {decided}"
        )
