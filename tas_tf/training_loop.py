"""The one loop, under any strategy; plain training and distillation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tas_tf import losses
from tas_tf.cost import Budget
from tas_tf.data import Feed
from tas_tf.errors import ArchitectureError, SpecError
from tas_tf.runtime import Checkpoints, finite

# How often values are read from the device within an epoch: reading waits for the steps so far.
_READ_SECONDS = 1.0


class Loop:
    """Runs `train_step` of a subclass over a feed, under the current strategy.

    A subclass gives `train_step`, and may give `begin_epoch`, `state` and what is shown and logged:
    `readings`, `epoch_logs`, `distributions`, `pictures`. Sums that `train_step` returns are added
    up over replicas, then averaged over the steps of an epoch.
    """

    def __init__(self):
        self.strategy = tf.distribute.get_strategy()
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self.optimizer: keras.optimizers.Optimizer | None = None
        self.learning_rate: Callable[[int], float] | None = None
        # What kind of step is traced; `begin_epoch` may change it.
        self.phase = "train"
        # What costs are shown against.
        self.budgets: Sequence[Budget] = ()

    def train_step(self, batch: Any, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Runs one step on one replica's part of a batch; returns its share of each mean."""
        raise TypeError(f"{type(self).__name__} does not say what a step is")

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Prepares an epoch; epochs count from 0."""

    def readings(self) -> dict[str, float]:
        """Returns what else can be read at any time, in milliseconds."""
        return {}

    def epoch_logs(self) -> dict[str, float]:
        """Returns what else is logged at the end of an epoch."""
        return self.readings()

    def distributions(self) -> dict[str, tuple[Sequence[int], np.ndarray]]:
        """Returns for every choice that is searched its candidates and their probabilities."""
        return {}

    def pictures(self) -> dict[str, Figure]:
        """Returns pictures of how things stand, by name."""
        return {}

    def shape(self) -> dict[str, Any]:
        """Returns what is recorded of a network's shape at the end of an epoch, as JSON data."""
        return {}

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds: name to trackable object."""
        return {"step": self.step}

    def fit(
        self,
        feed: Feed,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        checkpoints: Checkpoints | None = None,
    ) -> list[dict[str, float]]:
        """Trains until `epochs` epochs are done, from the step that the loop stands at.

        Args:
            feed: The batches.
            epochs: Number of epochs in all.
            callbacks: Keras callbacks; they see `on_train_begin/end`, `on_epoch_begin/end` and
                `on_train_batch_end`, which gets means of the epoch so far once a second.
            checkpoints: Where a checkpoint is saved after each epoch.

        Returns:
            The logs of every epoch.

        Raises:
            SpecError: If a loss is not finite at the end of an epoch.
        """
        first, last = int(self.step.numpy()), epochs * feed.steps_per_epoch
        shown = keras.callbacks.CallbackList(list(callbacks), add_history=False)
        batches = iter(self.strategy.experimental_distribute_dataset(feed.batches(first, last)))
        history = []
        shown.on_train_begin()
        try:
            for epoch in range(first // feed.steps_per_epoch, epochs):
                shown.on_epoch_begin(epoch)
                logs = self._epoch(batches, epoch, epochs, feed.steps_per_epoch, shown)
                if not finite(logs.values()):
                    raise SpecError(
                        f"the loss is not finite after epoch {epoch + 1}: "
                        f"{ {name: value for name, value in logs.items() if 'loss' in name} }; "
                        "lower LEARNING_RATE. The last checkpoint is from before that epoch"
                    )
                history.append(logs)
                shown.on_epoch_end(epoch, logs)
                if checkpoints is not None:
                    checkpoints.save(int(self.step.numpy()))
        finally:
            shown.on_train_end()
        return history

    def _epoch(self, batches, epoch, epochs, steps, shown) -> dict[str, float]:
        self.begin_epoch(epoch, epochs)
        totals: dict[str, tf.Tensor] = {}
        start = read = time.perf_counter()
        offset = int(self.step.numpy()) % steps
        for index in range(offset, steps):
            step = epoch * steps + index
            if self.learning_rate is not None:
                self.optimizer.learning_rate.assign(self.learning_rate(step))
            with tf.profiler.experimental.Trace("step", step_num=step, _r=1):
                batch = next(batches)
                values = self._distributed_step(batch, tf.constant(step, tf.int64), self.phase)
            # Added up on the device: no step waits for the host.
            totals = {name: totals[name] + v if totals else v for name, v in values.items()}
            logs = None
            if time.perf_counter() >= read + _READ_SECONDS:
                logs = {**_means(totals, index + 1 - offset), **self.readings()}
                read = time.perf_counter()
            shown.on_train_batch_end(index, logs)
        count = steps - offset
        logs = _means(totals, count)
        logs["seconds_per_step"] = (time.perf_counter() - start) / count
        self.step.assign((epoch + 1) * steps)
        return {**logs, **self.epoch_logs()}

    # Nothing in a step branches on tensors: autograph would only make tracing slower.
    @tf.function(autograph=False)
    def _distributed_step(self, batch, step, phase):
        del phase  # only so that another phase is traced anew
        values = self.strategy.run(self.train_step, args=(batch, step))
        return {
            name: self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in values.items()
        }


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
        optimizer.build(self.model.trainable_variables)

    def train_step(self, batch, step):
        """One step of gradient descent; returns shares of loss and accuracy."""
        images, labels = batch
        share = batch_share(labels)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            variables = self.model.trainable_variables
            tape.watch([variable.value for variable in variables])
            logits = self.model(images, training=True)
            loss = tf.reduce_sum(self._losses(images, labels, logits)) * share
        apply_gradients(tape, loss, self.optimizer, variables)
        return {"loss": loss, "accuracy": correct(labels, logits) * share}

    def _losses(self, images, labels, logits):
        if self.teacher is None:
            return losses.cross_entropy(labels, logits)
        with tf.name_scope("teacher"):
            teacher_logits = tf.stop_gradient(self.teacher(images, training=False))
        return losses.distillation(labels, logits, teacher_logits, self.alpha, self.temperature)

    def readings(self):
        """Returns the learning rate."""
        return {"learning_rate": float(self.optimizer.learning_rate.numpy())}

    def epoch_logs(self):
        """Returns it, and accuracy on the held-out part."""
        logs = self.readings()
        if self.holdout is not None:
            logs["holdout_accuracy"] = evaluate(self.model, self.holdout())["accuracy"]
        return logs

    def state(self):
        """Returns what a checkpoint holds."""
        return {**super().state(), "model": self.model, "optimizer": self.optimizer}


def _means(totals: dict[str, tf.Tensor], count: int) -> dict[str, float]:
    """Reads sums over `count` steps from the device, as means."""
    return {name: float(value.numpy()) / count for name, value in totals.items()}


def batch_share(labels: tf.Tensor) -> tf.Tensor:
    """Returns 1 / (size of the batch over all replicas), the weight of an example in a mean."""
    count = tf.cast(tf.size(labels), tf.float32)
    context = tf.distribute.get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        count = context.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return 1 / count


def correct(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns how many examples are classified rightly, float32."""
    hits = tf.equal(tf.argmax(logits, axis=-1, output_type=labels.dtype), labels)
    return tf.reduce_sum(tf.cast(hits, tf.float32))


def apply_gradients(
    tape: tf.GradientTape,
    loss: tf.Tensor,
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
) -> None:
    """Applies the gradients of a loss; what has none gets zero, so that decay still acts on it."""
    values = [variable.value for variable in variables]
    gradients = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # Gathered rows come as IndexedSlices, whose other rows the optimizer would leave alone.
    optimizer.apply([tf.convert_to_tensor(gradient) for gradient in gradients], list(variables))


def evaluate(model: Callable[..., tf.Tensor], dataset: tf.data.Dataset) -> dict[str, float]:
    """Returns cross-entropy and accuracy of a model in inference mode, over all examples.

    Args:
        model: From images to logits, called with `training=False`.
        dataset: Batches (images, labels).
    """

    @tf.function(reduce_retracing=True)
    def sums(images, labels):
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
