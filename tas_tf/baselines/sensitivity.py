"""Sensitivity: what the loss of the trained network becomes if one width or one depth is cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from tas_tf.baselines.gated import Gates, branch_gates, open_gates, unit_gates
from tas_tf.baselines.values import Values, of_rows
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import losses
from tas_tf.training.loop import Batch
from tas_tf.training.progress import Progress

Losses = dict[str, float]
Case = TypeVar("Case")

WHOLE = "whole"  # the name of the measurement with nothing cut


def measure(
    model: keras.Model,
    space: SearchSpace,
    batches: Sequence[Batch],
    known: Losses,
    record: Callable[[Losses], None],
) -> Losses:
    """Measures the loss with every candidate in turn, all other widths and depths whole.

    Batch normalization uses the batch's statistics, as those of the trained network are none of a
    narrower one.

    Args:
        model: The gated network, the most important channels first.
        space: The search space.
        batches: Batches (images, labels), images (batch, height, width, channels), normalized.
        known: What has been measured already.
        record: Takes all that has been measured, after every measurement.

    Returns:
        The mean loss of every candidate, by names that `values` reads.
    """
    whole, mean_loss = open_gates(model), loss_of(model, batches)
    cases = {name: {**whole, **gates} for name, gates in _cases(space).items()}
    return measured_losses(cases, mean_loss, known, record)


def measured_losses(
    cases: Mapping[str, Case],
    mean_loss: Callable[[Case], float],
    known: Losses,
    record: Callable[[Losses], None],
) -> Losses:
    """Measures the losses of cases, in turn.

    Args:
        cases: What is measured, by name.
        mean_loss: The loss of a case.
        known: What has been measured already.
        record: Takes all that has been measured, after every measurement.

    Returns:
        The losses by name.
    """
    left = [name for name in cases if name not in known]
    measured = dict(known)
    progress = Progress("sensitivity", 1, len(cases), len(cases) - len(left))
    progress.on_train_begin()
    try:
        for name in left:
            measured[name] = mean_loss(cases[name])
            record(measured)
            progress.on_train_batch_end(len(measured) - 1, {"loss": measured[name]})
    finally:
        progress.on_train_end()
    return measured


def values(space: SearchSpace | ModelSpace, measured: Losses) -> Values:
    """Values by measured losses: the value of a candidate is minus the increase of the loss.

    One evaluation for each layer and candidate is the idea of FastNAS (NVIDIA Model Optimizer);
    the derivation within the budget is ours, and exact.

    Args:
        space: The search space.
        measured: What `measure` returned.
    """
    rows = [
        np.array([measured[WHOLE] - measured[name] for name in names(part, candidates)])
        for part, candidates in candidates_by_name(space).items()
    ]
    return of_rows(rows[: len(space.choices)], rows[len(space.choices) :])


def loss_of(model: keras.Model, batches: Sequence[Batch]) -> Callable[[Gates], float]:
    """Returns the mean cross-entropy as a function of gates, with each batch's own statistics.

    Args:
        model: The gated network.
        batches: Batches (images, labels).
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def summed(gates: Gates, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        logits = model([images, gates], training=True)
        return tf.reduce_sum(losses.cross_entropy(labels, logits))

    return mean_over(batches, summed)


def mean_over(
    batches: Sequence[Batch], summed: Callable[[Any, tf.Tensor, tf.Tensor], tf.Tensor]
) -> Callable[[Any], float]:
    """Returns a mean loss over all images as a function of a case.

    Args:
        batches: Batches (images, labels), images (batch, height, width, channels).
        summed: From a case and a batch to the sum of its losses.
    """
    count = sum(len(labels) for _, labels in batches)
    return lambda case: sum(float(summed(case, *batch).numpy()) for batch in batches) / count


def candidates_by_name(space: SearchSpace | ModelSpace) -> dict[str, tuple[int, ...]]:
    """Returns the candidates of every choice and every stage or branch by its name."""
    rows = {choice.name: choice.candidates for choice in space.choices}
    return rows | dict(zip(space.depth_names, space.depths, strict=True))


def names(part: str, candidates: Sequence[int]) -> list[str]:
    """Returns the names of measurements; the last candidate is the whole network."""
    return [*(f"{part}: {candidate}" for candidate in candidates[:-1]), WHOLE]


def _cases(space: SearchSpace) -> dict[str, Gates]:
    """Returns for every measurement the gates that are not all open."""
    cases: dict[str, Gates] = {WHOLE: {}}
    units = list(zip(unit_gates(space).values(), space.unit_choices, strict=True))
    for index, choice in enumerate(space.choices):
        gates = [gate for gate, of_choice in units if of_choice == index]
        for name, width in zip(
            names(choice.name, choice.candidates), choice.candidates[:-1], strict=False
        ):
            mask = tf.constant(np.arange(choice.candidates[-1]) < width, tf.float32)
            cases[name] = dict.fromkeys(gates, mask)
    stages = zip(space.depth_names, space.depths, branch_gates(space), strict=True)
    for s, (stage, depths, gates) in enumerate(stages):
        channels = space.unpruned().stages[s][0][-1]
        for name, depth in zip(names(stage, depths), depths[:-1], strict=False):
            cases[name] = dict.fromkeys(gates[depth:], tf.zeros(channels))
    return cases
