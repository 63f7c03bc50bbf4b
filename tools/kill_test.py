"""Kills runs by SIGKILL at random moments, and compares what comes of them with undisturbed ones.

    python tools/kill_test.py --kills 20

Two small searches, a distillation and an export, on scikit-learn's digits. Each is killed while it
starts, in its steps, in a checkpoint and in an export, started again by the same command until it
is done, and compared with the same command undisturbed: architecture, logits and weights bit for
bit, metrics without gap or repeat, times aside. Exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import io
import itertools
import json
import math
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence

from tas_tf.config.recorded import placeless, unbroken

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SPEC = """
include 'specs/base/digits.gin'
DEPTH = 8
EPOCHS = 3
SEARCH_EPOCHS = 5
CheckpointInterval.epochs = 2
CheckpointInterval.steps = 3
Measurement.paths = 25
Measurement.near = 3
Measurement.finalists = 3
Measurement.images = 128
Measurement.final_images = 256
"""
MEASURED = "--gin_bindings=run_search.decide = 'measurement'"
DERIVED = "--gin_bindings=Supernet.streams = 'derived'"
# Kills of one round: the commands run once through them to their end.
ROUND = {"search": 8, "measured": 6, "distillation": 8, "export": 4}
PATIENCE = 600
LOOK_SECONDS = 0.001


@dataclasses.dataclass(frozen=True)
class Command:
    """A command and the run directory that it makes, both relative to the folder it runs in."""

    arguments: tuple[str, ...]
    run_dir: str

    def start(self, folder: pathlib.Path) -> subprocess.Popen:
        """Starts it in a folder; what it prints goes to `RUN_DIR.log` there."""
        with open(folder / f"{self.run_dir}.log", "a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *self.arguments, f"--run_dir={self.run_dir}"],
                cwd=folder,
                stdout=log,
                stderr=log,
            )


@dataclasses.dataclass(frozen=True)
class Kill:
    """One kill: where it was aimed, what it left half-written, and how long the way back took.

    The way back is that of the first process after it that saved something before it was killed;
    it is not a number where nothing was left to do.
    """

    aim: str
    command: str
    step: int
    left: str
    recovered_s: float


def commands(spec: str = "../spec.gin", teacher: str = "../teacher") -> dict[str, Command]:
    """Returns what is killed, by name; each starts from what the one before made."""
    distil = ("--architecture=search", f"--teacher={teacher}")
    return {
        "search": Command(("tas_tf.search", f"--gin_file={spec}"), "search"),
        "measured": Command(("tas_tf.search", f"--gin_file={spec}", MEASURED, DERIVED), "measured"),
        "distillation": Command(("tas_tf.train", f"--gin_file={spec}", *distil), "student"),
        "export": Command(("tas_tf.export", "--model=student"), "export"),
    }


def finish(name: str, command: Command, folder: pathlib.Path) -> None:
    """Runs a command to its end."""
    _check_code(name, command, folder, command.start(folder).wait(PATIENCE))


class Watch:
    """What can be seen of a command from outside, in its run directory.

    Args:
        run: The run directory.
        process: The process that works in it, which has just begun.

    Attributes:
        progressed_s: After how many seconds it had saved something that outlasts it; None before.
    """

    def __init__(self, run: pathlib.Path, process: subprocess.Popen):
        self._run = run
        self._process = process
        self._begun = time.monotonic()
        self._before, self._done = self.saved(), self._has_result()
        self.progressed_s: float | None = None

    def names(self) -> list[str]:
        """Returns the names of its files and of its checkpoints' files."""
        folders = [self._run, self._run / "checkpoints"]
        return [name for folder in folders if folder.is_dir() for name in os.listdir(folder)]

    def saved(self) -> set[int]:
        """Returns the steps of the checkpoints that are finished."""
        matches = (re.fullmatch(r"ckpt-(\d+)\.json", name) for name in self.names())
        return {int(match[1]) for match in matches if match}

    def scores(self) -> int:
        """Returns how many paths are measured."""
        path = self._run / "scores.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def _has_result(self) -> bool:
        return (self._run / "result.json").exists()

    def new(self) -> int:
        """Returns how many steps the last checkpoint lies beyond the last one at the start."""
        return max(self.saved(), default=0) - max(self._before, default=0)

    def half_written(self) -> str:
        """Returns what is not finished: "checkpoint", "file", both or nothing."""
        names = self.names()
        steps = {re.match(r"ckpt-(\d+)[._]", n)[1] for n in names if re.match(r"ckpt-\d+[._]", n)}
        unfinished = any(int(step) not in self.saved() for step in steps)
        other = sorted(
            {n.split(".")[1] for n in names if n.endswith(".tmp")} - {f"ckpt-{s}" for s in steps}
        )
        return ", ".join(["checkpoint"] * unfinished + other)

    def works(self) -> bool:
        """Whether the process holds the run directory's lock."""
        try:
            return json.loads((self._run / "run.lock").read_text())["pid"] == self._process.pid
        except (OSError, ValueError):
            return False

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Waits for a condition; returns False if the process ends or the time is over first."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            progressed = self.new() or self._has_result() > self._done
            if progressed and self.progressed_s is None:
                self.progressed_s = time.monotonic() - self._begun
            if condition():
                return True
            time.sleep(LOOK_SECONDS)
        return False

    def caught(self, condition: Callable[[], bool]) -> bool:
        """Stops the process while a condition holds, however short that is; as `until` else."""
        return self.until(lambda: condition() and self._stopped_while(condition))

    def _stopped_while(self, condition: Callable[[], bool]) -> bool:
        self._process.send_signal(signal.SIGSTOP)
        # Until all its threads stand still, or it has ended; it stays there to be waited for.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if condition():
            return True
        self._process.send_signal(signal.SIGCONT)
        return False

    def wait(self, seconds: float = PATIENCE) -> bool:
        """Waits for so long; returns False if the process ends before."""
        self.until(lambda: False, seconds)
        return self._process.poll() is None


