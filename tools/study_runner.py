"""Runs what is left of a study: the project's commands, some at a time."""

from __future__ import annotations

import collections
import concurrent.futures
import ctypes
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from study_grid import TABLE, Cell, Network, Study, run_dir
from study_records import Records

from tas_tf.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_OUTSIDE_BAND

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXIT_FAILED = 1
LIBRARY = ctypes.CDLL(None)
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux
Item = Network | Cell | str


class Failed(Exception):
    """A command of the study that failed; the others go on."""


class Runner:
    """Runs what is left of a study.

    Args:
        study: The study.
        root: Its directory.
        records: What is finished.
        data_dir: Where prepared data sets lie.
        jobs: Commands that run at once, each on its share of the processor's cores.
    """

    def __init__(self, study: Study, root: str, records: Records, data_dir: str | None, jobs: int):
        self._study, self._root, self._records = study, root, records
        self._data = [] if data_dir is None else [f"--data_dir={os.path.expanduser(data_dir)}"]
        self._jobs = jobs
        self._failed: dict[Item, str] = {}
        # What follows, and the records, belong to whoever holds the condition.
        self._changed = threading.Condition()
        self._left: list[Cell] = []
        self._busy: set[Item] = set()
        self._processes: set[subprocess.Popen] = set()
        self._stopping = False

    def run(self, cells: Sequence[Cell]) -> int:
        """Runs trainings and what they need; returns the exit code."""
        self._left = [cell for cell in cells if not self._is_known(cell)]
        print(f"Study {self._study.name}: {len(cells)} trainings, {len(self._left)} left")
        self._measure_latencies()
        with concurrent.futures.ThreadPoolExecutor(self._jobs) as pool:
            workers = [pool.submit(self._work, number) for number in range(self._jobs)]
            try:
                for worker in concurrent.futures.as_completed(workers):
                    worker.result()
            except BaseException:
                self._stop()
                raise
        if self._failed:
            print("Failed:", *self._failed.values(), sep="\n  ")
        return EXIT_FAILED if self._failed else EXIT_DONE

    def _measure_latencies(self) -> None:
        """Measures the table of latencies where one is needed: nothing else runs beside it."""
        if any(TABLE in self._missing(cell) for cell in self._left):
            try:
                self._finish(TABLE)
            except Failed as error:
                print(f"{TABLE}: FAILED: {error}", flush=True)
            except BaseException:
                self._stop()
                raise

    def _work(self, number: int) -> None:
        """Runs trainings until none is left that nobody works on."""
        if self._jobs > 1:
            _hold_to_cores(number, self._jobs)
        while (taken := self._next()) is not None:
            cell, needed = taken
            try:
                self._finish(cell)
            except Failed as error:
                print(f"{cell.key}: FAILED: {error}", flush=True)
            else:
                record = self._records.get(cell)
                same = f", as {record['same_as']}" if "same_as" in record else ""
                took = duration(record["seconds"])
                print(f"{cell.key}: {record['accuracy']:.2%}, {took}{same}", flush=True)
            finally:
                self._release(needed)

    def _next(self) -> tuple[Cell, set[Item]] | None:
        """Returns the first training for which nothing is needed that others are making.

        With it comes what is to be made for it, which nobody else makes until it is released.
        """
        with self._changed:
            while self._left and not self._stopping:
                for cell in self._left:
                    needed = self._missing(cell)
                    if not needed & self._busy:
                        time_left = remaining(self._study, self._records, self._left, self._jobs)
                        print(f"{len(self._left)} left, {time_left}: {cell.key}", flush=True)
                        self._left.remove(cell)
                        self._busy |= needed
                        return cell, needed
                self._changed.wait()
        return None

    def _missing(self, item: Item) -> set[Item]:
        """Returns what is to be made for an item, and the item."""
        if item in self._failed or self._is_there(item):
            return set()
        return {item}.union(*(self._missing(needed) for needed in self._needs(item)))

    def _needs(self, item: Item) -> list[Item]:
        """Returns whose run directories an item's command reads: records have architectures."""
        recorded = self._is_recorded(item)
        return [
            needed
            for needed in self._study.needs(item)
            if not (recorded and isinstance(needed, Network))
        ]

    def _is_recorded(self, item: Item) -> bool:
        """Whether a training needs of its network what the records alone have."""
        return (
            isinstance(item, Cell)
            and "inherited" not in item.way
            and item.network.target is not None
            and not self._is_there(item.network)
            and self._records.suffices(item.network)
        )

    def _finish(self, item: Item) -> None:
        """Sees to it that an item's run directory holds what others need of it."""
        if item in self._failed:
            raise Failed(self._failed[item])
        if not self._is_there(item):
            for needed in self._needs(item):
                self._finish(needed)
            if not self._is_shared(item):
                self._call(item)
        if not isinstance(item, str):
            with self._changed:
                self._records.take(item, self._root)
        self._release({item})

    def _is_known(self, cell: Cell) -> bool:
        return self._records.take(cell, self._root) is not None or self._records.share(cell)

    def _is_shared(self, item: Item) -> bool:
        """Whether a training has the record of another one, whose network is the same."""
        with self._changed:
            return isinstance(item, Cell) and self._records.share(item)

    def _release(self, items: set[Item]) -> None:
        """Lets others have what is made."""
        with self._changed:
            self._busy -= items
            self._changed.notify_all()

    def _is_there(self, item: Item) -> bool:
        path = f"{self._root}/{item}" if isinstance(item, str) else None
        return os.path.exists(path or f"{run_dir(item, self._root)}/result.json")

    def _architecture(self, item: Item) -> str | None:
        """Writes the architecture of a training if only the records have it; returns its path."""
        if not self._is_recorded(item):
            return None
        path = pathlib.Path(self._root, "recorded", f"{item.network.key}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._records.architecture(item.network))
        return str(path)

    def _call(self, item: Item) -> None:
        """Runs the command of an item; what it says goes to a log."""
        command = self._study.command(item, self._root, self._architecture(item))
        words = [sys.executable, *command, *self._data]
        log = pathlib.Path(self._root, "logs", f"{getattr(item, 'key', item)}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        print(f"  {words[2]}, log in {log}", flush=True)
        with log.open("ab") as output:
            output.write(f"$ {shlex.join(words)}\n".encode())
            output.flush()
            code = self._outcome(words, output)
        if code == EXIT_INTERRUPTED or self._stopping:
            raise KeyboardInterrupt
        if code not in (EXIT_DONE, EXIT_OUTSIDE_BAND):
            end = " ".join(log.read_text(errors="replace").splitlines()[-3:])
            self._failed[item] = f"{getattr(item, 'key', item)}: exit code {code}, {log}: {end}"
            raise Failed(self._failed[item])

    def _outcome(self, words: Sequence[str], output) -> int:
        """Runs a command to its end and returns its exit code."""
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with self._changed:
            if self._stopping:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                words,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # a terminal's Ctrl-C reaches it through us alone, once
                preexec_fn=_die_with_parent,
            )
            self._processes.add(process)
        code = process.wait()
        with self._changed:
            self._processes.discard(process)
        return code

    def _stop(self) -> None:
        """Interrupts the commands that run: each writes a checkpoint, and ends."""
        print("\nInterrupted: waits for checkpoints", file=sys.stderr, flush=True)
        with self._changed:
            self._stopping = True
            for process in self._processes:
                process.terminate()
            self._changed.notify_all()


def _hold_to_cores(number: int, parts: int) -> None:
    """Holds this thread, and the commands that it starts, to its part of the cores."""
    if hasattr(os, "sched_setaffinity"):  # of Linux
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number::parts] or cores)


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


def remaining(study: Study, records: Records, cells: Sequence[Cell], jobs: int) -> str:
    """Returns about how long the rest of a study takes, by what is finished of it."""
    parts = estimates(study, records, cells).values()
    known = sum(count * seconds for count, seconds in parts if seconds is not None) / jobs
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
