"""Locks of run directories: one process uses a run directory at a time."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import tensorflow as tf

from tas_tf import json_schema
from tas_tf.errors import RunDirectoryError
from tas_tf.runtime.files import explained_writing, read_text, remove, write_whole
from tas_tf.runtime.run_directory import LOCK, RunDirectory

# Where the file system has no locks, an owner on another machine says so often that it is alive,
# and after so long a silence counts as dead.
BEAT_SECONDS = 20
SILENCE_SECONDS = 120
# Two readings of one process' start differ by less than this.
_SAME_START = 2
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def locked(directory: RunDirectory) -> Iterator[None]:
    """Holds the lock of a run directory that exists.

    On a file system of this machine the kernel holds it (`flock`), and lets it go when the process
    ends, however it ends. On others, such as a bucket, it is a file only; two processes that begin
    in the same second may then both believe that they hold it.

    Args:
        directory: The run directory.

    Raises:
        RunDirectoryError: If another process holds it, with the owner and its start.
    """
    path = directory.file(LOCK)
    with contextlib.ExitStack() as held:
        kernel, owner = _take(path, held, os.O_CREAT)
        if owner is not None:
            print(f"Takes over the lock of {_describe(owner)}: that process has ended")
        held.callback(remove, path)
        _write_owner(path, kernel)
        if not kernel:
            held.enter_context(_heartbeat(path))
        yield


def check_free(directory: RunDirectory) -> None:
    """Refuses a run directory that another process uses; leaves nothing behind.

    Raises:
        RunDirectoryError: With the owner and its start.
    """
    if directory.exists(LOCK):
        with contextlib.ExitStack() as held:
            _take(directory.file(LOCK), held, 0)


def _take(
    path: str, held: contextlib.ExitStack, creating: int
) -> tuple[bool, dict[str, Any] | None]:
    """Takes the lock, or raises; returns whether the kernel holds it, and who left it behind."""
    with explained_writing(path):
        kernel = "://" not in path and _flock(path, held, creating)
    owner = _read_owner(path)
    if not kernel and owner is not None and _is_alive(owner):
        raise _in_use(path, owner)
    return kernel, owner


def _flock(path: str, held: contextlib.ExitStack, creating: int) -> bool:
    """Takes the kernel's lock; returns False where the file system has none."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | creating, 0o666)
        except FileNotFoundError:
            if creating:
                raise
            return True
        held.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(path, _read_owner(path)) from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise
        # Its last owner may have removed the file since it was opened: then it locks nothing.
        is_there = os.path.exists(path)
        if not creating or (is_there and os.path.samestat(os.fstat(descriptor), os.stat(path))):
            return True


def _write_owner(path: str, kernel: bool) -> None:
    process = psutil.Process()
    owner = {
        "host": socket.gethostname(),
        "pid": process.pid,
        "started": process.create_time(),
        "alive": time.time(),
    }
    text = json.dumps(owner) + "\n"
    if kernel:  # in place: the lock is the file's, not its name's
        with explained_writing(path), open(path, "w") as file:
            file.write(text)
    else:
        write_whole(path, text)


@contextlib.contextmanager
def _heartbeat(path: str) -> Iterator[None]:
    """Says again and again, from a thread, that the owner is alive."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(RunDirectoryError):
                _write_owner(path, False)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _read_owner(path: str) -> dict[str, Any] | None:
    """Returns who wrote the lock; None where nobody did, or it cannot be read."""
    try:
        owner = json_schema.load(read_text(path))
        host, pid = str(owner["host"]), int(owner["pid"])
        return {"host": host, "pid": pid} | {k: float(owner[k]) for k in ("started", "alive")}
    except (ValueError, LookupError, TypeError, OverflowError, tf.errors.OpError):
        return None


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether the process that wrote a lock is still there; another may have its number by now."""
    if owner["host"] != socket.gethostname():
        return time.time() - owner["alive"] < SILENCE_SECONDS
    try:
        started = psutil.Process(owner["pid"]).create_time()
    except (psutil.Error, ValueError, OverflowError):
        return False
    return abs(started - owner["started"]) < _SAME_START


def _describe(owner: dict[str, Any]) -> str:
    try:
        started = datetime.datetime.fromtimestamp(owner["started"]).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        started = "an unknown time"
    return f"process {owner['pid']} on {owner['host']}, started {started}"


def _in_use(path: str, owner: dict[str, Any] | None) -> RunDirectoryError:
    user = _describe(owner) if owner else "another process"
    return RunDirectoryError(
        f"{os.path.dirname(path)} is in use by {user}. Wait until it has ended, end it, or give "
        "another `run_dir`",
        field="run_dir",
    )
