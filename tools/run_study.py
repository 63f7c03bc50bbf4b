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
import collections
import contextlib
import ctypes
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import study_summary
from study_grid import Cell, Network, Round, Study, run_dir
from study_records import Records

from tas_tf.config import gin_config
from tas_tf.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_OUTSIDE_BAND,
    EXIT_USER_ERROR,
    SpecError,
    UserError,
)
from tas_tf.runtime.stderr import held_back

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXIT_FAILED = 1
LIBRARY = ctypes.CDLL(None)
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux
Item = Network | Cell | str


class Failed(Exception):
    """A command of the study that failed; the others go on."""


class Runner:
    """Runs what is left of a study, one command at a time.

    Args:
        study: The study.
        root: Its directory.
        records: What is finished.
        data_dir: Where prepared data sets lie.
    """

    def __init__(self, study: Study, root: str, records: Records, data_dir: str | None):
        self._study, self._root, self._records = study, root, records
        self._data = [] if data_dir is None else [f"--data_dir={os.path.expanduser(data_dir)}"]
        self._failed: dict[Item, str] = {}

    def run(self, cells: Sequence[Cell]) -> int:
        """Runs trainings and what they need; returns the exit code."""
        left = [cell for cell in cells if self._records.take(cell, self._root) is None]
        print(f"Study {self._study.name}: {len(cells)} trainings, {len(left)} left", flush=True)
        for number, cell in enumerate(left):
            time_left = remaining(self._study, self._records, left[number:])
            print(f"{number + 1} of {len(left)}: {cell.key}; left: {time_left}", flush=True)
            try:
                self._finish(cell)
            except Failed as error:
                print(f"  FAILED: {error}", flush=True)
            else:
                record = self._records.get(cell)
                print(f"  {record['accuracy']:.2%}, {duration(record['seconds'])}", flush=True)
        if self._failed:
            print("Failed:", *self._failed.values(), sep="\n  ")
        return EXIT_FAILED if self._failed else EXIT_DONE

    def _finish(self, item: Item) -> None:
        """Sees to it that an item's run directory holds what others need of it."""
        if item in self._failed:
            raise Failed(self._failed[item])
        if not self._is_there(item):
            architecture = self._recorded(item)
            for needed in self._study.needs(item):
                if not (architecture and isinstance(needed, Network)):
                    self._finish(needed)
            self._call(item, architecture)
        if not isinstance(item, str):
            self._records.take(item, self._root)

    def _is_there(self, item: Item) -> bool:
        path = f"{self._root}/{item}" if isinstance(item, str) else None
        return os.path.exists(path or f"{run_dir(item, self._root)}/result.json")

    def _recorded(self, item: Item) -> str | None:
        """Writes the architecture of a training if only the records have it; returns its path."""
        if not isinstance(item, Cell) or "inherited" in item.way or item.network.target is None:
            return None
        if self._is_there(item.network) or self._records.get(item.network) is None:
            return None
        path = pathlib.Path(self._root, "recorded", f"{item.network.key}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._records.architecture(item.network))
        return str(path)

    def _call(self, item: Item, architecture: str | None) -> None:
        """Runs the command of an item; what it says goes to a log."""
        words = [sys.executable, *self._study.command(item, self._root, architecture), *self._data]
        log = pathlib.Path(self._root, "logs", f"{getattr(item, 'key', item)}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        print(f"  {words[2]}, log in {log}", flush=True)
        with log.open("ab") as output:
            output.write(f"$ {shlex.join(words)}\n".encode())
            output.flush()
            code = _outcome(words, output)
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        if code not in (EXIT_DONE, EXIT_OUTSIDE_BAND):
            end = " ".join(log.read_text(errors="replace").splitlines()[-3:])
            self._failed[item] = f"{getattr(item, 'key', item)}: exit code {code}, {log}: {end}"
            raise Failed(self._failed[item])


def _outcome(words: Sequence[str], output) -> int:
    """Runs a command to its end and returns its exit code; an interruption ends both in order."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        words,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # a terminal's Ctrl-C reaches it through us alone, once
        preexec_fn=_die_with_parent,
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        print("\nInterrupted: waits for a checkpoint", file=sys.stderr, flush=True)
        process.terminate()
        process.wait()
        raise


def _die_with_parent() -> None:
    """Has Linux kill this process when the study is killed, so that nobody holds its directory."""
    if sys.platform == "linux":
        LIBRARY.prctl(DIE_WITH_PARENT, signal.SIGKILL)


def left_over(study: Study, records: Records, cells: Sequence[Cell]) -> dict[Network | Cell, None]:
    """Returns the trainings that are left, with the networks and teachers they need, in order."""
    left: dict[Network | Cell, None] = {}
    for cell in cells:
        for item in [*_searched(study, cell), *study.needs(cell), cell]:
            if not isinstance(item, str) and records.get(item) is None:
                left.setdefault(item)
    return left


def _searched(study: Study, cell: Cell) -> list[Item]:
    return [] if cell.network.target is None else study.needs(cell.network)


def remaining(study: Study, records: Records, cells: Sequence[Cell]) -> str:
    """Returns about how long the rest of a study takes, by what is finished of it."""
    return _about(estimates(study, records, cells).values())


def _about(parts: Sequence[tuple[int, float | None]]) -> str:
    known = sum(count * seconds for count, seconds in parts if seconds is not None)
    unknown = sum(count for count, seconds in parts if seconds is None)
    more = f"{unknown} runs that none was measured of" if unknown else ""
    return " and ".join(filter(None, [f"about {duration(known)}" if known else "", more]))


def estimates(
    study: Study, records: Records, cells: Sequence[Cell]
) -> dict[str, tuple[int, float | None]]:
    """Returns number and seconds of the runs that are left, by arm and by way to train.

    Seconds are the mean of those that are finished, else what the spec says.
    """
    taken = collections.defaultdict(list)
    for item in dict.fromkeys(item for cell in study.cells() for item in (cell.network, cell)):
        record = records.get(item)
        if record is not None and not _is_unpruned(item):
            taken[study.group(item)].append(record["seconds"])
    counts = collections.Counter(
        study.group(item) for item in left_over(study, records, cells) if not _is_unpruned(item)
    )
    return {
        group: (
            count,
            sum(taken[group]) / len(taken[group]) if group in taken else study.seconds.get(group),
        )
        for group, count in counts.items()
    }


def _is_unpruned(item: Network | Cell) -> bool:
    """Whether an item is the unpruned network itself, which nothing has to make."""
    return isinstance(item, Network) and item.target is None


def duration(seconds: float) -> str:
    """Returns a duration as people write it."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def plan(study: Study, records: Records, cells: Sequence[Cell], root: str) -> Iterator[str]:
    """Yields the lines that say what a run would do."""
    left = [*left_over(study, records, cells)]
    done = sum(records.get(cell) is not None for cell in cells)
    yield f"Study {study.name}: {len(cells)} trainings, {done} finished; directory {root}"
    for group, (count, seconds) in estimates(study, records, cells).items():
        each = "unknown time" if seconds is None else duration(seconds)
        yield f"  {group}: {count} left, {each} each"
    yield f"Left: {remaining(study, records, cells)}"
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
    study = load(given.gin_file)
    recorded = f"runs/study/{study.name}"
    root = os.path.expanduser(given.run_dir or recorded).rstrip("/")
    folder = pathlib.Path(given.records) if given.records else ROOT / "benchmarks" / "study"
    records = Records(folder / f"{study.name}.json", study, recorded)
    cells = chosen(study, given.only)
    code = EXIT_DONE
    if given.dry_run:
        print(*plan(study, records, cells, root), sep="\n")
        return code
    if not given.summary:
        with alone(root):
            code = Runner(study, root, records, given.data_dir).run(cells)
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
