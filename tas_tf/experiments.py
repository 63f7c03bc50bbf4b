"""The root functions that gin binds and commands call, and all registration with gin."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np
import rich.box
import rich.console
import rich.table

from tas_tf import configuration, cost, derivation, exporting, runtime, sampling
from tas_tf.architecture import Architecture
from tas_tf.callbacks import MetricsLog, Progress, duration
from tas_tf.configuration import configurable
from tas_tf.cost import shown
from tas_tf.data import DataInfo, ImageData, paired
from tas_tf.errors import (
    EXIT_DONE,
    EXIT_OUTSIDE_BAND,
    ArchitectureError,
    RunDirectoryError,
    SpecError,
)
from tas_tf.optimizers import SGD, Adam, warm_cosine
from tas_tf.runtime import ARCHITECTURE, RESULT, Checkpoints, Metrics, RunDirectory
from tas_tf.search_loop import ArchitectureSearch
from tas_tf.search_space import SearchSpace
from tas_tf.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.supernet import Supernet
from tas_tf.training_loop import Training, check_fits, evaluate

DATA_RECORD = "data.json"
CHECK_IMAGES = 64

# Least and largest value of what the root functions take.
_RANGES = {
    "epochs": (1, math.inf),
    "batch_size": (1, math.inf),
    "seed": (0, 2**31 - 1),
    "tolerance": (0, 1),
    "cost_weight": (0, math.inf),
    "temperature": (1e-3, math.inf),
    "weight_warmup_epochs": (0, math.inf),
    "warmup_epochs": (0, math.inf),
    "distillation_alpha": (0, 1),
    "distillation_temperature": (1e-3, math.inf),
}


def run_search(
    run_dir: str,
    dry_run: bool,
    data: ImageData,
    space: Callable[..., SearchSpace],
    supernet: Callable[..., Supernet],
    optimizer: keras.optimizers.Optimizer,
    arch_optimizer: keras.optimizers.Optimizer,
    temperature: Callable[[int, int], float],
    target: float | str | Sequence[float | str],
    epochs: int,
    batch_size: int,
    seed: int = 0,
    cost_weight: float = 2.0,
    tolerance: float = 0.05,
    cost_band: Literal["paper", "published"] = "paper",
    weight_warmup_epochs: int = 0,
    start_from: str | None = None,
) -> int:
    """Searches an architecture within a budget; writes `architecture.json`.

    Args:
        run_dir: The run directory.
        dry_run: Whether only to say what would be done.
        data: The images.
        space: Makes the search space from `num_classes` and `input_shape`.
        supernet: Makes the supernet from the space.
        optimizer: Moves the weights; its learning rate falls to 0 by half a cosine.
        arch_optimizer: Moves the logits.
        temperature: Temperature by (epoch, epochs).
        target: Budget or budgets, see `cost.parse_targets`.
        epochs: Epochs of the weight half.
        batch_size: Images of each half in a step.
        seed: Seed of everything.
        cost_weight: Weight lambda of the cost loss.
        tolerance: Relative width of the budget's band.
        cost_band: `paper` or `published`.
        weight_warmup_epochs: Epochs in which only the weights move.
        start_from: Run directory of the trained unpruned network that the supernet starts from.

    Returns:
        The exit code: `EXIT_OUTSIDE_BAND` if no architecture lies in the band.
    """
    _check_ranges(run_search, epochs=epochs, batch_size=batch_size, seed=seed)
    _check_ranges(run_search, tolerance=tolerance, cost_weight=cost_weight)
    _check_ranges(run_search, weight_warmup_epochs=weight_warmup_epochs)
    _check_ranges(run_search, temperature=min(temperature(e, epochs) for e in (0, epochs - 1)))
    peak, _ = _peak(optimizer), _peak(arch_optimizer)
    config = configuration.resolved()
    directory = RunDirectory(run_dir)
    directory.check(config)
    info = data.describe()
    _check_batch(run_search, batch_size, info, parts=2)
    searched = space(num_classes=info.num_classes, input_shape=info.input_shape)
    budgets = cost.parse_targets(target, searched, tolerance)
    derivation.check_reachable(searched, budgets)
    start = exporting.load_model(start_from, "start_from") if start_from else None
    if start is not None:
        check_fits(start, searched.input_shape, searched.num_classes, "start_from")
    _say_what("Search", directory, info, epochs, batch_size)
    _say_space(searched, budgets)
    if directory.exists(RESULT) and not dry_run:
        return _say_done(directory)
    runtime.set_seed(seed)
    strategy = runtime.choose_strategy()
    with strategy.scope():
        net = supernet(searched)
    if dry_run:
        return EXIT_DONE

    data.prepare(seed)
    feed = paired(data, batch_size, seed)
    with strategy.scope():
        if start is not None:
            images, _ = next(iter(data.training(batch_size, seed, "weights").batches(0, 1)))
            net.start_from(start, images)
        search = ArchitectureSearch(net, seed)
        search.compile(
            optimizer,
            arch_optimizer,
            target,
            temperature,
            cost_weight,
            tolerance,
            cost_band,
            weight_warmup_epochs,
            warm_cosine(peak, epochs * feed.steps_per_epoch),
        )
    _open(directory, config, data)
    seconds = _fit("search", search, feed, epochs, directory, histograms=search.distributions)
    return _finish_search(search, directory, seconds)


def _finish_search(search: ArchitectureSearch, directory: RunDirectory, seconds: float) -> int:
    found = search.derive()
    summary = found.summary(search.budgets)
    architecture = _with_cost(found.architecture, {"derivation": summary})
    runtime.write_whole(directory.file(ARCHITECTURE), architecture.to_json())
    entropies = search.entropies()
    directory.write_json(RESULT, {"derivation": summary, **entropies, "seconds": seconds})
    for budget in search.budgets:
        kind = summary["budgets"][budget.kind]
        print(
            f"Derived: {kind['cost']:,} {budget.kind} ({kind['cost'] / budget.unpruned:.1%} of the "
            f"unpruned network's); band {budget}; plain argmax {kind['argmax_cost']:,}"
        )
    for name, value in entropies.items():
        undecided = " (the search has hardly told its candidates apart)" if value > 0.9 else ""
        print(f"Relative {name.replace('_', ' ')} at the end: {value:.2f}{undecided}")
    print(f"Architecture: {directory.file(ARCHITECTURE)}")
    if not found.in_band:
        print("No architecture lies in the band: this is the nearest below.")
    return EXIT_DONE if found.in_band else EXIT_OUTSIDE_BAND


def run_training(
    run_dir: str,
    dry_run: bool,
    data: ImageData,
    space: Callable[..., SearchSpace],
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    batch_size: int,
    warmup_epochs: int = 5,
    architecture: str | None = None,
    teacher: str | None = None,
    distillation_alpha: float = 0.9,
    distillation_temperature: float = 4.0,
    seed: int = 0,
) -> int:
    """Trains a network from scratch, with distillation where there is a teacher.

    Args:
        run_dir: The run directory.
        dry_run: Whether only to say what would be done.
        data: The images.
        space: Makes the search space, whose unpruned network is trained without `architecture`.
        optimizer: Moves the weights; its learning rate rises over the warm-up, then falls to 0.
        epochs: Epochs.
        batch_size: Images in a step.
        warmup_epochs: Epochs of linear warm-up, cut to a third of all where they are few.
        architecture: Path of an architecture file, or of a search's run directory; None trains
            the unpruned network.
        teacher: Run directory of the network to learn from.
        distillation_alpha: Weight of the teacher.
        distillation_temperature: Temperature of the distillation.
        seed: Seed of everything.

    Returns:
        The exit code.
    """
    _check_ranges(run_training, epochs=epochs, batch_size=batch_size, seed=seed)
    _check_ranges(run_training, warmup_epochs=warmup_epochs, distillation_alpha=distillation_alpha)
    _check_ranges(run_training, distillation_temperature=distillation_temperature)
    peak = _peak(optimizer)
    config = configuration.resolved()
    directory = RunDirectory(run_dir)
    directory.check(config)
    info = data.describe()
    _check_batch(run_training, batch_size, info)
    compiled = _architecture_to_train(architecture, space, info)
    guide = exporting.load_model(teacher, "teacher") if teacher else None
    if guide is not None:
        check_fits(guide, info.input_shape, info.num_classes, "teacher")
    _say_what("Training", directory, info, epochs, batch_size)
    _say_network(compiled, teacher)
    if dry_run:
        return EXIT_DONE
    if directory.exists(RESULT):
        return _say_done(directory)

    data.prepare(seed)
    feed = data.training(batch_size, seed)
    runtime.set_seed(seed)
    with runtime.choose_strategy().scope():
        model = build_model(compiled, TRAINING_LAYERS)
        warmup = min(warmup_epochs, epochs // 3) * feed.steps_per_epoch
        schedule = warm_cosine(peak, epochs * feed.steps_per_epoch, warmup)
        holdout = (lambda: data.evaluation("holdout", batch_size)) if data.holdout else None
        training = Training(model, guide, distillation_alpha, distillation_temperature, holdout)
        training.compile(optimizer, schedule)
    _open(directory, config, data)
    runtime.write_whole(directory.file(ARCHITECTURE), compiled.to_json())
    title = "distillation" if guide is not None else "training"
    seconds = _fit(title, training, feed, epochs, directory)
    exporting.save_model(model, compiled, directory)
    # The one time that the test split is read.
    tested = evaluate(model, data.evaluation("test", batch_size))
    directory.write_json(RESULT, {"test": tested, "cost": dict(compiled.cost), "seconds": seconds})
    print(f"Test accuracy: {tested['accuracy']:.2%} of {tested['images']:,} images")
    print(f"Model: {directory.file(runtime.MODEL)}")
    return EXIT_DONE


def _architecture_to_train(
    path: str | None, space: Callable[..., SearchSpace], info: DataInfo
) -> Architecture:
    if path is None:
        searched = space(num_classes=info.num_classes, input_shape=info.input_shape)
        return _with_cost(searched.unpruned(), {"origin": "unpruned"})
    architecture = exporting.load_architecture(path)
    received = (architecture.input_shape, architecture.num_classes)
    if received != (info.input_shape, info.num_classes):
        raise ArchitectureError(
            f"architecture: {path} takes images {received[0]} and gives {received[1]} classes; "
            f"{info.dataset} has images {info.input_shape} and {info.num_classes} classes"
        )
    return _with_cost(architecture, architecture.provenance)


def run_export(run_dir: str, dry_run: bool, data: ImageData, model: str | None = None) -> int:
    """Exports a trained network as a SavedModel with its preprocessing.

    Args:
        run_dir: The run directory that gets `saved_model/`.
        dry_run: Whether only to say what would be done.
        data: The images; some of the training set are what the SavedModel is checked with.
        model: Run directory of the trained network; None takes `run_dir` itself.

    Returns:
        The exit code.
    """
    directory, source = RunDirectory(run_dir), RunDirectory(model or run_dir)
    config = configuration.resolved() if model else None
    directory.check(config)
    if not source.exists(runtime.MODEL):
        raise RunDirectoryError(f"{source.path} holds no trained network ({runtime.MODEL})")
    record = source.read_json(DATA_RECORD, ("seed", "mean", "deviation"))
    network = exporting.load_model(source.path)
    info = data.describe()
    check_fits(network, info.input_shape, info.num_classes, "model")
    path = directory.file("saved_model")
    print(f"Export: {source.path} as a SavedModel to {path}")
    if dry_run:
        return EXIT_DONE
    if config is not None and directory.exists(RESULT) and directory.exists("saved_model"):
        return _say_done(directory)
    data.prepare(record["seed"])
    images, _ = next(iter(data.evaluation("train", CHECK_IMAGES)))
    pixels = images.numpy() * np.array(data.deviation) + np.array(data.mean)
    if config is not None:
        directory.open(config)
    architecture = runtime.read_text(source.file(ARCHITECTURE))
    runtime.write_whole(directory.file(ARCHITECTURE), architecture)
    checked = exporting.export_saved_model(
        network, record, path, np.rint(pixels * 255).astype(np.uint8)
    )
    if config is not None:
        directory.write_json(RESULT, {"model": source.path, "check": checked})
    print(
        f"SavedModel: {path}; on {checked['images']} real images its logits differ from the Keras "
        f"model's by {checked['largest_relative_difference']:.1e} at most, "
        f"{checked['class_agreement']:.0%} of the classes agree"
    )
    return EXIT_DONE


def run_pipeline(run_dir: str, dry_run: bool, start_from_teacher: bool = False) -> int:
    """Runs all of it: teacher, search, training without and with distillation, export.

    Each part is what the single command would make in its folder of the run directory; parts that
    are done are skipped.

    Args:
        run_dir: The run directory.
        dry_run: Whether only to say what would be done.
        start_from_teacher: Whether the supernet starts from the trained unpruned network.

    Returns:
        The exit code.
    """
    directory = RunDirectory(run_dir)
    teacher, search, student, student_kd, export = (
        directory.file(part) for part in ("teacher", "search", "student", "student_kd", "export")
    )
    whole = configuration.whole()
    directory.check(whole)
    start = [f"run_search.start_from = {teacher!r}"] if start_from_teacher else []
    known = start if RunDirectory(teacher).exists(runtime.MODEL) else []
    if dry_run:
        print("Pipeline: teacher, search, student, student_kd, export in", directory.path)
        _part(run_training, teacher, True)
        return _part(run_search, search, True, known)
    # A mistake in the search's settings is found before the teacher has been trained.
    with contextlib.redirect_stdout(io.StringIO()):
        _part(run_search, search, True, known)
    directory.open(whole)
    print("1/5 The unpruned network")
    _part(run_training, teacher)
    print("\n2/5 The search")
    code = _part(run_search, search, bindings=start)
    print("\n3/5 The derived network, trained on labels")
    derived = [f"run_training.architecture = {search!r}"]
    _part(run_training, student, bindings=derived)
    print("\n4/5 The derived network, with distillation from the unpruned one")
    _part(run_training, student_kd, bindings=[*derived, f"run_training.teacher = {teacher!r}"])
    print("\n5/5 Export")
    _part(run_export, export, bindings=[f"run_export.model = {student_kd!r}"])
    _say_table(directory)
    return code


def _part(
    root: Callable[..., int], run_dir: str, dry_run: bool = False, bindings: Sequence[str] = ()
) -> int:
    """Runs one part of a pipeline as its command would; a pipeline's own bindings come last."""
    with configuration.extended(bindings):
        return configuration.call(ROOTS[root.__name__], run_dir=run_dir, dry_run=dry_run)


