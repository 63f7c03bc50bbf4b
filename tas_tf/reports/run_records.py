"""Records of a run directory, read without trust, and a list of missing and damaged ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tas_tf import json_schema
from tas_tf.config import recorded
from tas_tf.config.presets import BASE
from tas_tf.deployment import manifest
from tas_tf.errors import RunDirectoryError, UserError
from tas_tf.models import network_files
from tas_tf.models.model_spaces import space_of
from tas_tf.reports import measured_record, record_schema
from tas_tf.reports.measured_record import Measured
from tas_tf.reports.record_schema import PIPELINE
from tas_tf.runtime import files
from tas_tf.runtime.metrics import METRICS
from tas_tf.runtime.run_directory import (
    ARCHITECTURE,
    CONFIG,
    DATA_RECORD,
    RESULT,
    RunDirectory,
)
from tas_tf.spaces.choices import WidthChoice
from tas_tf.spaces.cost import Budget, CostKind
from tas_tf.spaces.latency_table import LatencyTable, kinds
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import search_records
from tas_tf.training.search_records import LATENCY_TABLE, LOGITS, SPACE

MACHINE = "machine.json"
DERIVED = "derived"


@dataclasses.dataclass
class Part:
    """One run: a training, a search or an export, alone or in a pipeline's folder.

    Args:
        name: Folder in a pipeline's run directory; "" for a run of its own.
        kind: `training`, `search`, `baseline`, `export`, or "" where nothing tells.
        settings: What its configuration sets.
        config: Text of its configuration.
        data: Its record of the images.
        machine: Its record of command, devices and versions.
        records: One record for each epoch.
        result: What it came to.
        manifest: What was exported of it.
        architecture: The network that was trained or found, an `Architecture`, or a
            `ModelArchitecture` of a model of one's own; None where it is missing.
        space: What was searched, likewise.
        budgets: Within which budgets.
        latency: The table of a budget of latency.
        logits: Logits of widths and depths at the end of a search; of one by measurement, terms
            of minus the loss.
        measured: What a search by measurement knows.
        derived: What was derived from a search for further budgets, by their names.
        missing: What is missing or damaged, for people.
    """

    name: str
    kind: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    config: str | None = None
    data: dict[str, Any] | None = None
    machine: dict[str, Any] | None = None
    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    result: dict[str, Any] | None = None
    manifest: dict[str, Any] | None = None
    architecture: Any = None
    space: Any = None
    budgets: list[Budget] = dataclasses.field(default_factory=list)
    latency: LatencyTable | None = None
    logits: list[np.ndarray] | None = None
    measured: Measured | None = None
    derived: dict[str, Any] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)

    def setting(self, name: str) -> Any:
        """Returns what its configuration binds a parameter to, None where nothing does."""
        return self.settings.get(name)

    @property
    def is_measured(self) -> bool:
        """Whether it is a search by measurement."""
        recorded = "measurement" in (self.result or {})
        return recorded or self.setting("run_search.decide") == "measurement"


@dataclasses.dataclass
class Run:
    """A run directory: one part, or those of a pipeline.

    Args:
        path: The run directory.
        kind: `pipeline`, or that of its only part.
        parts: Its parts by name, in the order of a pipeline.
        config: Text of the pipeline's own configuration, or of the only part's.
        missing: What is missing or damaged, for people.
    """

    path: str
    kind: str
    parts: dict[str, Part]
    config: str | None
    missing: list[str]

    @property
    def search(self) -> Part | None:
        """The search, if there is one."""
        return next(iter(self.of_kind("search")), None)

    @property
    def derivation(self) -> Part | None:
        """What derived a network within a budget: the search, or a baseline in its place."""
        return self.search or next(iter(self.of_kind("baseline")), None)

    def of_kind(self, kind: str) -> list[Part]:
        """Returns the parts of a kind."""
        return [part for part in self.parts.values() if part.kind == kind]


def read_run(path: str) -> Run:
    """Reads a run directory.

    Args:
        path: The run directory of a pipeline, a search, a baseline, a training or an export.

    Raises:
        RunDirectoryError: If there is no such directory.
    """
    directory = RunDirectory(path)
    if not tf.io.gfile.isdir(directory.path):
        raise RunDirectoryError(f"{directory.path} is no directory", field="run_dir")
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(directory.path))
    if not names:
        missing = ["The directory is empty: no run has begun in it."]
        return Run(directory.path, "", {}, None, missing)
    folders = [
        name for name in names if name in PIPELINE or directory.exists(name, CONFIG)
    ]  # others belong to a part, such as checkpoints/
    reader = _Reader(directory, "")
    config = reader.text(CONFIG)
    is_pipeline = record_schema.run_kind(recorded.settings(config or "")) == "pipeline"
    is_pipeline |= bool(folders)
    if not is_pipeline:
        part = read_part(directory, "")
        return Run(directory.path, part.kind, {"": part}, part.config, part.missing)
    of_model = "run_pipeline.model" in recorded.settings(config or "")
    known = record_schema.MODEL_PARTS if of_model else tuple(PIPELINE)
    order = [*known, *(name for name in folders if name not in known)]
    parts, missing = {}, reader.missing
    for name in order:
        if name in folders:
            parts[name] = read_part(RunDirectory(directory.file(name)), name)
            missing += parts[name].missing
        else:
            missing.append(f"{name}/ is not there: this part has not begun.")
    return Run(directory.path, "pipeline", parts, config, missing)


def read_part(directory: RunDirectory, name: str) -> Part:
    """Reads the run directory of a training, a search, a baseline or an export.

    Args:
        directory: The run directory.
        name: Its folder in a pipeline's run directory; "" for a run of its own.
    """
    reader = _Reader(directory, name)
    config = reader.text(CONFIG)
    settings = recorded.settings(config or "")
    kind = PIPELINE.get(name) or record_schema.run_kind(settings)
    kind = kind if kind in record_schema.RESULTS else ""
    part = Part(name, kind, settings, config, missing=reader.missing)
    if not kind:
        reader.say("nothing here tells what kind of run this is")
        return part
    part.result = reader.json(RESULT, record_schema.RESULTS[kind], "this part has not finished")
    # That of a model of one's own stays beside that model, and is in no export.
    if kind != "export" or directory.exists(ARCHITECTURE):
        part.architecture = reader.architecture()
    if kind == "export" or directory.exists(manifest.MANIFEST):
        part.manifest = reader.json(manifest.MANIFEST, manifest.PATTERN, "nothing was exported")
    if kind == "export":
        return part
    # A baseline that starts from no network has read no image, and most of them train nothing.
    if kind != "baseline" or directory.exists(MACHINE):
        part.data = reader.json(DATA_RECORD, record_schema.DATA)
        part.machine = reader.json(MACHINE, record_schema.MACHINE)
    if kind in ("search", "baseline"):
        part.latency = reader.latency()
        part.space, part.budgets = reader.space(part.latency)
    if kind == "search":
        if part.space is not None and part.result is not None:
            part.logits = reader.logits(part.space)
            if part.is_measured:
                part.measured = reader.measured(part.result, part.space)
        part.derived = reader.derived()
    if kind != "baseline" or directory.exists(METRICS):
        part.records = reader.records(part.space)
    return part


class _Reader:
    """Reads the files of one part, and collects what is wrong with them."""

    def __init__(self, directory: RunDirectory, name: str):
        self._directory = directory
        self._prefix = f"{name}/" if name else ""
        self.missing: list[str] = []

    def say(self, what: str) -> None:
        self.missing.append(f"{self._prefix or 'The directory: '}{what}.")

    def text(self, name: str, why: str = "") -> str | None:
        if not self._directory.exists(name):
            self.say(f"{name} is missing" + (f": {why}" if why else ""))
            return None
        try:
            return files.read_text(self._directory.file(name))
        except (UnicodeDecodeError, tf.errors.OpError) as error:
            self.say(f"{name} cannot be read: {files.first_line(error)}")
            return None

    def json(self, name: str, pattern: dict[str, Any], why: str = "") -> dict[str, Any] | None:
        text = self.text(name, why)
        try:
            return None if text is None else json_schema.parse(text, pattern)
        except ValueError as error:
            self.say(f"{name} is damaged: {files.first_line(error)}")
            return None

    def architecture(self, *folder: str) -> Any:
        name = "/".join([*folder, ARCHITECTURE])
        if self._directory.exists(name):
            try:
                return network_files.load_architecture(self._directory.file(name))
            except UserError as error:
                self.say(f"{name} is damaged: {files.first_line(error)}")
        else:
            self.say(f"{name} is missing")
        return None

    def derived(self) -> dict[str, Any]:
        if not self._directory.exists(DERIVED):
            return {}
        names = sorted(n.rstrip("/") for n in tf.io.gfile.listdir(self._directory.file(DERIVED)))
        read = {name: self.architecture(DERIVED, name) for name in names}
        return {name: architecture for name, architecture in read.items() if architecture}

    def latency(self) -> LatencyTable | None:
        text = self.text(LATENCY_TABLE) if self._directory.exists(LATENCY_TABLE) else None
        try:
            return None if text is None else LatencyTable.from_json(text, LATENCY_TABLE)
        except UserError as error:
            self.say(f"{LATENCY_TABLE} is damaged: {files.first_line(error)}")
            return None

    def space(self, latency: LatencyTable | None) -> tuple[Any, list[Budget]]:
        if self._directory.exists(BASE):
            return self._model_space(latency)
        record = self.json(SPACE, record_schema.SPACE)
        if record is None:
            return None, []
        try:
            fields = record["space"]
            fields["choices"] = tuple(
                WidthChoice(choice["name"], tuple(choice["candidates"]))
                for choice in fields["choices"]
            )
            for name in ("input_shape", "unit_choices"):
                fields[name] = tuple(fields[name])
            fields["depths"] = tuple(map(tuple, fields["depths"]))
            space = SearchSpace(**fields)
            _check_space(space)
            if latency is not None:
                latency.check(space)
            return space, list(self._budgets(record["budgets"], kinds(latency)))
        # Whatever is raised by what does not fit together.
        except (UserError, ValueError, TypeError, LookupError) as error:
            self.say(f"{SPACE} is damaged: {files.first_line(error)}")
            return None, []

    def _model_space(self, latency: LatencyTable | None) -> tuple[ModelSpace | None, list[Budget]]:
        record = self.json(SPACE, record_schema.MODEL_SPACE)
        if record is None:
            return None, []
        try:
            whole = space_of(network_files.load_model(self._directory.file(BASE)))
            candidates = {c["name"]: tuple(c["candidates"]) for c in record["space"]["choices"]}
            space = whole.searched(candidates, record["space"]["branches"])
            if latency is not None:
                latency.check(space)
            return space, list(self._budgets(record["budgets"], kinds(latency)))
        except (UserError, ValueError, TypeError, LookupError) as error:
            self.say(f"{SPACE} is damaged: {files.first_line(error)}")
            return None, []

    def _budgets(self, records: list[dict], known: dict[str, CostKind]) -> Iterator[Budget]:
        for fields in records:
            if fields["kind"] in known:
                yield Budget(**{**fields, "kind": known[fields["kind"]]})
            else:
                self.say(f"the budget of {fields['kind']} is not shown: it needs {LATENCY_TABLE}")

    def logits(self, space: SearchSpace | ModelSpace) -> list[np.ndarray] | None:
        try:
            return search_records.read_logits(self._directory, space)
        except RunDirectoryError as error:
            # As commands say it: whoever reads this has given the report's --run_dir.
            self.say(f"{LOGITS}: {error.worded({'run_dir': '--run_dir'})}")
            return None

    def measured(self, result: dict[str, Any], space: SearchSpace | ModelSpace) -> Measured | None:
        try:
            return measured_record.read(result.get("measurement"), space)
        except ValueError as error:
            self.say(f"{RESULT} is damaged: measurement: {files.first_line(error)}")
            return None

    def records(self, space: SearchSpace | ModelSpace | None) -> list[dict[str, Any]]:
        text = self.text(METRICS, "no epoch has ended")
        records = []
        for number, line in enumerate((text or "").splitlines(), start=1):
            try:
                record = json_schema.parse(line, record_schema.EPOCH)
            except ValueError as error:
                self.say(f"{METRICS}, line {number} is damaged: {files.first_line(error)}")
                continue
            records.append(_checked_epoch(record, space))
        return records


def _check_space(space: SearchSpace) -> None:
    """Refuses a space whose parts do not fit together."""
    units = 1 + sum(len(units) for stage in space.block_units for units in stage)
    used = set(space.unit_choices)
    if len(space.unit_choices) != units or used != set(range(len(space.choices))):
        raise ValueError("unit_choices do not fit the blocks")
    for candidates in (*(choice.candidates for choice in space.choices), *space.depths):
        if not candidates or list(candidates) != sorted({*candidates}) or candidates[0] < 1:
            raise ValueError(f"candidates {candidates} are not ascending")
    space.unpruned()


def _checked_epoch(
    record: dict[str, Any], space: SearchSpace | ModelSpace | None
) -> dict[str, Any]:
    """Returns what of an epoch's record is a number, and its shape where it fits the space."""
    kept = {name: value for name, value in record.items() if json_schema.number(value)}
    if space is not None:
        widths, depths = record.get("argmax_widths"), record.get("argmax_depths")
        candidates = [choice.candidates for choice in space.choices]
        if _among(widths, candidates) and _among(depths, space.depths):
            kept |= {"argmax_widths": widths, "argmax_depths": depths}
    return kept


def _among(values: Any, candidates: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) == len(candidates)
        and all(value in allowed for value, allowed in zip(values, candidates, strict=True))
    )
