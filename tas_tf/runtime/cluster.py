"""The workers of a run, from TF_CONFIG: their strategy, their directories, and lost workers.

Every worker runs the same command, and computes and decides the same. The first one, the chief,
works in the run directory and prints; each other one works in a copy of its own that is removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator

import tensorflow as tf

from tas_tf.errors import SpecError, WorkerLostError
from tas_tf.runtime import files

# How long a worker may take to answer.
PROBE_SECONDS = 3
# What TensorFlow raises where another worker does not answer, or is another than before.
_OF_LOSS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run.

    Attributes:
        jobs: Name of each worker's job, `chief` or `worker`, and its number there; the chief first.
        addresses: Where each listens, `host:port`.
        number: Which of them this process is.
    """

    jobs: tuple[tuple[str, int], ...]
    addresses: tuple[str, ...]
    number: int

    def name(self, number: int) -> str:
        """Returns what messages call a worker."""
        job, index = self.jobs[number]
        return f"{job} {index} ({self.addresses[number]})"

    def copy_of(self, path: str) -> str:
        """Returns where this worker copies a run directory to; nothing is there."""
        name = hashlib.sha256(f"{self.addresses[self.number]} {path}".encode()).hexdigest()[:16]
        own = os.path.join(tempfile.gettempdir(), f"tas_tf_worker_{name}")
        shutil.rmtree(own, ignore_errors=True)  # a worker that was killed leaves it
        return own

    def join(self) -> None:
        """Waits for the other workers; TensorFlow must not have done anything before."""
        others = [self.name(n) for n in range(len(self.jobs)) if n != self.number]
        print(f"{self.name(self.number)} waits for {', '.join(others)}", flush=True)
        self.wait()

    @functools.cached_property
    def strategy(self) -> tf.distribute.Strategy:
        """The strategy of all workers, made before TensorFlow does anything else."""
        return tf.distribute.MultiWorkerMirroredStrategy()

    def wait(self) -> None:
        """Returns when all workers have come here."""

        def meet() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.ones([1]))

        strategy = self.strategy
        met = tf.function(lambda: strategy.run(meet), autograph=False)()
        strategy.experimental_local_results(met)[0].numpy()

    def lost(self, error: tf.errors.OpError) -> list[int]:
        """Returns the workers that do not answer, or else those that an error names."""
        others = [n for n in range(len(self.jobs)) if n != self.number]
        silent = [n for n in others if not _answers(self.addresses[n])]
        named = re.findall(r"/job:(\w+)/replica:\d+/task:(\d+)", str(error))
        named = [(job, int(index)) for job, index in named]
        return silent or [n for n in others if self.jobs[n] in named]


@functools.cache
def current() -> Cluster | None:
    """Returns the workers that TF_CONFIG names; None where it is not set or names one only.

    Raises:
        SpecError: If it is malformed.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return None
    try:
        config = json.loads(text)
        addresses = {
            (job, index): _check_address(address)
            for job in ("chief", "worker")
            for index, address in enumerate(config["cluster"].get(job, []))
        }
        if set(config["cluster"]) - {"chief", "worker"}:
            raise ValueError("jobs other than chief and worker")
        jobs = tuple(addresses)
        number = jobs.index((config["task"]["type"], int(config["task"]["index"])))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SpecError(
            'TF_CONFIG: expected {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": '
            f'"worker", "index": NUMBER}}}}. Received: {text!r} ({error})'
        ) from None
    return Cluster(jobs, tuple(addresses.values()), number) if len(jobs) > 1 else None


def is_chief() -> bool:
    """Whether this process works in the run directory and prints."""
    cluster = current()
    return cluster is None or cluster.number == 0


@contextlib.contextmanager
def taking_part() -> Iterator[None]:
    """Waits for all workers, where there are several; then only the chief prints.

    Raises:
        WorkerLostError: See `naming_the_lost`.
    """
    with naming_the_lost(), contextlib.ExitStack() as held:
        cluster = current()
        if cluster is not None:
            cluster.join()
        if not is_chief():
            silent = held.enter_context(open(os.devnull, "w"))
            held.enter_context(contextlib.redirect_stdout(silent))
        yield


@contextlib.contextmanager
def naming_the_lost() -> Iterator[None]:
    """Turns what TensorFlow raises where a worker is lost into an error that names the worker.

    Raises:
        WorkerLostError: With the worker.
    """
    try:
        yield
    except _OF_LOSS as error:
        cluster = current()
        lost = cluster.lost(error) if cluster else []
        if cluster is None or not lost:
            raise
        names = " and ".join(cluster.name(number) for number in lost)
        raise WorkerLostError(
            f"{names} does not answer, and the others cannot go on without it. Give the same "
            "command on every worker again: they go on from the last checkpoint"
        ) from None


@contextlib.contextmanager
def own_directory(path: str) -> Iterator[str]:
    """Gives the directory that this process works in: the given one, or a copy of its own.

    A copy begins with what the chief has when all workers are here, and is removed in the end. All
    leave together, so that what the chief has made is there for what comes next.

    Args:
        path: The run directory, which all workers can read.
    """
    cluster = current()
    if cluster is None:
        yield path
        return
    own = path if is_chief() else cluster.copy_of(path)
    try:
        cluster.wait()
        if own != path:
            chiefs = os.path.expanduser(path)
            if tf.io.gfile.isdir(chiefs):
                files.transfer(chiefs, own, wanted=_is_copied)
        cluster.wait()
        yield own
        cluster.wait()
    finally:
        if own != path:
            shutil.rmtree(own, ignore_errors=True)


def _check_address(address: str) -> str:
    if not re.fullmatch(r".+:\d+", address):
        raise ValueError(f"{address!r} is no HOST:PORT")
    return address


def _answers(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def _is_copied(path: str) -> bool:
    """Whether a worker copies a file of a run directory: those at its top, and the checkpoints."""
    folder, name = os.path.split(path)
    return folder in ("", "checkpoints") and not name.endswith((".lock", files.TEMPORARY))
