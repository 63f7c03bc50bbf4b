"""Parts that experiments share: checks before a run, the fit with its checkpoints, records."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import keras

from tas_tf.config import gin_config, recorded
from tas_tf.data.batches import Feed
from tas_tf.data.image_data import DataInfo, ImageData
from tas_tf.errors import (
    EXIT_DONE,
    EXIT_OUTSIDE_BAND,
    DivergenceError,
    SpecError,
)
from tas_tf.experiments import messages, provenance
from tas_tf.experiments.live_pictures import LivePictures
from tas_tf.experiments.step_profile import Profile
from tas_tf.models import network_files
from tas_tf.models.derived import without_softmax
from tas_tf.runtime import cluster, devices, files, run_directory
from tas_tf.runtime.checkpoints import CheckpointInterval, Checkpoints
from tas_tf.runtime.lock import check_free, locked
from tas_tf.runtime.metrics import Metrics
from tas_tf.runtime.run_directory import RESULT, RunDirectory
from tas_tf.spaces import cost
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.latency_table import LatencyTable, kinds
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.architecture_search import ARCHITECTURE_HALF, ArchitectureSearch
from tas_tf.training.callbacks import MetricsLog
from tas_tf.training.event_files import EventFiles
from tas_tf.training.loop import Loop
from tas_tf.training.progress import Progress
from tas_tf.training.supervised import check_fits

Network = TypeVar("Network", Architecture, ModelArchitecture)

# Least and largest value of experiments' settings.
_RANGES = {
    "epochs": (1, math.inf),
    "batch_size": (1, math.inf),
    "batches": (1, math.inf),
    "seed": (0, 2**31 - 1),
    "tolerance": (0, 1),
    "cost_weight": (0, math.inf),
    "temperature": (1e-3, math.inf),
    "weight_warmup_epochs": (0, math.inf),
    "warmup_epochs": (0, math.inf),
    "distillation_alpha": (0, 1),
    "distillation_temperature": (1e-3, math.inf),
    "qat_epochs": (1, math.inf),
}


def check_ranges(experiment: str, **values: float) -> None:
    """Refuses values of an experiment's settings that make no sense.

    Args:
        experiment: Its name in specs.
        values: The values of its settings.

    Raises:
        SpecError: If a value is too small or too large.
    """
    for name, value in values.items():
        least, largest = _RANGES[name]
        if not least <= value <= largest:
            wanted = f"at least {least}" if largest == math.inf else f"{least} to {largest}"
            parameter = gin_config.described(f"{experiment}.{name}")
            raise SpecError(f"{parameter}: expected {wanted}. Received: {value}")


def begin(
    experiment: str,
    run_dir: str,
    data: ImageData,
    parts: int = 1,
    least_batches: int = 1,
    **values: float,
) -> tuple[RunDirectory, str, DataInfo]:
    """Checks what an experiment is asked for, before anything is read or written.

    Args:
        experiment: Its name in specs.
        run_dir: The run directory.
        data: The images.
        parts: Parts of the training set that batches are drawn from.
        least_batches: Batches that each part must hold at least.
        values: Settings whose range is checked; `batch_size` among them.

    Returns:
        The run directory, the resolved configuration, and what is known of the images.
    """
    check_ranges(experiment, **values)
    config = gin_config.resolved()
    directory = RunDirectory(run_dir)
    directory.check(config)
    check_free(directory)
    info = data.describe()
    provenance.check_images(directory, info.identity)
    _check_batch(experiment, int(values["batch_size"]), info, parts, least_batches)
    return directory, config, info


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Keras layers that are made inside compute in this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def load_network(
    path: str | None, role: str, info: DataInfo, precision: str = "float32"
) -> keras.Model | None:
    """Loads a trained network that must fit the images; None where no path is given.

    Args:
        path: Its run directory, or a Keras file.
        role: What errors call it.
        info: What is known of the images.
        precision: What it computes in; its logits are float32.
    """
    if path is None:
        return None
    model = without_softmax(network_files.load_model(path, role))
    provenance.check_network(path, role, info.identity)
    check_fits(model, info.input_shape, info.num_classes, role)
    if precision != "float32":
        for layer in model.layers[:-1]:
            layer.dtype_policy = keras.DTypePolicy(precision)
    return model


def _check_batch(
    experiment: str, batch_size: int, info: DataInfo, parts: int, batches: int
) -> None:
    """Refuses a batch too large for what it is drawn from, the training set or each half of it."""
    if info.train_images is not None and batch_size > info.train_images // parts // batches:
        parameter = gin_config.described(f"{experiment}.batch_size")
        raise SpecError(
            f"{parameter}: expected at most {info.train_images // parts // batches}, "
            f"{'half of ' if batches == 2 else ''}the images in "
            f"{'each half of ' if parts == 2 else ''}the training set. Received: {batch_size}"
        )


@contextlib.contextmanager
def opened(
    directory: RunDirectory, config: str | None, data: ImageData | None = None
) -> Iterator[None]:
    """Holds the run directory as long as the context lasts, and makes it if there is none.

    Args:
        directory: The run directory.
        config: The resolved configuration to record; None records none.
        data: The images, whose record and the machine's are written too.

    Raises:
        DataError: If an image cannot be read while the context lasts.
        RunDirectoryError: If another process uses it, or it cannot be written.
    """
    directory.check(config)
    directory.make()
    with locked(directory):
        directory.open(config)
        if data is None:
            yield
            return
        provenance.record_images(directory, data)
        directory.write_json("machine.json", devices.describe_machine())
        messages.say_skipped(data.skipped())
        with data.explained():
            yield


def peak(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate that the spec gives: the peak of its schedule."""
    rate = float(optimizer.learning_rate.numpy())
    if not 0 < rate < math.inf:
        parameter = gin_config.described(f"{type(optimizer).__name__}.learning_rate")
        raise SpecError(f"{parameter}: expected a number above 0. Received: {rate}")
    return rate


