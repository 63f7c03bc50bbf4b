"""The run directory: its files, and the check that it holds the requested experiment."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tas_tf.config.recorded import anchored, placeless, retired, unbroken
from tas_tf.errors import RunDirectoryError
from tas_tf.runtime.files import TEMPORARY, first_line, read_text, remove, write_whole

CONFIG = "config.gin"
RESULT = "result.json"
DATA_RECORD = "data.json"
ARCHITECTURE = "architecture.json"
MODEL = "model.keras"
LOCK = "run.lock"
# What a report adds to a directory, whatever else is in it; its Markdown keeps pictures apart.
REPORT = "report"
PICTURES = "{}_pictures"
REPORT_FILES = (f"{REPORT}.html", f"{REPORT}.md", PICTURES.format(REPORT))
# Settings that may differ when a run is taken up again: where things lie, and how often it saves.
_FREE: tuple[str, ...] = (
    "data_dir",
    "download",
    "CheckpointInterval.seconds",
    "CheckpointInterval.steps",
)
_FREE += ("run_export.formats",)


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
            raise _refusal(f"{self.path} is a file, not a directory")
        self._check_writable(self.path)
        if not self.exists(CONFIG):
            passing = (LOCK, *REPORT_FILES)
            if any(n not in passing for n in self._names() if not n.endswith(TEMPORARY)):
                raise _refusal(
                    f"{self.path} is not empty and is no run directory (it has no {CONFIG}); give "
                    "an empty or a new directory"
                )
            return
        if config is not None:
            # Where images lie is no part of the experiment once it is recorded which they are.
            known = self._knows_images()
            old, new = (
                placeless([line for line in lines if retired(line) is None], images=known)
                for lines in (self._identity(), _identity(config))
            )
            self._compare(old, new)

    def _knows_images(self) -> bool:
        """Whether it, or the first part of a pipeline in it, has recorded an identity of images."""
        for place in ([], ["teacher"]):
            if self.exists(*place, DATA_RECORD):
                return "identity" in self.read_json("/".join([*place, DATA_RECORD]))
        return False

    def _identity(self) -> list[str]:
        """Returns the recorded bindings that make the experiment what it is."""
        return _identity(self._config())

    def _config(self) -> str:
        try:
            return read_text(self.file(CONFIG))
        except (UnicodeDecodeError, tf.errors.OpError) as error:
            raise _unreadable(self.file(CONFIG), error) from None

    def fingerprint(self) -> str:
        """Returns a hash of the experiment that is recorded in it; "" where none is."""
        if not self.exists(CONFIG):
            return ""
        # Checkpoints hold this hash: what it is made of, and how, stays as it is.
        lines = _bindings(self._config().replace("\\\n", " "))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

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
            raise _refusal(
                f"{self.path} holds a different experiment (- there, + asked for):\n"
                f"  {shown}\nGive another `run_dir`, or the same settings."
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
            raise _refusal(
                f"{self.path} cannot be written ({reason}); give a directory that can"
            ) from None

    def make(self) -> None:
        """Makes the directory, and those above it, where there is none."""
        try:
            tf.io.gfile.makedirs(self.path)
        except (OSError, tf.errors.OpError) as error:
            reason = first_line(error)
            raise _refusal(f"{self.path} cannot be made: {reason}") from None

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
            write_whole(self.file(CONFIG), anchored(config, self.path))

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


def _refusal(message: str) -> RunDirectoryError:
    return RunDirectoryError(message, field="run_dir")


def _unreadable(path: str, error: Exception) -> RunDirectoryError:
    reason = first_line(error)
    return RunDirectoryError(
        f"{path} cannot be read: {reason}. It is damaged, or no run made it: give another `run_dir`"
    )


def _identity(config: str) -> list[str]:
    """Returns the bindings that make the experiment what it is, a line each."""
    return _bindings(unbroken(config))


def _bindings(text: str) -> list[str]:
    lines = (" ".join(line.split()) for line in text.splitlines())
    return sorted(
        line
        for line in lines
        if line and not line.startswith("#") and not _parameter(line).endswith(_FREE)
    )


def _parameter(line: str) -> str:
    return line.split("=", 1)[0].strip()
