"""Objectives: the loss that a network is trained by, and what is shown beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tas_tf.errors import SpecError
from tas_tf.training import losses
from tas_tf.training.loop import correct

# From what is wanted and what a network gives, both with the batch as the first axis, to a number
# for every example, or to several.
Measure = Callable[[Any, Any], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a network is trained for.

    Args:
        losses: The losses (batch,) of examples.
        metrics: For every name the sum over a batch of what is shown.
    """

    losses: Measure
    metrics: Mapping[str, Measure]

    def sum_of_losses(self, wanted: Any, given: tf.Tensor, weights: Sequence[Any]) -> tf.Tensor:
        """Returns the sum of the losses of a batch.

        Args:
            wanted: Labels (batch,), or what else the losses take.
            given: What the network gives.
            weights: Nothing, or weights (batch,) of the examples.
        """
        values = self.losses(wanted, given)
        for weight in weights:
            values *= tf.cast(weight, values.dtype)
        return tf.reduce_sum(values)

    def shown(self, wanted: Any, given: tf.Tensor, share: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns a batch's share of every metric, by its name."""
        return {name: measure(wanted, given) * share for name, measure in self.metrics.items()}


CLASSIFICATION = Objective(losses.cross_entropy, {"accuracy": correct})


def objective_of(loss: Any = None, metrics: Sequence[Any] = ()) -> Objective:
    """Returns the objective of a loss and metrics as Keras has them.

    Args:
        loss: A `keras.losses.Loss`, a function or its name. None means the cross-entropy of logits
            (batch, classes) with labels (batch,). Of a model of several outputs a list or a
            dictionary with one for each, which are added up.
        metrics: Functions of what is wanted and what is given, such as
            `keras.metrics.sparse_categorical_accuracy`, or their names; of several outputs a list
            or a dictionary with those of each.

    Raises:
        SpecError: If there is no such loss or metric.
    """
    if isinstance(loss, (list, tuple, dict)):
        return _of_outputs(dict(items_of(loss)), metrics)
    shown = {_name(metric): _summed(_metric(metric)) for metric in metrics}
    if loss is None:
        return dataclasses.replace(CLASSIFICATION, metrics={**CLASSIFICATION.metrics, **shown})
    try:
        found = keras.losses.get(loss)
    except ValueError:
        raise SpecError(f"loss: expected a loss of Keras. Received: {loss!r}") from None
    measure = found.call if isinstance(found, keras.losses.Loss) else found
    return Objective(lambda wanted, given: _of_examples(measure(wanted, given)), shown)


def items_of(values: Any) -> Iterable[tuple[Any, Any]]:
    """Returns the keys and values of a dictionary, or the places and values of a sequence."""
    return values.items() if isinstance(values, Mapping) else enumerate(values)


def _of_outputs(loss: Mapping[Any, Any], metrics: Any) -> Objective:
    """Returns the objective of several outputs: the sum of their losses, and all metrics."""
    of_metrics = dict(items_of(metrics))
    unknown = [*(of_metrics.keys() - loss.keys()), *(key for key in loss if loss[key] is None)]
    if unknown:
        raise SpecError(
            f"loss: expected one for each output, and metrics of these alone. Received: losses of "
            f"{[*loss]}, metrics of {[*of_metrics]}"
        )
    parts = {key: objective_of(loss[key], of_metrics.get(key, ())) for key in loss}

    def summed(wanted: Any, given: Any) -> tf.Tensor:
        return tf.add_n([part.losses(wanted[key], given[key]) for key, part in parts.items()])

    shown = {
        f"{key if isinstance(key, str) else f'output_{key + 1}'}_{name}": _at(key, measure)
        for key, part in parts.items()
        for name, measure in part.metrics.items()
    }
    return Objective(summed, shown)


def _at(key: Any, measure: Measure) -> Measure:
    return lambda wanted, given: measure(wanted[key], given[key])


def _metric(metric: Any) -> Measure:
    name = "sparse_categorical_accuracy" if metric == "accuracy" else metric
    found = getattr(keras.metrics, name, None) if isinstance(name, str) else name
    if not callable(found) or isinstance(found, (type, keras.metrics.Metric)):
        raise SpecError(
            "metrics: expected functions, such as keras.metrics.sparse_categorical_accuracy, or "
            f"their names. Received: {metric!r}"
        )
    return found


def _name(metric: Any) -> str:
    return metric if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))


def _summed(measure: Measure) -> Measure:
    return lambda wanted, given: tf.reduce_sum(
        tf.cast(_of_examples(measure(wanted, given)), given.dtype)
    )


def _of_examples(values: tf.Tensor) -> tf.Tensor:
    """Returns one number for every example: the mean of several."""
    values = tf.convert_to_tensor(values)
    axes = list(range(1, len(values.shape)))
    return tf.reduce_mean(values, axes) if axes else values
