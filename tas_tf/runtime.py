"""What a run stands on: strategy, seeds, files written whole, the run directory, checkpoints."""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tas_tf.errors import RunDirectoryError

CONFIG = "config.gin"
METRICS = "metrics.jsonl"
RESULT = "result.json"
ARCHITECTURE = "architecture.json"
MODEL = "model.keras"
KEPT_CHECKPOINTS = 2

# Lines of a configuration that may differ when a run is taken up again: where things lie.
_PLACES = ("data_dir", "download")


def choose_strategy() -> tf.distribute.Strategy:
    """Returns MirroredStrategy where there are several accelerators, else the default strategy."""
    accelerators = tf.config.list_logical_devices("GPU")
    if len(accelerators) > 1:
        return _mirrored()
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored() -> tf.distribute.Strategy:
    # One for the whole process: two would number their collective operations alike, and clash.
    return tf.distribute.MirroredStrategy()


def device_types() -> list[str]:
    """Returns the types of the devices, such as CPU and GPU; starts them."""
    return [device.device_type for device in tf.config.list_logical_devices()]


def threads() -> int:
    """Returns how many threads one operation may use."""
    return tf.config.threading.get_intra_op_parallelism_threads() or len(os.sched_getaffinity(0))


def set_seed(seed: int) -> None:
    """Seeds the initial weights; all later randomness is a function of (seed, step)."""
    keras.utils.set_random_seed(seed)


def describe_machine() -> dict[str, Any]:
    """Returns the command as it was typed, devices and versions, for the record."""
    packages = ("tas_tf", "tensorflow", "keras", "tensorflow-datasets", "gin-config", "numpy")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "command": ["python", *sys.orig_argv[1:]],
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "device_names": _device_names(),
        "cores": os.cpu_count(),
        "threads": threads(),
        "versions": versions,
    }


def _device_names() -> list[str]:
    """Returns what the accelerators are called, or without any the processor."""
    accelerators = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
    processors = pathlib.Path("/proc/cpuinfo")
    models = []
    if processors.is_file():
        lines = processors.read_text().splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return accelerators or models[:1] or [platform.processor() or platform.machine()]


def device_clock() -> Callable[[], float]:
    """Returns a clock of device time in seconds, summed over the devices of this process.

    An accelerator counts as long as it is held; without any, the processor time of all threads is
    counted.
    """
    accelerators = len(tf.config.list_logical_devices("GPU"))
    if accelerators:
        return lambda: accelerators * time.perf_counter()
    return time.process_time


def write_whole(path: str, content: str | bytes) -> None:
    """Writes a file whole or not at all: under a temporary name, then renamed.

    Args:
        path: Path that `tf.io.gfile` understands.
        content: Text or bytes.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.remove(temporary)
        raise


def make_folder(path: str) -> None:
    """Makes a folder, and those above it, where there is none."""
    tf.io.gfile.makedirs(path)


def read_text(path: str) -> str:
    """Returns the text of a file."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read().decode()


def first_line(error: Exception) -> str:
    """Returns the first line of an exception's message, or its name if it has none."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0]


class RunDirectory:
    """The directory of a run: enough to resume it, to explain it and to repeat it.

    Args:
        path: Its path; `~` is the home directory.
    """

    def __init__(self, path: str):
        self.path = os.path.expanduser(str(path)).rstrip("/") or "/"

    def file(self, *names: str) -> str:
        """Returns the path of a file in it."""
        return "/".join([self.path, *names])

    def exists(self, *names: str) -> bool:
        """Whether it holds a file."""
        return tf.io.gfile.exists(self.file(*names))

    def check(self, config: str | None) -> None:
        """Refuses a directory that holds something else, or that cannot be written.

        Leaves nothing behind.

        Args:
            config: The resolved configuration of the run; None accepts any run.

        Raises:
            RunDirectoryError: With the difference.
        """
        if not tf.io.gfile.exists(self.path):
            self._check_writable(self._existing_ancestor())
            return
        if not tf.io.gfile.isdir(self.path):
            raise RunDirectoryError(f"--run_dir: {self.path} is a file, not a directory")
        self._check_writable(self.path)
        if not self.exists(CONFIG):
            if tf.io.gfile.listdir(self.path):
                raise RunDirectoryError(
                    f"--run_dir: {self.path} is not empty and is no run directory (it has no "
                    f"{CONFIG}); give an empty or a new directory"
                )
            return
        if config is not None:
            try:
                recorded = read_text(self.file(CONFIG))
            except (UnicodeDecodeError, tf.errors.OpError) as error:
                raise _unreadable(self.file(CONFIG), error) from None
            self._compare(recorded, config)

    def _compare(self, old: str, new: str) -> None:
        old_lines, new_lines = _identity(old), _identity(new)
        if old_lines != new_lines:
            changes = [
                line
                for line in difflib.unified_diff(old_lines, new_lines, lineterm="", n=0)
                if not line.startswith(("---", "+++", "@@"))
            ]
            if len(changes) > 4:
                changes[3:] = [f"and {len(changes) - 3} more"]
            shown = "\n  ".join(changes)
            raise RunDirectoryError(
                f"--run_dir: {self.path} holds a different experiment (- there, + asked for):\n"
                f"  {shown}\nGive another --run_dir, or the same settings."
            )

    def _existing_ancestor(self) -> str:
        path = self.path
        while path and not tf.io.gfile.exists(path):
            parent = os.path.dirname(path)
            if parent == path:
                break
            path = parent
        return path or "."

    def _check_writable(self, folder: str) -> None:
        """Refuses a folder that cannot be written; leaves nothing behind."""
        probe = f"{folder}/.tas_tf_{os.getpid()}"
        try:
            if not tf.io.gfile.isdir(folder):
                raise OSError(f"{folder} is a file")
            with tf.io.gfile.GFile(probe, "w") as file:
                file.write("")
            tf.io.gfile.remove(probe)
        except (OSError, tf.errors.OpError) as error:
            reason = first_line(error)
            raise RunDirectoryError(
                f"--run_dir: {self.path} cannot be written ({reason}); give a directory that can"
            ) from None

    def open(self, config: str) -> None:
        """Makes the directory, and records the configuration in it if there is none yet.

        Args:
            config: The resolved configuration of the run.
        """
        self.check(config)
        try:
            tf.io.gfile.makedirs(self.path)
        except (OSError, tf.errors.OpError) as error:
            raise RunDirectoryError(f"--run_dir: {self.path} cannot be made: {error}") from None
        if not self.exists(CONFIG):
            write_whole(self.file(CONFIG), config)

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file."""
        write_whole(self.file(name), json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str, fields: Sequence[str] = ()) -> dict[str, Any]:
        """Reads a JSON object.

        Args:
            name: Name of the file.
            fields: Fields that it must have.

        Raises:
            RunDirectoryError: If it is missing or malformed.
        """
        try:
            value = json.loads(read_text(self.file(name)))
            if not isinstance(value, dict):
                raise ValueError("expected a JSON object")
            missing = [field for field in fields if field not in value]
            if missing:
                raise ValueError(f"{', '.join(missing)} is missing")
        except (tf.errors.OpError, ValueError, RecursionError) as error:
            raise _unreadable(self.file(name), error) from None
        return value


