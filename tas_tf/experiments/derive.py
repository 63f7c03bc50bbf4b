"""The derivation of further budgets from one finished search."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from tas_tf.errors import EXIT_DONE, EXIT_OUTSIDE_BAND, BudgetError, RunDirectoryError
from tas_tf.experiments import common, kept, latencies, messages
from tas_tf.models import network_files
from tas_tf.runtime import files
from tas_tf.runtime.run_directory import ARCHITECTURE, RESULT, RunDirectory
from tas_tf.spaces import cost, derivation
from tas_tf.spaces.cost import Budget
from tas_tf.spaces.latency_table import LatencyTable, kinds
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import search_records
from tas_tf.training.search_records import LATENCY_TABLE, LOGITS


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What a derivation starts from.

    Args:
        directory: The search's run directory.
        space: What was searched.
        logits: Logits of widths (choices, n) and depths (stages, m).
        measured: Whether they are terms of minus the loss, of a search by measurement.
        latency: The table of latencies, if there is one.
        budgets: For every target its budgets.
    """

    directory: RunDirectory
    space: SearchSpace
    logits: tuple[np.ndarray, np.ndarray]
    measured: bool
    latency: LatencyTable | None
    budgets: list[list[Budget]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DerivationExperiment:
    """Derives architectures for several budgets from one finished search.

    Args:
        run_dir: The search's run directory; gets `derived/TARGET/architecture.json`.
        dry_run: Whether only to say what would be done.
        space: Makes the search space that was searched.
        targets: Budgets, or lists of budgets to meet at once; one architecture for each.
        tolerance: Relative width of the budgets' bands; None takes the search's.
        latency_table: Path of a table of latencies; None takes the search's, if it has one.
    """

    NAME: ClassVar[str] = "run_derive"

    run_dir: str
    dry_run: bool
    space: Callable[..., SearchSpace]
    targets: Sequence[float | str | Sequence[float | str]]
    tolerance: float | None = None
    latency_table: str | None = None

    def run(self) -> int:
        """Runs it; returns `EXIT_OUTSIDE_BAND` if an architecture lies outside its band."""
        plan = self._check()
        messages.say_latency(plan.latency)
        code = EXIT_DONE
        for target, budgets in zip(self.targets, plan.budgets, strict=True):
            messages.say_space(plan.space, budgets)
            if not self.dry_run:
                code = max(code, _derive(plan, target, budgets))
        return code

    def _check(self) -> _Plan:
        """Refuses whatever can be refused before anything is derived or written."""
        directory = RunDirectory(self.run_dir)
        if not directory.exists(LOGITS):
            raise RunDirectoryError(
                f"{directory.path} holds no finished search ({LOGITS} is missing)"
            )
        result = directory.read_json(RESULT, ("tolerance",))
        tolerance = result["tolerance"] if self.tolerance is None else self.tolerance
        common.check_ranges(self.NAME, tolerance=tolerance)
        searched = network_files.load_architecture(directory.path)
        space = self.space(num_classes=searched.num_classes, input_shape=searched.input_shape)
        widths, depths = search_records.read_logits(directory, space)
        latency, budgets = self._budgets(space, directory, tolerance)
        for several in budgets:
            derivation.check_reachable(space, several)
        return _Plan(
            directory=directory,
            space=space,
            logits=(widths, depths),
            measured="measurement" in result,
            latency=latency,
            budgets=budgets,
        )

    def _budgets(
        self, space: SearchSpace, directory: RunDirectory, tolerance: float
    ) -> tuple[LatencyTable | None, list[list[Budget]]]:
        """Returns the table of latencies that the targets need, and their budgets."""
        each = [latencies.asked(target) for target in self.targets]
        settings = {asked.setting: asked for asked in each if asked.setting is not None}
        if len(settings) > 1:
            raise BudgetError("expected milliseconds of one runtime", field="target")
        first = next(iter(settings.values()), each[0])
        table = self.latency_table
        if table is None and directory.exists(LATENCY_TABLE):
            table = directory.path
        latency = latencies.table_for(first, table, space, directory, self.dry_run)
        known = kinds(latency)
        return latency, [
            # A dry run measures nothing: then budgets of milliseconds are not known.
            cost.parse_targets(asked.targets, space, tolerance, known)
            if asked.setting is None or latency is not None
            else []
            for asked in each
        ]


def _derive(plan: _Plan, target: object, budgets: Sequence[Budget]) -> int:
    """Derives one architecture and writes it; returns the exit code."""

    def within(several: Sequence[Budget]) -> tuple[derivation.Derivation, None]:
        if plan.measured:
            return derivation.of_expected(plan.space, plan.logits, several), None
        return derivation.derive(plan.space, *plan.logits, several), None

    found = kept.keep(within, plan.space, budgets, plan.latency)
    derived, summary = found.derived, found.derived.summary(found.budgets) | found.record
    architecture = common.with_origin(derived.architecture, plan.space, summary, found.latency)
    name = re.sub(r"[^\w.]+", "_", str(target)).strip("_")
    path = plan.directory.file("derived", name, ARCHITECTURE)
    files.make_folder(plan.directory.file("derived", name))
    files.write_whole(path, architecture.to_json())
    messages.say_derivation(summary, budgets, path)
    return EXIT_DONE if derived.in_band else EXIT_OUTSIDE_BAND
