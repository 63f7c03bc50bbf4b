"""The pipeline: teacher, search, students, export, in one run directory."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from typing import Any, ClassVar

from tas_tf.config import gin_config
from tas_tf.errors import UserError
from tas_tf.experiments import common, messages
from tas_tf.experiments.export import ExportExperiment
from tas_tf.experiments.search import SearchExperiment
from tas_tf.experiments.train import TrainingExperiment
from tas_tf.reports import report
from tas_tf.runtime import cluster
from tas_tf.runtime.run_directory import MODEL, RunDirectory

Experiment = type[SearchExperiment] | type[TrainingExperiment] | type[ExportExperiment]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineExperiment:
    """Runs all of it: teacher, search, training without and with distillation, export.

    Each part is what the single command would make in its folder of the run directory; parts that
    are done are skipped.

    Args:
        run_dir: The run directory.
        dry_run: Whether only to say what would be done.
        profile_steps: First and last step of a profile of every training and of the search.
        start_from_teacher: Whether the supernet starts from the trained unpruned network.
        model: Path of a trained Keras model of one's own, which stands in the teacher's place: it
            is searched, and the derived network is trained from its kept weights, with distillation
            from it.
    """

    NAME: ClassVar[str] = "run_pipeline"

    run_dir: str
    dry_run: bool
    profile_steps: tuple[int, int] | None
    start_from_teacher: bool = False
    model: str | None = None

    def run(self) -> int:
        """Runs it; returns the exit code of the search."""
        directory, settings = RunDirectory(self.run_dir), gin_config.whole()
        directory.check(settings)
        self._check_export()
        if self.dry_run:
            if self.model:
                print("Pipeline: search, student_kd, export in", directory.path)
            else:
                print("Pipeline: teacher, search, student, student_kd, export in", directory.path)
                self._train("teacher", dry_run=True)
            return self._search(dry_run=True)
        # A mistake in the search's settings is found before the teacher has been trained.
        with contextlib.redirect_stdout(io.StringIO()):
            self._search(dry_run=True)
        own = cluster.own_directory(self.run_dir)
        with own as path, common.opened(RunDirectory(path), settings):
            code = self._shrink(self.model) if self.model else self._run_parts()
            messages.say_table(directory)
            report.write_report(directory.path)
            print(f"{'Report:':14}{directory.file('report.html')}")
        return code

    def _check_export(self) -> None:
        """Finds what cannot be exported before the first part, not at the last."""
        name = ExportExperiment.NAME
        try:
            gin_config.call(name, run_dir=self.run_dir, dry_run=True).check()
        except UserError as error:
            raise UserError(error.message, field=error.field and f"{name}.{error.field}") from None

    def _run_parts(self) -> int:
        """Runs one part after the other; returns the exit code of search and export."""
        search, teacher = self._folder("search"), self._folder("teacher")
        print("1/5 The unpruned network")
        self._train("teacher")
        print("\n2/5 The search")
        code = self._search()
        print("\n3/5 The derived network, trained on labels")
        self._train("student", architecture=search)
        print("\n4/5 The derived network, with distillation from the unpruned one")
        self._train("student_kd", architecture=search, teacher=teacher)
        print("\n5/5 Export")
        exported = self._part(ExportExperiment, "export", {"model": self._folder("student_kd")})
        return max(code, exported)

    def _shrink(self, model: str) -> int:
        """Makes a model smaller, one part after the other; returns what `_run_parts` does."""
        search = self._folder("search")
        print("1/3 The search")
        code = self._search()
        print("\n2/3 The derived network, from its kept weights, with distillation from the model")
        self._train("student_kd", architecture=search, start_from=search, teacher=model)
        print("\n3/3 Export")
        exported = self._part(ExportExperiment, "export", {"model": self._folder("student_kd")})
        return max(code, exported)

    def _train(self, name: str, dry_run: bool = False, **settings: Any) -> int:
        """Runs a training in the folder of this name."""
        steps = {"profile_steps": self.profile_steps}
        return self._part(TrainingExperiment, name, settings, dry_run=dry_run, **steps)

    def _search(self, dry_run: bool = False) -> int:
        """Runs the search; a dry run starts from the teacher only where there is one already."""
        teacher = self._folder("teacher")
        starts = self.start_from_teacher
        if dry_run:
            starts = starts and RunDirectory(teacher).exists(MODEL)
        settings = {"start_from": teacher} if starts else {}
        steps = {"profile_steps": self.profile_steps}
        return self._part(SearchExperiment, "search", settings, dry_run=dry_run, **steps)

    def _part(
        self,
        experiment: Experiment,
        name: str,
        settings: dict[str, Any],
        dry_run: bool = False,
        **arguments: Any,
    ) -> int:
        """Runs one part as its command would.

        Args:
            experiment: What is run.
            name: The part's folder.
            settings: What the pipeline sets, whatever the spec says; the part records it.
            dry_run: Whether only to say what would be done.
            arguments: What the part does not record.
        """
        own = {f"{experiment.NAME}.{parameter}": value for parameter, value in settings.items()}
        with gin_config.given(own):
            return common.call(experiment.NAME, self._folder(name), dry_run=dry_run, **arguments)

    def _folder(self, name: str) -> str:
        return RunDirectory(self.run_dir).file(name)
