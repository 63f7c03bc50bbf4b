#!/usr/bin/env python3
"""Runs a study: many networks, each trained several times, by the project's own commands.

tools/run_study.py --gin_file=specs/study/cifar10_small.gin --data_dir=~/tensorflow_datasets
tools/run_study.py --gin_file=specs/study/cifar10_small.gin --dry_run
tools/run_study.py --gin_file=specs/study/cifar10_small.gin --summary

What is finished is recorded in benchmarks/study/, and never run again. Stop it at any time, by
Ctrl-C too: the same command goes on. docs/study.md explains it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import study_summary
from study_grid import Cell, Round, Study
from study_records import Records
from study_runner import Runner, duration, estimates, left_over, remaining

from tas_tf.config import gin_config
from tas_tf.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_USER_ERROR, SpecError, UserError
from tas_tf.runtime.stderr import held_back

ROOT = pathlib.Path(__file__).resolve().parents[1]


def plan(
    study: Study, records: Records, cells: Sequence[Cell], root: str, jobs: int
) -> Iterator[str]:
    """Yields the lines that say what a run would do."""
    left = [*left_over(study, records, cells)]
    done = sum(records.get(cell) is not None for cell in cells)
    yield f"Study {study.name}: {len(cells)} trainings, {done} finished; directory {root}"
    for group, (count, seconds) in estimates(study, records, cells).items():
        each = "unknown time" if seconds is None else duration(seconds)
        yield f"  {group}: {count} left, {each} each"
    yield f"Left: {remaining(study, records, cells, jobs) if left else 'nothing'}"
    for number, item in enumerate((item for item in left if isinstance(item, Cell)), 1):
        yield f"  {number}. {item.key}"
    if left:
        yield f"First: {shlex.join(['python', *study.command(left[0], root)])}"


def load(file: str) -> Study:
    """Returns the study that a gin file declares."""
    gin_config.configurable(Round, "Round")
    gin_config.configurable(Study, "run_study")
    gin_config.load([file])
    return gin_config.call("run_study")


def chosen(study: Study, only: str | None) -> list[Cell]:
    """Returns the trainings whose names a regular expression finds.

    Raises:
        SpecError: If it finds none, or is malformed.
    """
    try:
        cells = [cell for cell in study.cells() if re.search(only or "", cell.key)]
    except re.error as error:
        raise SpecError(f"--only: {only!r} is no regular expression: {error}") from None
    if not cells:
        raise SpecError(f"--only: no training has {only!r}; one is {study.cells()[0].key}")
    return cells


@contextlib.contextmanager
def alone(root: str) -> Iterator[None]:
    """Holds the study's directory: two runs of a study would do the same work."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with held_back():  # what TensorFlow says when it starts
        from tas_tf.deployment import speed  # noqa: F401, for the records
        from tas_tf.runtime.lock import locked
        from tas_tf.runtime.run_directory import RunDirectory

    directory = RunDirectory(root)
    directory.make()
    with locked(directory):
        yield


def work(given: argparse.Namespace) -> int:
    """Does what the command line asks for; returns the exit code."""
    if given.jobs < 1:
        raise SpecError(f"--jobs: expected at least 1. Received: {given.jobs}")
    study = load(given.gin_file)
    recorded = f"runs/study/{study.name}"
    root = os.path.expanduser(given.run_dir or recorded).rstrip("/")
    folder = pathlib.Path(given.records) if given.records else ROOT / "benchmarks" / "study"
    records = Records(folder / f"{study.name}.json", study, recorded)
    cells = chosen(study, given.only)
    code = EXIT_DONE
    if given.dry_run:
        print(*plan(study, records, cells, root, given.jobs), sep="\n")
        return code
    if not given.summary:
        with alone(root):
            code = Runner(study, root, records, given.data_dir, given.jobs).run(cells)
    print(*study_summary.lines(study, records), sep="\n")
    if given.write_docs:
        study_summary.write(study, records, given.write_docs)
    return code


def main() -> int:
    """Runs the tool; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gin_file", required=True, help="the study, in specs/study/")
    parser.add_argument("--run_dir", help="where its runs lie; by default runs/study/NAME")
    parser.add_argument("--data_dir", help="where prepared TFDS data sets lie")
    parser.add_argument("--records", help="folder of the records; by default benchmarks/study")
    parser.add_argument(
        "--jobs", type=int, default=1, help="commands to run at once, each on its share of cores"
    )
    parser.add_argument("--only", help="regular expression of the trainings to run")
    parser.add_argument("--dry_run", action="store_true", help="say what would be done")
    parser.add_argument("--summary", action="store_true", help="show what is finished, run nothing")
    parser.add_argument(
        "--write_docs",
        nargs="?",
        const=ROOT / "docs" / "study.md",
        type=pathlib.Path,
        metavar="PAGE",
        help="put tables and picture into a page, by default docs/study.md",
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work(parser.parse_args())
    except UserError as error:
        print(f"Error: {error.worded({'run_dir': '--run_dir'})}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on.", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
