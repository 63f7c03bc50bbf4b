"""Checkpoints: written whole, verified when they are read, the last few kept.

A checkpoint `ckpt-STEP` is TensorFlow's files and, written last, a manifest `ckpt-STEP.json` with
their sizes and hashes, the run and the shapes of its variables. A checkpoint without a manifest was
not finished. Reading a checkpoint reads numbers and runs no code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tas_tf import json_schema
from tas_tf.errors import RunDirectoryError, SpecError
from tas_tf.runtime.files import (
    explained_writing,
    first_line,
    flush_to_disk,
    read_text,
    remove,
    write_whole,
)
from tas_tf.runtime.run_directory import RunDirectory

KEPT = 3
_CHUNK = 2**22
_NAME = re.compile(r"\.?ckpt-(\d+)[._].*")


@dataclasses.dataclass(frozen=True)
class CheckpointInterval:
    """How often a run saves a checkpoint; it always saves one at its end.

    Attributes:
        epochs: At the ends of every so many epochs.
        seconds: Within an epoch, after how many seconds.
        steps: Also at the multiples of this number of steps; None leaves it to the seconds.
    """

    epochs: int = 1
    seconds: float = 600.0
    steps: int | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not value > 0:
                raise SpecError(
                    f"CheckpointInterval.{field.name}: expected a number above 0. Received: {value}"
                )


class Checkpoints:
    """The checkpoints of a run: the last few, in its folder `checkpoints/`.

    Args:
        directory: The run directory.
        interval: How often one is due.
        state: What is saved: name to variable, list of variables, or trackable object.

    Attributes:
        saved: Step of the last checkpoint that was restored or saved; None before.
        refused: What `restore` found and could not use: sentences that say why.
    """

    def __init__(
        self, directory: RunDirectory, interval: CheckpointInterval | None = None, **state: Any
    ):
        self.refused: list[str] = []
        self._directory = directory
        self._interval = interval or CheckpointInterval()
        self._checkpoint = tf.train.Checkpoint(**state)
        self._shapes = _shapes(state)
        self.saved: int | None = None
        self._clock = time.monotonic()

    def restore(self) -> bool:
        """Restores the latest checkpoint that is whole; returns whether there was one.

        Raises:
            RunDirectoryError: If there are finished checkpoints, and none of them can be used.
        """
        names_by_step = self._names_by_step()
        finished = [s for s, names in names_by_step.items() if f"ckpt-{s}.json" in names]
        self.refused = [
            f"{self._path(f'ckpt-{step}')} was not finished: it is left out"
            for step in names_by_step
            if step not in finished
        ]
        for step in sorted(finished, reverse=True):
            try:
                self._verify(step, names_by_step[step])
                self._checkpoint.read(self._path(f"ckpt-{step}")).assert_existing_objects_matched()
            # A damaged file raises an IndexError, another network an AssertionError, and so on.
            except Exception as error:
                path = self._path(f"ckpt-{step}")
                self.refused.append(f"{path} cannot be used: {first_line(error)}")
                continue
            self.saved = step
            return True
        if finished:
            raise RunDirectoryError(
                "\n".join([*self.refused, f"No checkpoint of {self._directory.path} can be used."])
                + f" Put back a whole one; or remove {self._path('')} to start over, or give "
                "another `run_dir`"
            )
        return False

    def due_after(self, epoch: int) -> bool:
        """Whether it is time to save at the end of an epoch, counted from 1."""
        return epoch % self._interval.epochs == 0

    def due(self, step: int) -> bool:
        """Whether it is time to save within an epoch, after this number of steps in all."""
        every = self._interval.steps
        return bool(every and step % every == 0) or (
            time.monotonic() - self._clock >= self._interval.seconds
        )

    def save(self, step: int) -> None:
        """Saves a checkpoint of this step, whole or not at all, and removes old ones.

        Raises:
            RunDirectoryError: If it cannot be written.
        """
        if step == self.saved:
            return
        prefix = self._path(f"ckpt-{step}")
        self._remove(step)
        try:
            with explained_writing(prefix):
                tf.io.gfile.makedirs(self._path(""))
                self._checkpoint.write(prefix)
                files = {name: self._measure(name) for name in self._names_by_step()[step]}
            manifest = {
                "step": step,
                "run": self._directory.fingerprint(),
                "variables": self._shapes,
                "files": files,
            }
            write_whole(f"{prefix}.json", json.dumps(manifest, indent=2) + "\n")
        except BaseException:
            self._remove(step)
            raise
        self.saved, self._clock = step, time.monotonic()
        for old in sorted(self._names_by_step(), reverse=True)[KEPT:]:
            self._remove(old)

    def _path(self, name: str) -> str:
        return self._directory.file("checkpoints", name)

    def _names_by_step(self) -> dict[int, list[str]]:
        """Returns the names of all that belongs to a checkpoint, by its step."""
        names_by_step: dict[int, list[str]] = {}
        if tf.io.gfile.isdir(self._path("")):
            for name in sorted(tf.io.gfile.listdir(self._path(""))):
                match = _NAME.fullmatch(name.rstrip("/"))
                if match:
                    names_by_step.setdefault(int(match[1]), []).append(name.rstrip("/"))
        return names_by_step

    def _remove(self, step: int) -> None:
        """Removes a checkpoint, its manifest first: without it, it counts as unfinished."""
        names = self._names_by_step().get(step, [])
        for name in sorted(names, key=lambda name: not name.endswith(".json")):
            remove(self._path(name))

    def _measure(self, name: str) -> dict[str, Any]:
        """Returns size and hash of a file that reached the disk."""
        flush_to_disk(self._path(name))
        digest, size = hashlib.sha256(), 0
        with tf.io.gfile.GFile(self._path(name), "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return {"bytes": size, "sha256": digest.hexdigest()}

    def _verify(self, step: int, names: list[str]) -> None:
        """Compares a checkpoint with its manifest, and the manifest with this run."""
        try:
            manifest = json_schema.load(read_text(self._path(f"ckpt-{step}.json")))
            files, run, shapes = manifest["files"], manifest["run"], manifest["variables"]
            expected = {name: (files[name]["bytes"], files[name]["sha256"]) for name in files}
        except (ValueError, LookupError, TypeError, tf.errors.OpError) as error:
            raise ValueError(f"its manifest is damaged: {first_line(error)}") from None
        if run != self._directory.fingerprint():
            raise ValueError("another run made it")
        if shapes != self._shapes:
            raise ValueError("it is of another network: its variables have other shapes")
        for name, (size, digest) in expected.items():
            if name not in names:
                raise ValueError(f"its file {name} is missing")
            received = self._measure(name)
            if received["bytes"] != size:
                raise ValueError(
                    f"its file {name} has {received['bytes']:,} bytes in place of {size:,}"
                )
            if received["sha256"] != digest:
                raise ValueError(f"its file {name} is damaged: bytes have changed")


def _shapes(state: Mapping[str, Any]) -> str:
    """Returns a hash of the shapes and types of all variables, in their order."""
    shapes = {
        name: [(list(v.shape), tf.as_dtype(v.dtype).name) for v in _variables(item)]
        for name, item in state.items()
    }
    return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()


def _variables(item: Any) -> list[Any]:
    if isinstance(item, list):
        return item
    alone = [item] if isinstance(item, tf.Variable) else []
    return list(getattr(item, "variables", alone))
