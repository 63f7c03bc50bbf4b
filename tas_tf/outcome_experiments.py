"""The root functions that start from a finished run: artifacts, and further budgets."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tas_tf import (
    alignment,
    configuration,
    cost,
    derivation,
    exporting,
    messages,
    networks,
    run_parts,
    runtime,
)
from tas_tf.data import ImageData
from tas_tf.errors import EXIT_DONE, EXIT_OUTSIDE_BAND, RunDirectoryError
from tas_tf.latency_table import kinds
from tas_tf.run_parts import LATENCY_TABLE, LOGITS
from tas_tf.runtime import ARCHITECTURE, RESULT, RunDirectory
from tas_tf.search_space import SearchSpace


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
        source,
        data,
        qat_epochs=qat_epochs,
        qat_batch_size=qat_batch_size,
        qat_learning_rate=qat_learning_rate,
        align=align,
    )
    for name in names:
        target = directory.file(exporting.FORMATS[name].file)
        print(f"Export: {source.path} as {name} to {target}")
    if dry_run:
        return EXIT_DONE
    data.prepare(export.seed)
    with run_parts.opened(directory, config), data.explained():
        if not directory.exists(ARCHITECTURE):
            architecture = runtime.read_text(source.file(ARCHITECTURE))
            runtime.write_whole(directory.file(ARCHITECTURE), architecture)
        exporting.export_all(export, source, directory, names)
        if config is not None and not directory.exists(RESULT):
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
