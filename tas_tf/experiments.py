"""The root functions that gin binds and commands call, and all registration with gin."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras

from tas_tf import (
    alignment,
    cluster,
    configuration,
    cost,
    derivation,
    exporting,
    messages,
    networks,
    reporting,
    run_parts,
    runtime,
    sampling,
)
from tas_tf.architecture import Architecture
from tas_tf.checkpoints import CheckpointInterval
from tas_tf.configuration import configurable
from tas_tf.data import DataInfo, ImageData, paired
from tas_tf.device_experiments import run_profile
from tas_tf.errors import (
    EXIT_DONE,
    EXIT_OUTSIDE_BAND,
    ArchitectureError,
    RunDirectoryError,
)
from tas_tf.inheritance import inherit_weights, order_channels
from tas_tf.latency_table import LatencyTable, kinds
from tas_tf.optimizers import SGD, Adam, warm_cosine
from tas_tf.run_parts import LATENCY_TABLE, LOGITS
from tas_tf.runtime import ARCHITECTURE, RESULT, RunDirectory
from tas_tf.search_loop import ArchitectureSearch
from tas_tf.search_space import SearchSpace
from tas_tf.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.supernet import Supernet
from tas_tf.training_loop import Training, evaluate


def run_search(
    run_dir: str,
    dry_run: bool,
    profile_steps: tuple[int, int] | None,
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
    order_by_importance: bool = False,
    cost_formula: Literal["built", "published"] = "built",
    latency_table: str | None = None,
    checkpoints: CheckpointInterval | None = None,
) -> int:
    """Searches an architecture within a budget; writes `architecture.json`.

    Args:
        run_dir: The run directory.
        dry_run: Whether only to say what would be done.
        profile_steps: First and last step of a profile for TensorBoard; None makes none.
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
        order_by_importance: Whether its channels are put in order of importance first.
        cost_formula: `built`, or `published` for comparison with the published code.
        latency_table: Path of what `python -m tas_tf.profile_device` measured, or of the run
            directory of a search that had it; a budget of latency needs it.
        checkpoints: How often the search saves one within an epoch.

    Returns:
        The exit code: `EXIT_OUTSIDE_BAND` if no architecture lies in the band.
    """
    peak, _ = run_parts.peak(optimizer), run_parts.peak(arch_optimizer)
    directory, config, info = run_parts.begin(
        run_search,
        run_dir,
        data,
        parts=2,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        tolerance=tolerance,
        cost_weight=cost_weight,
        weight_warmup_epochs=weight_warmup_epochs,
        temperature=min(temperature(epoch, epochs) for epoch in (0, epochs - 1)),
    )
    searched = space(num_classes=info.num_classes, input_shape=info.input_shape)
    latency = run_parts.load_latency(latency_table, searched)
    budgets = cost.parse_targets(target, searched, tolerance, kinds(latency))
    derivation.check_reachable(searched, budgets)
    run_parts.check_latency(directory, latency)
    start = run_parts.load_network(start_from, "start_from", info)
    messages.say_what("Search", directory, info, epochs, batch_size, halves=True)
    messages.say_space(searched, budgets)
    messages.say_latency(latency)
    if directory.exists(RESULT) and not dry_run:
        return _say_done(directory)
    runtime.set_seed(seed)
    net = supernet(searched)
    messages.say_how(net.dtype_policy.name, net.shapes)
    if dry_run:
        return EXIT_DONE

    data.prepare(seed)
    feed = paired(data, batch_size, seed)
    if start is not None:
        if order_by_importance:
            order_channels(start, searched.unpruned())
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
        cost_formula,
        latency,
    )
    with run_parts.opened(directory, config, data):
        run_parts.write_space(directory, searched, budgets, latency)
        seconds = run_parts.fit(
            "search", search, feed, epochs, directory, checkpoints, profile_steps
        )
        return _finish_search(search, directory, seconds, latency)


def _finish_search(
    search: ArchitectureSearch,
    directory: RunDirectory,
    seconds: float,
    latency: LatencyTable | None,
) -> int:
    found = search.derivation()
    summary = found.summary(search.budgets)
    architecture = run_parts.with_origin(
        found.architecture, search.supernet.space, summary, latency
    )
    runtime.write_whole(directory.file(ARCHITECTURE), architecture.to_json())
    entropies = search.entropies()
    messages.say_derivation(summary, search.budgets, directory.file(ARCHITECTURE))
    messages.say_entropies(entropies)
    # The derived network with the supernet's weights: what a training may start from.
    model = build_model(architecture)
    inherit_weights(model, architecture, search.supernet)
    networks.save_model(model, architecture, directory)
    names = ("width_logits", "depth_logits")
    logits = {n: v.tolist() for n, v in zip(names, search.logits(), strict=True)}
    directory.write_json(LOGITS, logits)
    result = {"derivation": summary, "tolerance": search.budgets[0].tolerance}
    directory.write_json(RESULT, {**result, **entropies, "seconds": seconds})
    derived = {
        f"derived_{budget.kind.name}_ratio": architecture.cost[budget.kind.name] / budget.unpruned
        for budget in search.budgets
    }
    run_parts.record_end(directory, int(search.step.numpy()), architecture, **derived)
    return EXIT_DONE if found.in_band else EXIT_OUTSIDE_BAND


def run_training(
    run_dir: str,
    dry_run: bool,
    profile_steps: tuple[int, int] | None,
    data: ImageData,
    space: Callable[..., SearchSpace],
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    batch_size: int,
    warmup_epochs: int = 5,
    architecture: str | None = None,
    teacher: str | None = None,
    start_from: str | None = None,
    distillation_alpha: float = 0.9,
    distillation_temperature: float = 4.0,
    seed: int = 0,
    precision: Literal["float32", "mixed_bfloat16"] = "float32",
    checkpoints: CheckpointInterval | None = None,
) -> int:
    """Trains a network from scratch, with distillation where there is a teacher.

    Args:
        run_dir: The run directory.
        dry_run: Whether only to say what would be done.
        profile_steps: First and last step of a profile for TensorBoard; None makes none.
        data: The images.
        space: Makes the search space, whose unpruned network is trained without `architecture`.
        optimizer: Moves the weights; its learning rate rises over the warm-up, then falls to 0.
        epochs: Epochs.
        batch_size: Images in a step.
        warmup_epochs: Epochs of linear warm-up, cut to a third of all where they are few.
        architecture: Path of an architecture file or of a search's run directory, or name of a
            published network such as `tas_resnet56_cifar100`; None trains the unpruned network.
        teacher: Run directory of the network to learn from.
        start_from: Run directory of a search or a training of the same architecture, whose weights
            are the first ones; None starts from scratch.
        distillation_alpha: Weight of the teacher.
        distillation_temperature: Temperature of the distillation.
        seed: Seed of everything.
        precision: What maps and kernels are computed in, the teacher's too. Variables, statistics
            and logits, what is saved and what is tested are float32.
        checkpoints: How often the training saves one within an epoch.

    Returns:
        The exit code.
    """
    peak = run_parts.peak(optimizer)
    directory, config, info = run_parts.begin(
        run_training,
        run_dir,
        data,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        warmup_epochs=warmup_epochs,
        distillation_alpha=distillation_alpha,
        distillation_temperature=distillation_temperature,
    )
    compiled = _architecture_to_train(architecture, space, info)
    guide = run_parts.load_network(teacher, "teacher", info, precision)
    start = run_parts.load_network(start_from, "start_from", info)
    messages.say_what("Training", directory, info, epochs, batch_size)
    messages.say_network(compiled, teacher)
    messages.say_how(precision)
    if dry_run:
        return EXIT_DONE
    if directory.exists(RESULT):
        return _say_done(directory)

    data.prepare(seed)
    feed = data.training(batch_size, seed)
    runtime.set_seed(seed)
    with run_parts.computing_in(precision):
        model = build_model(compiled, TRAINING_LAYERS)
    if start is not None:
        networks.copy_weights(start, model, "start_from")
    warmup = min(warmup_epochs, epochs // 3) * feed.steps_per_epoch
    schedule = warm_cosine(peak, epochs * feed.steps_per_epoch, warmup)
    holdout = (lambda: data.evaluation("holdout", batch_size)) if data.holdout else None
    training = Training(model, guide, distillation_alpha, distillation_temperature, holdout)
    training.compile(optimizer, schedule)
    with run_parts.opened(directory, config, data):
        runtime.write_whole(directory.file(ARCHITECTURE), compiled.to_json())
        title = "distillation" if guide is not None else "training"
        seconds = run_parts.fit(
            title, training, feed, epochs, directory, checkpoints, profile_steps
        )
        saved = networks.save_model(model, compiled, directory)
        # The one time that the test split is read.
        tested = evaluate(saved, data.evaluation("test", batch_size))
        result = {"test": tested, "cost": dict(compiled.cost), "seconds": seconds}
        directory.write_json(RESULT, result)
        step, accuracy = int(training.step.numpy()), tested["accuracy"]
        run_parts.record_end(directory, step, compiled, test_accuracy=accuracy)
    print(f"Test accuracy: {tested['accuracy']:.2%} of {tested['images']:,} images")
    print(f"Model: {directory.file(runtime.MODEL)}")
    return EXIT_DONE


def _architecture_to_train(
    path: str | None, space: Callable[..., SearchSpace], info: DataInfo
) -> Architecture:
    if path is None:
        searched = space(num_classes=info.num_classes, input_shape=info.input_shape)
        return run_parts.with_cost(searched.unpruned(), {"origin": "unpruned"})
    architecture = networks.load_architecture(configuration.find_architecture(path))
    received = (architecture.input_shape, architecture.num_classes)
    if received != (info.input_shape, info.num_classes):
        raise ArchitectureError(
            f"architecture: {path} takes images {received[0]} and gives {received[1]} classes; "
            f"{info.dataset} has images {info.input_shape} and {info.num_classes} classes"
        )
    return run_parts.with_cost(architecture, architecture.provenance)


def run_export(
    run_dir: str,
    dry_run: bool,
    data: ImageData,
    model: str | None = None,
    formats: str | Sequence[str] = "saved_model",
    qat_epochs: int = 2,
    qat_batch_size: int = 128,
    qat_learning_rate: float = 0.005,
    align: int | str = 1,
) -> int:
    """Exports a trained network in several formats, each checked against the Keras model.

    Args:
        run_dir: The run directory that gets the artifacts, `manifest.json` and `model_card.md`.
        dry_run: Whether only to say what would be done.
        data: The images: some of the training set check and calibrate, all of it trains for int8.
        model: Run directory of the trained network; None takes `run_dir` itself.
        formats: `saved_model`, `litert`, `litert_int8`, `litert_qat`, `keras`, or several.
        qat_epochs: Epochs of quantization-aware training, for `litert_qat`.
        qat_batch_size: Images in its batches.
        qat_learning_rate: Its learning rate at the start.
        align: What widths become multiples of, by channels that are zero, in a SavedModel and in
            LiteRT: 1, 8, 16, ..., or `auto`, which measures and takes what is fastest.

    Returns:
        The exit code.
    """
    run_parts.check_ranges(
        run_export,
        qat_epochs=qat_epochs,
        qat_batch_size=qat_batch_size,
        qat_learning_rate=qat_learning_rate,
    )
    names, align = exporting.parse_formats(formats), alignment.parse_align(align)
    directory, source = RunDirectory(run_dir), RunDirectory(model or run_dir)
    config = configuration.resolved() if model else None
    directory.check(config)
    export = exporting.load_export(
        source, data, qat_epochs, qat_batch_size, qat_learning_rate, align
    )
    for name in names:
        target = directory.file(exporting.FORMATS[name].file)
        print(f"Export: {source.path} as {name} to {target}")
    if dry_run:
        return EXIT_DONE
    data.prepare(export.seed)
    with run_parts.opened(directory, config), data.explained():
        architecture = runtime.read_text(source.file(ARCHITECTURE))
        runtime.write_whole(directory.file(ARCHITECTURE), architecture)
        exporting.export_all(export, source, directory, names)
        if config is not None:
            directory.write_json(RESULT, {"model": source.path})
    return EXIT_DONE


def run_derive(
    run_dir: str,
    dry_run: bool,
    space: Callable[..., SearchSpace],
    targets: Sequence[float | str | Sequence[float | str]],
    tolerance: float | None = None,
    latency_table: str | None = None,
) -> int:
    """Derives architectures for several budgets from one finished search.

    Args:
        run_dir: The search's run directory; gets `derived/TARGET/architecture.json`.
        dry_run: Whether only to say what would be done.
        space: Makes the search space that was searched.
        targets: Budgets, or lists of budgets to meet at once; one architecture for each.
        tolerance: Relative width of the budgets' bands; None takes the search's.
        latency_table: Path of a table of latencies; None takes the search's, if it has one.

    Returns:
        The exit code: `EXIT_OUTSIDE_BAND` if one of them lies outside its band.
    """
    directory = RunDirectory(run_dir)
    if not directory.exists(LOGITS):
        raise RunDirectoryError(f"{directory.path} holds no finished search ({LOGITS} is missing)")
    if tolerance is None:
        tolerance = directory.read_json(RESULT, ("tolerance",))["tolerance"]
    run_parts.check_ranges(run_derive, tolerance=tolerance)
    found = networks.load_architecture(directory.path)
    searched = space(num_classes=found.num_classes, input_shape=found.input_shape)
    logits = run_parts.read_logits(directory, searched)
    if latency_table is None and directory.exists(LATENCY_TABLE):
        latency_table = directory.path
    latency = run_parts.load_latency(latency_table, searched)
    budgets = [
        cost.parse_targets(target, searched, tolerance, kinds(latency)) for target in targets
    ]
    for several in budgets:
        derivation.check_reachable(searched, several)
    messages.say_latency(latency)
    code = EXIT_DONE
    for target, several in zip(targets, budgets, strict=True):
        messages.say_space(searched, several)
        if dry_run:
            continue
        derived = derivation.derive(searched, *logits, several)
        summary = derived.summary(several)
        architecture = run_parts.with_origin(derived.architecture, searched, summary, latency)
        name = re.sub(r"[^\w.]+", "_", str(target)).strip("_")
        path = directory.file("derived", name, ARCHITECTURE)
        runtime.make_folder(directory.file("derived", name))
        runtime.write_whole(path, architecture.to_json())
        messages.say_derivation(summary, several, path)
        code = code if derived.in_band else EXIT_OUTSIDE_BAND
    return code


def run_pipeline(
    run_dir: str,
    dry_run: bool,
    profile_steps: tuple[int, int] | None,
    start_from_teacher: bool = False,
) -> int:
    """Runs all of it: teacher, search, training without and with distillation, export.

    Each part is what the single command would make in its folder of the run directory; parts that
    are done are skipped.

    Args:
        run_dir: The run directory.
        dry_run: Whether only to say what would be done.
        profile_steps: First and last step of a profile of every training and of the search.
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
    profile = {"profile_steps": profile_steps}
    if dry_run:
        print("Pipeline: teacher, search, student, student_kd, export in", directory.path)
        _part(run_training, teacher, dry_run=True, **profile)
        return _part(run_search, search, known, dry_run=True, **profile)
    # A mistake in the search's settings is found before the teacher has been trained.
    with contextlib.redirect_stdout(io.StringIO()):
        _part(run_search, search, known, dry_run=True, **profile)
    with cluster.own_directory(run_dir) as own, run_parts.opened(RunDirectory(own), whole):
        print("1/5 The unpruned network")
        _part(run_training, teacher, **profile)
        print("\n2/5 The search")
        code = _part(run_search, search, start, **profile)
        print("\n3/5 The derived network, trained on labels")
        derived = [f"run_training.architecture = {search!r}"]
        _part(run_training, student, derived, **profile)
        print("\n4/5 The derived network, with distillation from the unpruned one")
        taught = [*derived, f"run_training.teacher = {teacher!r}"]
        _part(run_training, student_kd, taught, **profile)
        print("\n5/5 Export")
        _part(run_export, export, [f"run_export.model = {student_kd!r}"])
        messages.say_table(directory)
        reporting.write_report(directory.path)
        print(f"{'Report:':14}{directory.file('report.html')}")
        return code


