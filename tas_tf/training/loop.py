"""The training loop, under any strategy."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tas_tf.data.batches import Feed
from tas_tf.errors import DivergenceError, EndOfDataError
from tas_tf.runtime import cluster
from tas_tf.runtime.checkpoints import Checkpoints
from tas_tf.runtime.metrics import Stopwatch, device_clock
from tas_tf.runtime.signals import Interruption
from tas_tf.spaces.cost import Budget

# After so many steps the host looks whether all were finite; only then it waits for the device.
FINITE_STEPS = 100
_NEVER = tf.int64.max
# How a part of a step is called among what `train_step` returns, where it says if all was finite.
_FAULTS = "faults of "

Batch = tuple[tf.Tensor, tf.Tensor]  # images and labels


class EpochSoFar(tf.train.experimental.PythonState):
    """What an epoch has summed up before the step that a checkpoint is of.

    Attributes:
        totals: Sums of what `train_step` returns, by name: tensors, or numbers after a restart.
        seconds: Seconds that its steps took before this process.
        device_seconds: Seconds of device time that they took, see `metrics.device_clock`.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self, seconds: float = 0.0, device_seconds: float = 0.0) -> None:
        """Begins an epoch, or goes on with one."""
        self.totals: dict[str, tf.Tensor | float] = {}
        self.seconds, self.device_seconds = seconds, device_seconds
        self._clocks = Stopwatch(seconds), Stopwatch(device_seconds, device_clock())

    def add(self, values: dict[str, tf.Tensor]) -> None:
        """Adds a step; sums stay on the device, and no step waits for the host."""
        before = self.totals
        self.totals = {name: before[name] + v if before else v for name, v in values.items()}

    def means(self, steps: int) -> dict[str, float]:
        """Returns the means over so many steps; it waits for the device."""
        return {name: float(total) / steps for name, total in self.totals.items()}

    def elapsed(self) -> tuple[float, float]:
        """Returns seconds and device time of the epoch, those before a restart included."""
        wall, device = self._clocks
        return wall.seconds(), device.seconds()

    def serialize(self) -> str:
        """Returns it as text; a float32 passes through Python's float unchanged."""
        totals = {name: float(value) for name, value in self.totals.items()}
        return json.dumps({"totals": totals, "seconds": self.elapsed()})

    def deserialize(self, value: bytes) -> None:
        """Takes it from text."""
        read = json.loads(value)
        self.reset(*read["seconds"])
        self.totals = read["totals"]


# How often values are read from the device within an epoch: reading waits for the steps so far.
READ_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class _Fit:
    """What all epochs of a fit share.

    Args:
        batches: The batches, from the first step on.
        epochs: Number of epochs in all.
        steps: Steps of an epoch.
        shown: The callbacks.
        saved: Where checkpoints are saved; None saves none.
    """

    batches: Iterator[Any]
    epochs: int
    steps: int
    shown: keras.callbacks.CallbackList
    saved: Checkpoints | None