def fit(
    loop: Loop,
    feed: Feed,
    *,
    title: str,
    epochs: int,
    directory: RunDirectory,
    interval: CheckpointInterval | None = None,
    profile_steps: tuple[int, int] | None = None,
) -> float:
    """Trains from the last checkpoint on; returns the seconds that it took in all.

    Args:
        loop: What is trained.
        feed: Its batches.
        title: What the display calls it.
        epochs: Epochs in all.
        directory: The run directory, which gets checkpoints, metrics and events.
        interval: How often a checkpoint is saved within an epoch.
        profile_steps: First and last step of a profile for TensorBoard.

    Raises:
        SpecError: If a loss or a weight is not finite, with what to lower.
    """
    checkpoints = Checkpoints(directory, interval, **loop.state())
    restored = checkpoints.restore()
    for refused in checkpoints.refused:
        print(refused)
    step = int(loop.step.numpy())
    if restored:
        print(f"Goes on from the checkpoint of step {step}")
    metrics = Metrics(directory, step)
    with EventFiles(directory) as events:
        callbacks = [
            Progress(title, epochs, feed.steps_per_epoch, step, loop.budgets),
            *_logs(loop, feed.steps_per_epoch, epochs, metrics, events),
        ]
        if profile_steps is not None:
            callbacks.append(Profile(directory, *profile_steps))
        config = files.read_text(directory.file(run_directory.CONFIG))
        events.text("spec", config)
        events.settings(recorded.settings(config))
        events.cost_charts(loop.budgets)
        try:
            loop.fit(feed, epochs=epochs, callbacks=callbacks, checkpoints=checkpoints)
        except DivergenceError as error:
            raise SpecError(_advice(title, error, loop, checkpoints)) from None
    return metrics.elapsed_seconds()


def _logs(
    loop: Loop, steps: int, epochs: int, metrics: Metrics, events: EventFiles
) -> list[keras.callbacks.Callback]:
    """Returns what logs metrics and, of a search, pictures."""
    so_far = loop.epoch_so_far
    log = MetricsLog(
        metrics,
        events,
        steps_per_epoch=steps,
        budgets=loop.budgets,
        shape=loop.shape,
        earlier=(so_far.seconds, so_far.device_seconds),
    )
    if isinstance(loop, ArchitectureSearch):
        return [log, LivePictures(loop, events, epochs, steps)]
    return [log]


def record_end(
    directory: RunDirectory,
    step: int,
    architecture: Architecture | ModelArchitecture,
    **results: float,
) -> None:
    """Records in the event files what a run came to: its network, and numbers to compare by."""
    with EventFiles(directory) as events:
        events.text("architecture_json", architecture.to_json(), "json")
        events.scalars(results, step)
        events.done()


def _advice(title: str, error: DivergenceError, loop: Loop, checkpoints: Checkpoints) -> str:
    """Says what to lower where a loss or a weight was not finite."""
    optimizer, besides = loop.optimizer, ""
    if isinstance(loop, ArchitectureSearch) and error.half == ARCHITECTURE_HALF:
        optimizer, besides = loop.arch_optimizer, " or run_search.cost_weight"
    lower = gin_config.described(f"{type(optimizer).__name__}.learning_rate") + besides
    kept = "No checkpoint was saved before."
    if checkpoints.saved is not None:
        kept = f"The last checkpoint, of step {checkpoints.saved}, is from before, and is kept."
    return (
        f"{title}: {error}. Lower {lower}, and start it in another --run_dir: in this one it would "
        f"come to the same. {kept}"
    )


def with_cost(
    architecture: Network, provenance: Any, latency: LatencyTable | None = None
) -> Network:
    """Returns the architecture with its costs, and with what is known of its origin."""
    costs = cost.costs(architecture, kinds(latency))
    return architecture.replace(cost=costs, provenance=provenance)


def with_origin(
    architecture: Network,
    space: SearchSpace | ModelSpace,
    derivation: dict[str, Any],
    latency: LatencyTable | None,
) -> Network:
    """Returns a derived architecture with its costs, and with what it was derived from and how."""
    origin: dict[str, Any] = {"derivation": derivation}
    if not isinstance(space, ModelSpace):
        origin["dense_blocks_per_stage"] = [*cast(SearchSpace, space).blocks_per_stage]
    return with_cost(architecture, origin, latency)


def say_done(directory: RunDirectory) -> int:
    result = directory.read_json(RESULT)
    print(f"Already done: {directory.path}")
    in_band = result.get("derivation", {}).get("in_band", True)
    return EXIT_DONE if in_band else EXIT_OUTSIDE_BAND


def call(name: str, run_dir: str | None = None, **arguments: Any) -> int:
    """Runs an experiment as gin configures it.

    What gin makes for a search or a training, such as optimizers, is placed on all devices and
    workers.

    Args:
        name: The experiment's name in specs.
        run_dir: The run directory, the same for all workers; None where there is none.
        arguments: What the command gives, such as `dry_run`.

    Returns:
        The exit code.
    """
    with contextlib.ExitStack() as held:
        if name in ("run_search", "run_training"):
            held.enter_context(devices.choose_strategy().scope())
        if run_dir is not None:
            # The parts of a pipeline come here, each with its own.
            own = name != "run_pipeline"
            arguments["run_dir"] = (
                held.enter_context(cluster.own_directory(run_dir)) if own else run_dir
            )
        return gin_config.call(name, **arguments).run()
