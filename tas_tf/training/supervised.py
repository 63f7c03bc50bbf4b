"""Training of a network on labels, or with distillation from a teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tas_tf.errors import ArchitectureError
from tas_tf.training import losses
from tas_tf.training.loop import (
    Batch,
    Loop,
    batch_share,
    correct,
    faults_after,
    gradients_of,
    values_of,
)


class Training(Loop):
    """Training of a network on labels, or with distillation from a teacher (docs/method.md 9).

    Args:
        model: The network, from images (batch, height, width, channels) to logits.
        teacher: The network that it learns from, of the same input and classes; None for none.
        alpha: Weight of the teacher.
        temperature: Temperature of the distillation.
        holdout: Makes a dataset of (images, labels) that accuracy is shown on after each epoch.

    Raises:
        ArchitectureError: If the teacher's input or classes are others.
    """

    # What errors call a step.
    title = "training"

    def __init__(
        self,
        model: keras.Model,
        teacher: keras.Model | None = None,
        alpha: float = 0.9,
        temperature: float = 4.0,
        holdout: Callable[[], tf.data.Dataset] | None = None,
    ):
        super().__init__()
        if teacher is not None:
            check_fits(teacher, model.input_shape[1:], model.output_shape[-1], "teacher")
            teacher.trainable = False
        self.model = model
        self.teacher = teacher
        self.alpha = alpha
        self.temperature = temperature
        self.holdout = holdout

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        learning_rate: Callable[[int], float] | None = None,
    ) -> None:
        """Sets the optimizer of the network's weights, and its learning rate by step."""
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        optimizer.build(self.moved)

    @property
    def moved(self) -> list[keras.Variable]:
        """The variables that a step moves."""
        return self.model.trainable_variables

    def train_step(self, batch: Batch, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step of gradient descent; returns shares of loss and accuracy."""
        images, labels = batch
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            variables = self.moved
            tape.watch(values_of(variables))
            logits = self.model(images, training=True)
            share = batch_share(logits)
            loss = tf.reduce_sum(self._losses(images, labels, logits)) * share
        gradients = gradients_of(tape, loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        faults = faults_after(loss, variables, self.title)
        return {"loss": loss, "accuracy": correct(labels, logits) * share, **faults}

    def _losses(self, images: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if self.teacher is None:
            return losses.cross_entropy(labels, logits)
        with tf.name_scope("teacher"):
            teacher_logits = tf.stop_gradient(self.teacher(images, training=False))
        return losses.distillation(labels, logits, teacher_logits, self.alpha, self.temperature)

    def readings(self) -> dict[str, float]:
        """Returns the learning rate."""
        return {"learning_rate": float(self.optimizer.learning_rate.numpy())}

    def epoch_logs(self) -> dict[str, float]:
        """Returns it, and accuracy on the held-out part."""
        logs = self.readings()
        if self.holdout is not None:
            logs["holdout_accuracy"] = evaluate(self.model, self.holdout())["accuracy"]
        return logs

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds."""
        return {**super().state(), "model": self.model, "optimizer": self.optimizer}


def evaluate(model: Callable[..., tf.Tensor], dataset: tf.data.Dataset) -> dict[str, float]:
    """Returns cross-entropy and accuracy of a model in inference mode, over all examples.

    Args:
        model: From images to logits, called with `training=False`.
        dataset: Batches (images, labels).
    """

    @tf.function(reduce_retracing=True)
    def sums(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        logits = model(images, training=False)
        return (
            tf.reduce_sum(losses.cross_entropy(labels, logits)),
            correct(labels, logits),
            tf.size(labels),
        )

    totals = [0.0, 0.0, 0]
    for images, labels in dataset:
        totals = [a + b.numpy() for a, b in zip(totals, sums(images, labels), strict=True)]
    loss, hits, count = totals
    return {"loss": float(loss / count), "accuracy": float(hits / count), "images": int(count)}


def check_fits(model: keras.Model, input_shape: Sequence[int], num_classes: int, role: str) -> None:
    """Refuses a model of another input or another number of classes.

    Args:
        model: The model.
        input_shape: (height, width, channels) that it must take.
        num_classes: Classes that it must give.
        role: What errors call it.

    Raises:
        ArchitectureError: With what was received.
    """
    shape, classes = tuple(model.input_shape[1:]), model.output_shape[-1]
    if shape != tuple(input_shape) or classes != num_classes:
        raise ArchitectureError(
            f"{role}: expected a network of input {tuple(input_shape)} and {num_classes} classes. "
            f"Received: input {shape} and {classes} classes"
        )