def aim(kind: str, watch: Watch, last: int, every: int, rng: random.Random) -> bool:
    """Waits for a moment of a kind; returns False if the process ends before.

    Args:
        kind: `start`, `step`, `checkpoint`, `score` or `export`.
        watch: What is seen of the process.
        last: The last step of the run; 0 where it takes none.
        every: About how many steps may be done before.
        rng: Chooses among the moments.
    """
    if kind == "start":
        return watch.wait(rng.uniform(0, 12))
    if kind == "score":
        # What is measured follows the last checkpoint.
        count = rng.randint(0, 30)
        return watch.until(lambda: watch.works() and watch.scores() >= count)
    if kind == "export":
        # What is exported follows the last checkpoint; a temporary file is there only for moments.
        begun = watch.until(lambda: watch.works() and max(watch.saved(), default=0) == last)
        if rng.random() < 0.7:
            return begun and watch.caught(lambda: "model" in watch.half_written())
        return begun and watch.wait(rng.uniform(0, 0.5))
    steps = rng.randint(1, max(1, every))
    if not watch.until(lambda: watch.works() and watch.new() >= steps):
        return False
    if kind == "step":
        watch.wait(rng.uniform(0, 0.1))
        return watch.until(lambda: watch.half_written() == "")
    return watch.caught(lambda: watch.half_written() == "checkpoint")


