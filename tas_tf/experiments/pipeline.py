"""The root function of a pipeline: teacher, search, students, export."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

from tas_tf.config import gin_config
from tas_tf.experiments import common, messages
from tas_tf.experiments.common import call
from tas_tf.experiments.export import run_export
from tas_tf.experiments.search import run_search
from tas_tf.experiments.train import run_training
from tas_tf.reports import report
from tas_tf.runtime import cluster, run_directory
from tas_tf.runtime.run_directory import RunDirectory


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
    whole = gin_config.whole()
    directory.check(whole)
    start = [f"run_search.start_from = {teacher!r}"] if start_from_teacher else []
    known = start if RunDirectory(teacher).exists(run_directory.MODEL) else []
    profile = {"profile_steps": profile_steps}
    if dry_run:
        print("Pipeline: teacher, search, student, student_kd, export in", directory.path)
        _part(run_training, teacher, dry_run=True, **profile)
        return _part(run_search, search, known, dry_run=True, **profile)
    # A mistake in the search's settings is found before the teacher has been trained.
    with contextlib.redirect_stdout(io.StringIO()):
        _part(run_search, search, known, dry_run=True, **profile)
    with cluster.own_directory(run_dir) as own, common.opened(RunDirectory(own), whole):
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
        report.write_report(directory.path)
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
    with gin_config.extended(bindings):
        return call(root.__name__, run_dir, dry_run=dry_run, **arguments)
