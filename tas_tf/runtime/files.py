"""Files and folders, written completely or not at all, on any file system of `tf.io.gfile`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import tensorflow as tf

from tas_tf.errors import RunDirectoryError
from tas_tf.runtime import environment

TEMPORARY = ".tmp"


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
                _replace_folder(temporary, path)
            else:
                flush_to_disk(temporary)
                tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException:
        remove(temporary)
        raise


def _replace_folder(source: str, target: str) -> None:
    """Puts a folder in the place of another."""
    if tf.io.gfile.exists(target):
        tf.io.gfile.rmtree(target)
    if "://" not in target:
        tf.io.gfile.rename(source, target)
        return
    transfer(source, target, move=True)  # such file systems rename files only


def transfer(
    source: str,
    target: str,
    move: bool = False,
    wanted: Callable[[str], bool] = lambda path: True,
) -> None:
    """Copies or moves a file, or the files of a folder, to a path that may lie anywhere.

    The top of a folder, which tells what it is, comes last.

    Args:
        source: Path of a file or a folder.
        target: Path that the file or the folder gets.
        move: Whether they are gone from the source then.
        wanted: Whether a file is to be there, by its path within the folder.
    """
    bring = tf.io.gfile.rename if move else tf.io.gfile.copy
    if not tf.io.gfile.isdir(source):
        bring(source, target, overwrite=True)
        return
    source = source.rstrip("/")
    # "assets.extra" before "assets": to `ram://` it lies within.
    for folder, folders, names in sorted(tf.io.gfile.walk(source), reverse=True):
        # By name: to some file systems "a/." is another folder than "a".
        destination, within = folder.replace(source, target, 1), folder[len(source) :].strip("/")
        chosen = [name for name in sorted(names) if wanted(os.path.join(within, name))]
        if chosen or not (folders or names):
            tf.io.gfile.makedirs(destination)
        for name in chosen:
            file = os.path.join(folder, name)
            if tf.io.gfile.exists(file):
                bring(file, os.path.join(destination, name), overwrite=True)
        if move:
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
    """Returns the text of a file.

    Raises:
        OSError: If it is a pipe, a socket or a device, which may never end.
    """
    if "://" not in path and os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path} is no regular file")
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read().decode()


def first_line(error: Exception) -> str:
    """Returns the line of an exception's message that says what is wrong."""
    return environment.reason(error)
