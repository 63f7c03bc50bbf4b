"""The root function of an export."""

from __future__ import annotations

from collections.abc import Sequence

from tas_tf.config import gin_config
from tas_tf.data.image_data import ImageData
from tas_tf.deployment import alignment, artifacts
from tas_tf.errors import EXIT_DONE
from tas_tf.experiments import common
from tas_tf.runtime import files
from tas_tf.runtime.run_directory import ARCHITECTURE, RESULT, RunDirectory


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
    common.check_ranges(
        run_export,
        qat_epochs=qat_epochs,
        qat_batch_size=qat_batch_size,
        qat_learning_rate=qat_learning_rate,
    )
    names, align = artifacts.parse_formats(formats), alignment.parse_align(align)
    directory, source = RunDirectory(run_dir), RunDirectory(model or run_dir)
    config = gin_config.resolved() if model else None
    directory.check(config)
    export = artifacts.load_export(
        source,
        data,
        qat_epochs=qat_epochs,
        qat_batch_size=qat_batch_size,
        qat_learning_rate=qat_learning_rate,
        align=align,
    )
    for name in names:
        target = directory.file(artifacts.FORMATS[name].file)
        print(f"Export: {source.path} as {name} to {target}")
    if dry_run:
        return EXIT_DONE
    data.prepare(export.seed)
    with common.opened(directory, config), data.explained():
        if not directory.exists(ARCHITECTURE):
            architecture = files.read_text(source.file(ARCHITECTURE))
            files.write_whole(directory.file(ARCHITECTURE), architecture)
        artifacts.export_all(export, source, directory, names)
        if config is not None and not directory.exists(RESULT):
            directory.write_json(RESULT, {"model": source.path})
    return EXIT_DONE