def kinds(kills: int, steps: bool, end: str = "export") -> list[str]:
    """Returns which moments to aim at in turn: what ends a run comes last."""
    if not steps:
        return ["start", *["export"] * kills][:kills]
    exports = max(1, kills // 4) if kills > 2 else 0
    turn = itertools.islice(
        itertools.cycle(["checkpoint", "step", "start", "step", "checkpoint"]), kills
    )
    return [*turn][: kills - exports] + [end] * exports


def disturb(
    name: str, command: Command, folder: pathlib.Path, kills: int, last: int, rng: random.Random
) -> Iterator[Kill]:
    """Kills a command so many times, restarts it after each, and lets it come to its end.

    Args:
        name: What it is called.
        command: The command.
        folder: Where it runs.
        kills: How often it is killed, at most: it may be done before.
        last: Its last step.
        rng: Chooses the moments.
    """
    aims = kinds(kills, last > 0, "score" if name == "measured" else "export")
    waiting: list[Kill] = []
    for kind in [*aims, None]:
        process = command.start(folder)
        watch = Watch(folder / command.run_dir, process)
        try:
            hit = kind is not None and aim(kind, watch, last, last // len(aims), rng)
            if hit:
                process.kill()
            else:
                watch.wait()
            code = process.wait(PATIENCE)
            hit = code == -signal.SIGKILL
        finally:
            process.kill()
            process.wait()
        if watch.progressed_s is not None:
            yield from (dataclasses.replace(k, recovered_s=watch.progressed_s) for k in waiting)
            waiting = []
        if not hit:
            _check_code(name, command, folder, code)
            yield from waiting
            return
        step = max(watch.saved(), default=0)
        waiting.append(Kill(kind, name, step, watch.half_written() or "nothing", math.nan))


def _check_code(name: str, command: Command, folder: pathlib.Path, code: int) -> None:
    if code not in (0, 3):
        log = (folder / f"{command.run_dir}.log").read_text()
        raise SystemExit(f"{name} ended with exit code {code}:\n{log[-3000:]}")


def differences(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """Returns what differs between two run directories, times and event files aside."""
    names = [_files(run) for run in (one, other)]
    differing = [f"only in one: {name}" for name in sorted(set(names[0]) ^ set(names[1]))]
    for name in sorted(set(names[0]) & set(names[1])):
        read = _reader(name)
        if read is not None and not _same(read(one / name), read(other / name)):
            differing.append(name)
    return differing


def _files(run: pathlib.Path) -> list[str]:
    """Returns what is compared: of the checkpoints the last, whatever the others' steps were."""
    paths = [path.relative_to(run) for path in run.rglob("*") if path.is_file()]
    last = f"ckpt-{last_step(run)}."
    return [
        str(path)
        for path in paths
        if path.parts[0] not in ("events", "checkpoints") or path.name.startswith(last)
    ]


def _reader(name: str) -> Callable[[pathlib.Path], object] | None:
    """Returns what reads a file for comparison; None for what another file stands for."""
    if name.endswith(("machine.json", "model_card.md")):
        return None  # holds the command, and so the directory; is made from the manifest
    if name.startswith("checkpoints/"):
        return _variables if name.endswith(".index") else None
    if name.startswith("saved_model/"):
        return _outputs if name.endswith("/saved_model.pb") else None
    if name.endswith(".keras"):
        return _weights
    if name.endswith((".json", ".jsonl")):
        return _records
    return _settings if name.endswith(".gin") else pathlib.Path.read_text


def _settings(path: pathlib.Path) -> list[str]:
    """Returns what makes a run what it is: neither how often it saves, nor where things lie."""
    lines = unbroken(path.read_text()).splitlines()
    return placeless([line for line in lines if not line.startswith("CheckpointInterval")])


def _records(path: pathlib.Path) -> object:
    text = path.read_text()
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    return [_without_times(json.loads(line)) for line in lines]


# What a run records of time, wherever it stands: `elapsed_seconds`, `median_ms`, and the like.
_OF_TIME = re.compile(r".*seconds.*|.*_ms|times|share_of_time|rounds")


def _without_times(value: object) -> object:
    """Returns a record without times, at whatever depth they stand in dictionaries and lists."""
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    if not isinstance(value, dict):
        return value
    # The files of a SavedModel, which a manifest lists, are compared by what they give.
    left_out = ("files", "bytes")
    kept = {k: v for k, v in value.items() if not (_OF_TIME.fullmatch(k) or k in left_out)}
    return {k: _without_times(v) for k, v in kept.items()}


def _weights(path: pathlib.Path) -> dict[str, object]:
    import h5py

    weights = {}
    with zipfile.ZipFile(path) as archive:
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(
                lambda name, item: (
                    weights.update({name: item[()]}) if hasattr(item, "shape") else None
                )
            )
    assert weights, f"{path} holds no weights"
    return weights


def _variables(path: pathlib.Path) -> dict[str, object]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(path).removesuffix(".index"))
    # What an epoch has summed up holds its seconds, and what describes the objects their order.
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_CHECK")]
    return {name: reader.get_tensor(name) for name in names if "epoch_so_far" not in name}


def _outputs(path: pathlib.Path) -> dict[str, object]:
    """Returns what a SavedModel makes of some images: its files name their parts as it comes."""
    import numpy as np
    import tensorflow as tf

    serve = tf.saved_model.load(str(path.parent)).signatures["serving_default"]
    _, signature = serve.structured_input_signature
    shape = (16, *signature["images"].shape[1:])
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return {name: value.numpy() for name, value in serve(images=tf.constant(images)).items()}


def _same(one: object, other: object) -> bool:
    if not isinstance(one, dict) or not all(hasattr(value, "tobytes") for value in one.values()):
        return one == other
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype and value.tobytes() == other[name].tobytes()
        for name, value in one.items()
    )


def last_step(run: pathlib.Path) -> int:
    """Returns the step of the last checkpoint of a run; 0 where it has none."""
    return max((int(p.stem[5:]) for p in run.glob("checkpoints/ckpt-*.json")), default=0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the test; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how many kills in all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    given = parser.parse_args(arguments)
    # For devices that add up in another order each time.
    os.environ["TF_DETERMINISTIC_OPS"] = "1"
    with tempfile.TemporaryDirectory() as made:
        return _test(pathlib.Path(made), given.kills, random.Random(given.seed))


def _test(folder: pathlib.Path, kills: int, rng: random.Random) -> int:
    (folder / "spec.gin").write_text(SPEC)
    finish("teacher", Command(("tas_tf.train", "--gin_file=spec.gin"), "teacher"), folder)
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir()
    for name, command in commands().items():
        finish(name, command, undisturbed)
    print(f"{'kill':>4} {'command':12} {'aimed at':10} {'step':>5} {'half-written':24} recovered")
    done, wrong = [], []
    for number in itertools.count(1):
        disturbed = folder / f"round{number}"
        disturbed.mkdir()
        for name, command in commands().items():
            share = min(ROUND[name], max(0, kills - len(done)))
            last = last_step(undisturbed / command.run_dir)
            for kill in disturb(name, command, disturbed, share, last, rng):
                done.append(kill)
                print(
                    f"{len(done):4} {kill.command:12} {kill.aim:10} {kill.step:5} {kill.left:24} "
                    f"{kill.recovered_s:5.1f} s",
                    flush=True,
                )
            run = command.run_dir
            wrong += [
                f"{disturbed.name}/{run}: {d}"
                for d in differences(undisturbed / run, disturbed / run)
            ]
        if len(done) >= kills:
            break
    _summarize(done, wrong)
    return 1 if wrong else 0


def _summarize(done: Sequence[Kill], wrong: Sequence[str]) -> None:
    times = [kill.recovered_s for kill in done if not math.isnan(kill.recovered_s)]
    aims = collections.Counter(kill.aim for kill in done)
    left = collections.Counter(name for kill in done for name in kill.left.split(", "))
    print(
        f"{len(done)} kills: {', '.join(f'{n} in {aim}' for aim, n in sorted(aims.items()))}\n"
        f"left half-written: {', '.join(f'{name} {n}' for name, n in left.most_common())}\n"
        f"from the restart until something new was saved: median {statistics.median(times):.1f} s, "
        f"at most {max(times):.1f} s"
    )
    if wrong:
        print("Different from the undisturbed run:", *wrong, sep="\n  ")
    else:
        print(
            "The same as undisturbed: architecture, logits, weights and optimizers bit for bit, "
            "metrics without gap or repeat"
        )


if __name__ == "__main__":
    sys.exit(main())
