"""What a run stands on: strategy, seeds, files written whole, the run directory."""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tas_tf import cluster
from tas_tf.errors import RunDirectoryError

CONFIG = "config.gin"
RESULT = "result.json"
DATA_RECORD = "data.json"
ARCHITECTURE = "architecture.json"
MODEL = "model.keras"
LOCK = "run.lock"
TEMPORARY = ".tmp"
# What a report adds to a directory, whatever else is in it; its Markdown keeps pictures apart.
REPORT = "report"
PICTURES = "{}_pictures"
REPORT_FILES = (f"{REPORT}.html", f"{REPORT}.md", PICTURES.format(REPORT))

# What TensorFlow adds to a message: which of its operations failed.
_OF_TENSORFLOW = re.compile(r"\{\{\w+ .*?\}\} ?| *\[Op:\w+\]( name:)?")
# Settings that may differ when a run is taken up again: where things lie, and how often it saves.
_FREE = ("data_dir", "download", "CheckpointInterval.seconds", "CheckpointInterval.steps")
_FREE += ("run_export.formats",)


def choose_strategy() -> tf.distribute.Strategy:
    """Returns the strategy of TF_CONFIG's workers, or of several accelerators, or the default."""
    workers = cluster.current()
    if workers is not None:
        return workers.strategy
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
        "device_names": device_names(),
        "cores": os.cpu_count(),
        "threads": threads(),
        "versions": versions,
    }


def device_names() -> list[str]:
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


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Gives a temporary path; what is written there takes the place of `path`, whole or not at all.

    Args:
        path: Path of a file or a folder that `tf.io.gfile` understands.

    Raises:
        RunDirectoryError: If it cannot be written, such as on a full disk. Nothing is left behind.
    """
    folder, name = os.path.split(path)
    # No name that begins with the final one: to `ram://`, that would be a file in a folder.
    temporary = os.path.join(folder, f".{name}.{os.getpid()}{TEMPORARY}")
    try:
        with explained_writing(path):
            yield temporary
            if tf.io.gfile.isdir(temporary):
                _move_folder(temporary, path)
            else:
                flush_to_disk(temporary)
                tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException:
        remove(temporary)
        raise


def _move_folder(source: str, target: str) -> None:
    """Puts a folder in the place of another."""
    if tf.io.gfile.exists(target):
        tf.io.gfile.rmtree(target)
    if "://" not in target:
        tf.io.gfile.rename(source, target)
        return
    # Such file systems rename files only. The top of a folder, which tells what it is, comes last,
    # and "assets.extra" before "assets": to `ram://` it lies within.
    contents = {folder: names for folder, _, names in tf.io.gfile.walk(source)}
    for folder in sorted(contents, reverse=True):
        destination = folder.replace(source, target, 1)
        tf.io.gfile.makedirs(destination)
        for name in sorted(contents[folder]):
            if tf.io.gfile.exists(os.path.join(folder, name)):
                tf.io.gfile.rename(os.path.join(folder, name), os.path.join(destination, name))
        tf.io.gfile.rmtree(folder)


@contextlib.contextmanager
def explained_writing(path: str) -> Iterator[None]:
    """Turns what a file system raises into a message for users.

    Args:
        path: What is being written.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise RunDirectoryError(
            f"{path} cannot be written: {first_line(error)}. What was saved before is intact. Make "
            "room or give back the permission to write, then give the same command: it goes on"
        ) from None


def write_whole(path: str, content: str | bytes) -> None:
    """Writes a file whole or not at all: under a temporary name, then renamed.

    Args:
        path: Path that `tf.io.gfile` understands.
        content: Text or bytes.

    Raises:
        RunDirectoryError: If it cannot be written.
    """
    with replacing(path) as temporary, tf.io.gfile.GFile(temporary, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def flush_to_disk(path: str) -> None:
    """Makes a file outlast a loss of power, where it lies on a file system of this machine."""
    if "://" not in path:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(path: str) -> None:
    """Removes a file or a folder if it is there; a file system that refuses is left alone."""
    with contextlib.suppress(OSError, tf.errors.OpError):
        if tf.io.gfile.isdir(path):
            tf.io.gfile.rmtree(path)
        elif tf.io.gfile.exists(path):
            tf.io.gfile.remove(path)


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
    text = _OF_TENSORFLOW.sub("", text).strip()
    return (text.splitlines() or [type(error).__name__])[0]


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
            passing = (LOCK, *REPORT_FILES)
            if any(n not in passing for n in self._names() if not n.endswith(TEMPORARY)):
                raise RunDirectoryError(
                    f"--run_dir: {self.path} is not empty and is no run directory (it has no "
                    f"{CONFIG}); give an empty or a new directory"
                )
            return
        if config is not None:
            self._compare(self._identity(), _identity(config))

    def _identity(self) -> list[str]:
        """Returns the recorded bindings that make the experiment what it is."""
        try:
            return _identity(read_text(self.file(CONFIG)))
        except (UnicodeDecodeError, tf.errors.OpError) as error:
            raise _unreadable(self.file(CONFIG), error) from None

    def fingerprint(self) -> str:
        """Returns a hash of the experiment that is recorded in it; "" where none is."""
        if not self.exists(CONFIG):
            return ""
        return hashlib.sha256("\n".join(self._identity()).encode()).hexdigest()

    def _names(self) -> list[str]:
        return [name.rstrip("/") for name in tf.io.gfile.listdir(self.path)]

    def _compare(self, old_lines: list[str], new_lines: list[str]) -> None:
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
        probe = f"{folder}/.tas_tf_{os.getpid()}{TEMPORARY}"
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

    def make(self) -> None:
        """Makes the directory, and those above it, where there is none."""
        try:
            tf.io.gfile.makedirs(self.path)
        except (OSError, tf.errors.OpError) as error:
            reason = first_line(error)
            raise RunDirectoryError(f"--run_dir: {self.path} cannot be made: {reason}") from None

    def open(self, config: str | None) -> None:
        """Makes the directory, and records the configuration in it if there is none yet.

        Removes what a process that was killed has left half-written: nobody else may use it.

        Args:
            config: The resolved configuration of the run; None records none.
        """
        self.check(config)
        self.make()
        for name in self._names():
            if name.endswith(TEMPORARY):
                remove(self.file(name))
        if config is not None and not self.exists(CONFIG):
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
        if line and not line.startswith("#") and not _parameter(line).endswith(_FREE)
    )


def _parameter(line: str) -> str:
    return line.split("=", 1)[0].strip()