def _say_table(directory: RunDirectory) -> None:
    table = rich.table.Table(title=f"\n{directory.path}", box=rich.box.SIMPLE)
    for column in ("network", "MACs", "parameters", "accuracy", "time"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    rows = {
        "unpruned": "teacher",
        "derived": "student",
        "derived, distilled": "student_kd",
    }
    unpruned = RunDirectory(directory.file("teacher")).read_json(RESULT)["cost"]
    for title, part in rows.items():
        result = RunDirectory(directory.file(part)).read_json(RESULT)
        costs = [
            f"{shown(result['cost'][kind])} ({result['cost'][kind] / unpruned[kind]:.0%})"
            for kind in ("macs", "parameters")
        ]
        accuracy = f"{result['test']['accuracy']:.2%}"
        table.add_row(title, *costs, accuracy, duration(result["seconds"]))
    search = RunDirectory(directory.file("search")).read_json(RESULT)
    table.caption = f"accuracy on the test split; the search took {duration(search['seconds'])}"
    rich.console.Console().print(table)
    for name, path in (
        ("architecture", directory.file("search", ARCHITECTURE)),
        ("Keras model", directory.file("student_kd", runtime.MODEL)),
        ("SavedModel", directory.file("export", "saved_model")),
    ):
        print(f"{name + ':':14}{path}")


def _check_ranges(root: Callable[..., int], **values: float) -> None:
    for name, value in values.items():
        least, largest = _RANGES[name]
        if not least <= value <= largest:
            wanted = f"at least {least}" if largest == math.inf else f"{least} to {largest}"
            parameter = configuration.described(f"{root.__name__}.{name}")
            raise SpecError(f"{parameter}: expected {wanted}. Received: {value}")


def _check_batch(root: Callable[..., int], batch_size: int, info: DataInfo, parts: int = 1) -> None:
    """Refuses a batch larger than what it is drawn from, the training set or each half of it."""
    if info.train_images is not None and batch_size > info.train_images // parts:
        parameter = configuration.described(f"{root.__name__}.batch_size")
        raise SpecError(
            f"{parameter}: expected at most {info.train_images // parts}, the images in "
            f"{'each half of ' if parts == 2 else ''}the training set. Received: {batch_size}"
        )


def _open(directory: RunDirectory, config: str, data: ImageData) -> None:
    directory.open(config)
    directory.write_json(DATA_RECORD, data.record())
    directory.write_json("machine.json", runtime.describe_machine())


def _peak(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate that the spec gives: the peak of its schedule."""
    rate = float(optimizer.learning_rate.numpy())
    if not 0 < rate < math.inf:
        parameter = configuration.described(f"{type(optimizer).__name__}.learning_rate")
        raise SpecError(f"{parameter}: expected a number above 0. Received: {rate}")
    return rate


def _fit(
    title: str,
    loop: Training | ArchitectureSearch,
    feed: Any,
    epochs: int,
    directory: RunDirectory,
    histograms: Callable[[], dict[str, Any]] = dict,
) -> float:
    """Trains from the last checkpoint on; returns the seconds that it took in all."""
    checkpoints = Checkpoints(directory, **loop.state())
    if checkpoints.restore():
        print(f"Goes on from the checkpoint of step {int(loop.step.numpy())}")
    step = int(loop.step.numpy())
    metrics = Metrics(directory, step)
    first_epoch = step // feed.steps_per_epoch
    shown_and_logged = [
        Progress(title, epochs, feed.steps_per_epoch, first_epoch),
        MetricsLog(metrics, feed.steps_per_epoch, histograms),
    ]
    loop.fit(feed, epochs, shown_and_logged, checkpoints)
    return metrics.elapsed_seconds()


def _with_cost(architecture: Architecture, provenance: Any) -> Architecture:
    return architecture.replace(cost=cost.costs(architecture), provenance=provenance)


def _say_what(
    title: str, directory: RunDirectory, info: DataInfo, epochs: int, batch_size: int
) -> None:
    devices = runtime.device_types()
    print(
        f"{title}: {info.dataset}, images {info.input_shape}, {info.num_classes} classes, "
        f"{info.train_images} for training, {info.evaluation_images} for the test "
        f"({info.evaluation_split}); {epochs} epochs, batch {batch_size}, on {', '.join(devices)}; "
        f"run directory {directory.path}"
    )


def _say_space(space: SearchSpace, budgets: Sequence[cost.Budget]) -> None:
    unpruned = space.unpruned()
    print(
        f"Space: {len(space.choices)} widths, depths up to {space.blocks_per_stage} blocks; "
        f"unpruned {cost.cost(unpruned):,} MACs, {cost.cost(unpruned, 'parameters'):,} parameters"
    )
    for budget in budgets:
        smallest, largest = derivation.reachable(space, budget.kind)
        print(f"Budget: {budget}; reachable {shown(smallest)} to {shown(largest)}")


def _say_network(architecture: Architecture, teacher: str | None) -> None:
    costs = ", ".join(f"{value:,} {kind}" for kind, value in architecture.cost.items())
    learns = f"; learns from {teacher}" if teacher else ""
    print(f"Network: {architecture.block} blocks {_depths(architecture)}, {costs}{learns}")


def _depths(architecture: Architecture) -> list[int]:
    return [len(stage) for stage in architecture.stages]


def _say_done(directory: RunDirectory) -> int:
    result = directory.read_json(RESULT)
    print(f"Already done: {directory.path}")
    in_band = result.get("derivation", {}).get("in_band", True)
    return EXIT_DONE if in_band else EXIT_OUTSIDE_BAND


ROOTS = {
    root.__name__: configurable(root, root.__name__)
    for root in (run_search, run_training, run_export, run_pipeline)
}
for _function, _name in (
    (ImageData, "ImageData"),
    (SGD, "SGD"),
    (Adam, "Adam"),
    (sampling.linear_temperature, "linear_temperature"),
    (sampling.cosine_temperature, "cosine_temperature"),
):
    configurable(_function, _name)
configurable(SearchSpace.resnet, "resnet", later=("num_classes", "input_shape"))
configurable(Supernet, "Supernet", later=("space",))