class Loop:
    """Runs `train_step` of a subclass over a feed, under the current strategy.

    A subclass gives `train_step`, and may give `begin_epoch`, `state` and what is shown and logged:
    `readings`, `epoch_logs`, `shape`. Sums that `train_step` returns are added up over replicas,
    then averaged over the steps of an epoch.
    """

    def __init__(self) -> None:
        self.strategy = tf.distribute.get_strategy()
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self.optimizer: keras.optimizers.Optimizer  # a subclass's `compile` sets it
        self.learning_rate: Callable[[int], float] | None = None
        # What kind of step is traced; `begin_epoch` may change it.
        self.phase = "train"
        # What costs are shown against.
        self.budgets: Sequence[Budget] = ()
        self.epoch_so_far = EpochSoFar()
        # First step of each half whose loss or variables were not finite, on the device.
        self._first_faults: dict[str, tf.Tensor] = {}
        self._interruption = Interruption()

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

    def shape(self) -> dict[str, Any]:
        """Returns what is recorded of a network's shape at the end of an epoch, as JSON data."""
        return {}

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds: name to trackable object."""
        return {"step": self.step, "epoch_so_far": self.epoch_so_far}

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
            checkpoints: Where a checkpoint is saved at the end, and wherever else one is due. With
                them, SIGINT and SIGTERM save one and end the run.

        Returns:
            The logs of every epoch; one that was begun by another process is logged as a whole.

        Raises:
            DivergenceError: If a loss, or a variable after a step, is not finite.
            EndOfDataError: If the feed ends early.
            Interrupted: At SIGINT or SIGTERM, after a checkpoint.
            WorkerLostError: If another worker has ended, or does not answer.
        """
        steps = feed.steps_per_epoch
        first, last = int(self.step.numpy()), epochs * steps
        shown = keras.callbacks.CallbackList(list(callbacks), add_history=False)
        batches = iter(feed.distributed(first, last, self.strategy))
        fit = _Fit(batches=batches, epochs=epochs, steps=steps, shown=shown, saved=checkpoints)
        self._interruption, self._first_faults = Interruption(), {}
        if checkpoints is not None and checkpoints.saved is not None:
            self._interruption.saved = f"the checkpoint of step {checkpoints.saved}"
        history = []
        shown.on_train_begin()
        try:
            caught = self._interruption if checkpoints is not None else contextlib.nullcontext()
            with cluster.naming_the_lost(), caught:
                for epoch in range(first // steps, epochs):
                    shown.on_epoch_begin(epoch)
                    logs = self._epoch(fit, epoch)
                    history.append(logs)
                    shown.on_epoch_end(epoch, logs)
                    self._save_after(fit, epoch + 1)
        finally:
            shown.on_train_end()
        return history

    def _epoch(self, fit: _Fit, epoch: int) -> dict[str, float]:
        """Runs the steps of an epoch that are left; returns its logs."""
        self.begin_epoch(epoch, fit.epochs)
        begun = int(self.step.numpy()) % fit.steps
        if not begun:
            self.epoch_so_far.reset()
        read = time.perf_counter()
        for index in range(begun, fit.steps):
            self._run_step(fit, epoch * fit.steps + index)
            logs = None
            if time.perf_counter() >= read + READ_SECONDS:
                self._check_finite(fit.steps)
                logs = {**self.epoch_so_far.means(index + 1), **self.readings()}
                read = time.perf_counter()
            fit.shown.on_train_batch_end(index, logs)
            self._interruption.unsaved = True
            self._save_where_due(fit, epoch, index + 1)
        self._check_finite(fit.steps)
        logs = self.epoch_so_far.means(fit.steps)
        logs["seconds_per_step"] = self.epoch_so_far.elapsed()[0] / fit.steps
        self.epoch_so_far.reset()
        self.step.assign((epoch + 1) * fit.steps)
        return {**logs, **self.epoch_logs()}

    def _run_step(self, fit: _Fit, step: int) -> None:
        """Runs a step, counted from 0, and adds up what it returns."""
        if self.learning_rate is not None:
            self.optimizer.learning_rate.assign(self.learning_rate(step))
        with tf.profiler.experimental.Trace("step", step_num=step, _r=1):
            batch = _next(fit.batches, step, fit.epochs * fit.steps)
            number = tf.constant(step, tf.int64)
            values, faults = self.distributed_step(batch, number, self.phase)
        self.epoch_so_far.add(values)
        self._note(faults)
        if (step + 1) % FINITE_STEPS == 0:
            self._check_finite(fit.steps)

    def _save_where_due(self, fit: _Fit, epoch: int, steps: int) -> None:
        """Saves a checkpoint within an epoch, of which so many steps are done."""
        if fit.saved is None or steps == fit.steps:
            return
        step = epoch * fit.steps + steps
        if self._interruption.signal or fit.saved.due(step):
            self._check_finite(fit.steps)
            self._save(fit.saved, step)

    def _save_after(self, fit: _Fit, epoch: int) -> None:
        """Saves a checkpoint at the end of an epoch, counted from 1, where one is due."""
        if fit.saved is None:
            return
        if self._interruption.signal or epoch == fit.epochs or fit.saved.due_after(epoch):
            self._save(fit.saved, epoch * fit.steps)

    def _save(self, checkpoints: Checkpoints, step: int) -> None:
        """Saves a checkpoint of this many steps; ends the run if a signal asked for that."""
        self.step.assign(step)
        checkpoints.save(step)
        self._interruption.unsaved = False
        self._interruption.saved = f"the checkpoint of step {step}"
        if self._interruption.signal:
            self._interruption.end(self._interruption.signal)

    def _note(self, faults: dict[str, tf.Tensor]) -> None:
        known = self._first_faults
        for half, step in faults.items():
            known[half] = tf.minimum(known[half], step) if half in known else step

    def _check_finite(self, steps: int) -> None:
        first = {half: int(step) for half, step in self._first_faults.items()}
        half = min(first, key=first.__getitem__, default=None)
        if half is not None and first[half] != _NEVER:
            raise DivergenceError(half, first[half] + 1, first[half] // steps + 1)

    # Nothing in a step branches on tensors: autograph would only make tracing slower.
    @tf.function(autograph=False)
    def distributed_step(
        self, batch: Any, step: tf.Tensor, phase: str
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Runs `train_step` on every replica's part of a batch.

        Args:
            batch: The parts, as `Feed.distributed` gives them.
            step: Number of the step, int64.
            phase: The phase, only so that another one is traced anew.

        Returns:
            The means of what `train_step` returns, by name; and for every half this step if
            something in it is not finite, else the largest int64.
        """
        del phase
        values = self.strategy.run(self.train_step, args=(batch, step))
        sums = {
            name: self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in values.items()
        }
        means = {name: value for name, value in sums.items() if not name.startswith(_FAULTS)}
        faults = {
            name.removeprefix(_FAULTS): tf.where(value > 0, step, _NEVER)
            for name, value in sums.items()
            if name.startswith(_FAULTS)
        }
        return means, faults


def batch_share(given: Any) -> tf.Tensor:
    """Returns 1 / (size of the batch over all replicas), the weight of an example in a mean.

    Args:
        given: Logits (batch, classes), or several outputs.
    """
    logits = tf.nest.flatten(given)[0]
    count = tf.cast(tf.shape(logits)[0], logits.dtype)
    context = tf.distribute.get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        count = context.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return 1 / count


def correct(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns how many examples are classified rightly, in the type of the logits."""
    hits = tf.equal(tf.argmax(logits, axis=-1, output_type=labels.dtype), labels)
    return tf.reduce_sum(tf.cast(hits, logits.dtype))


def values_of(variables: Sequence[keras.Variable | tf.Variable]) -> list[tf.Variable]:
    """Returns the variables that a tape knows: TensorFlow's, behind those of Keras 3."""
    return [v.value if isinstance(v, keras.Variable) else v for v in variables]


def gradients_of(
    tape: tf.GradientTape, loss: tf.Tensor, variables: Sequence[keras.Variable | tf.Variable]
) -> list[tf.Tensor]:
    """Returns the gradients of a loss; what has none gets zero, so that decay still acts on it.

    Args:
        tape: What recorded the loss.
        loss: A scalar.
        variables: The variables.
    """
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(loss, values_of(variables), unconnected_gradients=zero)
    # Gathered rows come as IndexedSlices, whose other rows the optimizer would leave alone.
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


def faults_after(loss: tf.Tensor, moved: Sequence[tf.Tensor], half: str) -> dict[str, tf.Tensor]:
    """Returns an entry for what `train_step` returns, by which the loop knows if all was finite.

    Args:
        loss: A scalar.
        moved: The variables that the step has moved.
        half: What this part of a step is called.
    """
    # A sum is not finite if anything in it is not. What was moved tells of its gradient, too.
    sums = [tf.cast(tf.reduce_sum(part), tf.float32) for part in (loss, *moved)]
    return fault(half, tf.add_n(sums))


def fault(half: str, value: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns whether a scalar is not finite, by a name that tells the loop where that began."""
    return {_FAULTS + half: tf.cast(tf.logical_not(tf.math.is_finite(value)), tf.float32)}


def _next(batches: Iterator[Any], step: int, last: int) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise EndOfDataError(
            f"the data end early: there is no batch for step {step + 1:,} of {last:,}"
        ) from None
