"""The export of a trained network in several formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from tas_tf.config import gin_config
from tas_tf.config.presets import BASE
from tas_tf.config.recorded import told_from
from tas_tf.data.image_data import ImageData
from tas_tf.deployment import alignment, artifacts, formats, manifest
from tas_tf.errors import EXIT_DONE, EXIT_OUTSIDE_BAND
from tas_tf.experiments import common, messages, provenance
from tas_tf.runtime import files
from tas_tf.runtime.run_directory import ARCHITECTURE, DATA_RECORD, RESULT, RunDirectory


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportExperiment:
    """Exports a trained network in several formats, each checked against the Keras model.

    Args:
        run_dir: The run directory that gets the artifacts, `manifest.json` and `model_card.md`.
        dry_run: Whether only to say what would be done.
        data: The images: some of the training set check and calibrate, all of it trains for int8.
        model: Run directory of the trained network; None takes `run_dir` itself.
        formats: What is written: one or several formats of docs/deployment.md.
        qat_epochs: Epochs of quantization-aware training, for `litert_qat`.
        align: What widths become multiples of, by channels that are zero, in all formats but
            `litert_qat` and `keras`: 1, 8, 16, ..., or `auto`, which measures and takes what is
            fastest.
    """

    NAME: ClassVar[str] = "run_export"

    run_dir: str
    dry_run: bool
    data: ImageData
    model: str | None = None
    formats: str | Sequence[str] = "saved_model"
    qat_epochs: int = 2
    align: int | str = 1

    def check(self) -> tuple[list[str], int | str]:
        """Refuses what cannot be made; returns the formats, and what widths are aligned to."""
        common.check_ranges(self.NAME, qat_epochs=self.qat_epochs)
        return formats.parse_formats(self.formats), alignment.parse_align(self.align)

    def run(self) -> int:
        """Runs it; returns `EXIT_OUTSIDE_BAND` if an artifact is far less accurate."""
        names, align = self.check()
        directory, source = RunDirectory(self.run_dir), RunDirectory(self.model or self.run_dir)
        config = gin_config.resolved() if self.model else None
        directory.check(config)
        needed = any(formats.FORMATS[name].quantized for name in names)
        at_hand = provenance.images_at_hand(source, self.data, needed)
        export = artifacts.load_export(
            source, self.data, at_hand=at_hand, qat_epochs=self.qat_epochs, align=align
        )
        for name in names:
            target = directory.file(formats.FORMATS[name].file)
            print(f"Export: {source.path} as {name} to {target}")
        if self.dry_run:
            return EXIT_DONE
        if at_hand:
            self.data.prepare(export.seed)
        with common.opened(directory, config), self.data.explained():
            # The record of the images too: it tells that they are these, wherever they lie later.
            # The architecture of a model of one's own would need that model beside it.
            kept = (DATA_RECORD,) if source.exists(BASE) else (ARCHITECTURE, DATA_RECORD)
            for name in kept:
                if not directory.exists(name):
                    files.write_whole(directory.file(name), files.read_text(source.file(name)))
            said = artifacts.export_all(export, source, directory, names)
            if config is not None and not directory.exists(RESULT):
                directory.write_json(RESULT, {"model": told_from(source.path, directory.path)})
        fallen = manifest.far_less_accurate(said, names)
        messages.say_all(fallen)
        return EXIT_OUTSIDE_BAND if fallen else EXIT_DONE