def _part(
    root: Callable[..., int],
    run_dir: str,
    bindings: Sequence[str] = (),
    dry_run: bool = False,
    **arguments: Any,
) -> int:
    """Runs one part of a pipeline as its command would; a pipeline's own bindings come last."""
    with configuration.extended(bindings):
        return call(root.__name__, run_dir, dry_run=dry_run, **arguments)


def call(name: str, run_dir: str | None = None, **arguments: Any) -> int:
    """Calls a root function as gin configures it.

    What gin makes for a search or a training, such as optimizers, lies on all devices and workers.

    Args:
        name: Name of the root function.
        run_dir: The run directory, the same for all workers; None where the function has none.
        arguments: Further arguments of the root function, such as `dry_run`.

    Returns:
        The exit code.
    """
    with contextlib.ExitStack() as held:
        if name in (run_search.__name__, run_training.__name__):
            held.enter_context(runtime.choose_strategy().scope())
        if run_dir is not None:
            # A pipeline's parts come here, each with its own.
            own = name != run_pipeline.__name__
            arguments["run_dir"] = (
                held.enter_context(cluster.own_directory(run_dir)) if own else run_dir
            )
        return configuration.call(ROOTS[name], **arguments)


def _say_done(directory: RunDirectory) -> int:
    result = directory.read_json(RESULT)
    print(f"Already done: {directory.path}")
    in_band = result.get("derivation", {}).get("in_band", True)
    return EXIT_DONE if in_band else EXIT_OUTSIDE_BAND


ROOTS = {
    root.__name__: configurable(root, root.__name__)
    for root in (run_search, run_training, run_derive, run_export, run_pipeline, run_profile)
}
for _function, _name in (
    (ImageData, "ImageData"),
    (CheckpointInterval, "CheckpointInterval"),
    (SGD, "SGD"),
    (Adam, "Adam"),
    (sampling.linear_temperature, "linear_temperature"),
    (sampling.cosine_temperature, "cosine_temperature"),
):
    configurable(_function, _name)
configurable(SearchSpace.resnet, "resnet", later=("num_classes", "input_shape"))
configurable(Supernet, "Supernet", later=("space",))
