"""The environment of a command: what it sets for its own process, and what it says of a failure."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator

from tas_tf.errors import InstallationError, UserError

# What TensorFlow adds to a message: which of its operations failed, and how it came there.
_OF_TENSORFLOW = re.compile(r"\{\{\w+ .*?\}\} ?| *\[Op:\w+\]( name:)?")
_NOISE = re.compile(r"\s*|Graph execution error:|Detected at node .*|<stack traces .*|\s*\[\[.*")
# What is to be done, by what a message says; the first that fits.
_ADVICE = {
    "no space left|quota": "Make room",
    "permission denied|not permitted|read-only": "Give this user the permission",
    "temporary directory": "Set TMPDIR to a folder that can be written",
    "no such file|not found|does not exist|not a directory|is a directory": (
        "Check that it is there and what it should be, and stays there while the command runs"
    ),
    "too many open files": "Raise the limit, such as by `ulimit -n 4096`",
    "out of memory|OOM |cannot allocate": "Take a smaller BATCH_SIZE, or end other programs",
    "codec can't|null (byte|character)": "Give it a name, or content, that is UTF-8 text",
    "broken pipe": "Whatever read what was printed has ended: send it to a file",
}
_AGAIN = "The same command goes on from what was saved; with --verbosity=0 it says where it failed"


def settle() -> None:
    """Sets what Keras reads as it starts, for this process, to the settings of this package.

    The package computes with TensorFlow, channels last; variables are float32. What a user has
    chosen for other programs, in the environment or in `~/.keras/keras.json`, does not reach it.
    """
    for name in [name for name in os.environ if name.startswith("KERAS_")]:
        del os.environ[name]
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = os.devnull  # where no keras.json lies, whether or not it can be read


def check_keras() -> None:
    """Refuses to build networks by settings of Keras that this package does not support.

    Commands make their own, see `settle`; a program that imports the package has those of Keras.

    Raises:
        InstallationError: With the setting.
    """
    import keras

    received = {
        "backend": (keras.backend.backend(), "tensorflow"),
        "image_data_format": (keras.config.image_data_format(), "channels_last"),
    }
    for name, (value, expected) in received.items():
        if value != expected:
            raise InstallationError(
                f"Keras: expected the {name} {expected}. Received: {value}, from the environment, "
                "from keras.json or from the program; set it before Keras is imported"
            )


def reason(error: BaseException) -> str:
    """Returns the line of an exception's message that says what is wrong, or else its name."""
    text = _OF_TENSORFLOW.sub("", str(getattr(error, "message", None) or error))
    lines = [line.strip() for line in text.splitlines() if not _NOISE.fullmatch(line)]
    return (lines or [type(error).__name__])[0]


@contextlib.contextmanager
def explained(verbose: bool = False) -> Iterator[None]:
    """Turns what the system raises inside into a message: what, where, and what to do.

    Whatever opens, lists, decodes, starts up or runs out of something comes here, unless what
    called it knew better what to say.

    Args:
        verbose: Whether the traceback is printed too.

    Raises:
        UserError: In place of any error of the operating system, of TensorFlow's runtime or of an
            encoding.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not _is_of_the_system(error):
            raise
        if verbose:
            traceback.print_exception(error)
        raise UserError(said(error)) from error


def _is_of_the_system(error: Exception) -> bool:
    # TensorFlow is not imported for this: where it has not started, it has raised nothing.
    raised = getattr(sys.modules.get("tensorflow.python.framework.errors_impl"), "OpError", ())
    if isinstance(error, ValueError) and re.search("embedded null", str(error)):
        return True  # what Python says of a name that no system can have
    return isinstance(error, (OSError, UnicodeError, MemoryError)) or isinstance(error, raised)


def said(error: Exception) -> str:
    """Returns what users are told of an error of the system."""
    what = re.sub(r"^\[Errno \d+\] ", "", reason(error)).rstrip(".")
    if isinstance(error, (UnicodeEncodeError, UnicodeDecodeError)):
        what = f"{error.object[:200]!r}: {what}"
    if isinstance(error, MemoryError):
        what = "out of memory"
    known = (advice for text, advice in _ADVICE.items() if re.search(text, what, re.IGNORECASE))
    return f"{what}. {next(known, 'What it means depends on where it was raised')}. {_AGAIN}"