def _unreadable(path: str, error: Exception) -> RunDirectoryError:
    reason = first_line(error)
    return RunDirectoryError(
        f"{path} cannot be read: {reason}. It is damaged, or no run made it: give another --run_dir"
    )


def _identity(config: str) -> list[str]:
    """Returns the bindings that make the experiment what it is."""
    text = config.replace("\\\n", " ")  # gin breaks long bindings
    lines = (" ".join(line.split()) for line in text.splitlines())
    return sorted(
        line
        for line in lines
        if line and not line.startswith("#") and not _parameter(line).endswith(_PLACES)
    )


def _parameter(line: str) -> str:
    return line.split("=", 1)[0].strip()


class Metrics:
    """`metrics.jsonl` of a run: one record per epoch.

    Args:
        directory: The run directory.
        step: Step that the run goes on from; later records of an interrupted run are dropped.
    """

    def __init__(self, directory: RunDirectory, step: int):
        self._directory = directory
        self._records = [r for r in read_metrics(directory) if r["step"] <= step]

    def write(self, record: dict[str, Any]) -> None:
        """Appends a record with `step` and `epoch`."""
        self._records.append(record)
        text = "".join(json.dumps(r) + "\n" for r in self._records)
        write_whole(self._directory.file(METRICS), text)

    def elapsed_seconds(self) -> float:
        """Returns the seconds that the records so far took."""
        return self._records[-1]["elapsed_seconds"] if self._records else 0.0

    def device_seconds(self) -> float:
        """Returns the seconds of device time that they took, see `device_clock`."""
        return self._records[-1].get("device_seconds", 0.0) if self._records else 0.0


def read_metrics(directory: RunDirectory) -> list[dict[str, Any]]:
    """Returns the records of a run so far.

    Raises:
        RunDirectoryError: If they cannot be read.
    """
    if not directory.exists(METRICS):
        return []
    try:
        records = [json.loads(line) for line in read_text(directory.file(METRICS)).splitlines()]
        if not all(isinstance(r, dict) and "step" in r for r in records):
            raise ValueError("a record without `step`")
    except (tf.errors.OpError, ValueError) as error:
        raise _unreadable(directory.file(METRICS), error) from None
    return records


class Checkpoints:
    """The checkpoints of a run: the last few, in its folder `checkpoints/`.

    Args:
        directory: The run directory.
        state: What is saved: name to trackable object.
    """

    def __init__(self, directory: RunDirectory, **state: Any):
        self._checkpoint = tf.train.Checkpoint(**state)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, directory.file("checkpoints"), max_to_keep=KEPT_CHECKPOINTS
        )

    def restore(self) -> bool:
        """Restores the latest checkpoint; returns whether there was one.

        Raises:
            RunDirectoryError: If it does not fit the run or cannot be read.
        """
        path = self._manager.latest_checkpoint
        if path is None:
            return False
        try:
            self._checkpoint.restore(path).assert_existing_objects_matched()
        # A damaged file raises an IndexError, another network an AssertionError, and so on.
        except Exception as error:
            reason = first_line(error)
            raise RunDirectoryError(
                f"{path}: this checkpoint cannot be restored: {reason}. Give another --run_dir"
            ) from None
        return True

    def save(self, step: int) -> None:
        """Saves a checkpoint of this step."""
        self._manager.save(checkpoint_number=step)


class Stopwatch:
    """Time since it was made, in seconds, continued from earlier sessions of the run.

    Args:
        earlier: Seconds of earlier sessions.
        clock: What is read, by default wall time.
    """

    def __init__(self, earlier: float = 0.0, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._start = clock() - earlier

    def seconds(self) -> float:
        """Returns the seconds so far."""
        return self._clock() - self._start


def finite(values: Iterable[float]) -> bool:
    """Whether all numbers are finite."""
    return all(value - value == 0 for value in values)
