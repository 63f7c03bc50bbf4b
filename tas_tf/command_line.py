"""The command line: flags that commands share, and the message and exit code of a mistake."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import app, flags, logging

from tas_tf import plain_text
from tas_tf.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    SpecError,
    UserError,
    WorkerLostError,
)
from tas_tf.runtime import environment
from tas_tf.runtime.signals import Interruption
from tas_tf.runtime.stderr import held_back

MAX_PROFILED = 100  # a profile of more steps is too large for a browser

_FLAGS = flags.FLAGS
# Experiments that `--seed` is for.
_SEEDED = ("run_search", "run_training", "run_baseline")
# What the commands call a setting that an error names.
_NAMES = {
    "align": "--align",
    "download": "--download",
    "formats": "--format",
    "output": "--output",
    "run_dir": "--run_dir",
    "target": "TARGET",
}
_EXIT_CODES = (
    "Exit codes: 0 done; 2 a mistake in what was asked for; 3 done, but outside the budget's\n"
    "band, or far less accurate than the Keras model; 75 interrupted, the same command goes on."
)


def define_flags(run_dir: str | None, trains: bool = False) -> None:
    """Defines the flags that every command with a spec has.

    Args:
        run_dir: What the help says of `--run_dir`; None for a command that has no run directory.
        trains: Whether the command runs steps, which `--profile_steps` can then profile.
    """
    flags.DEFINE_multi_string(
        "gin_file", [], "Spec: a path here, or a preset such as specs/resnet110.gin"
    )
    flags.DEFINE_multi_string(
        "gin_bindings", [], "A setting that overrides the spec, such as 'TARGET = 0.4'"
    )
    if run_dir is not None:
        flags.DEFINE_string("run_dir", None, run_dir)
    flags.DEFINE_string(
        "data_dir", None, "Where prepared TFDS data sets lie; by default ~/tensorflow_datasets."
    )
    flags.DEFINE_bool("download", False, "Whether a data set that is not there may be downloaded.")
    flags.DEFINE_bool("dry_run", False, "Say what would be done, and do nothing.")
    flags.DEFINE_integer("seed", None, "Seed of everything, in place of the spec's.")
    if trains:
        flags.DEFINE_string(
            "profile_steps",
            None,
            "First and last step to profile for TensorBoard, such as 20,25, counted from 1 where "
            "the process begins.",
        )


def define_target(text: str, several: bool = False) -> None:
    """Defines the flag of a budget.

    Args:
        text: What the help says of it.
        several: Whether it may be given several times.
    """
    if several:
        flags.DEFINE_multi_string("target", [], text)
    else:
        flags.DEFINE_string("target", None, text)


def run(command: Callable[[], int]) -> None:
    """Runs a command with absl; a user's mistake is a message and exit code 2, no traceback.

    Args:
        command: Does the work after flags are parsed; returns the exit code.
    """
    environment.settle()
    parser = functools.partial(_parse_flags, command)
    with plain_text.plain_output():
        app.run(lambda _: sys.exit(_guarded(command)), flags_parser=parser)


def run_experiment(
    name: str,
    *,
    bindings: Sequence[str] = (),
    default_spec: str | None = None,
    default_run_dir: str | None = None,
    has_run_dir: bool = True,
    threads: int | None = None,
    **arguments: Any,
) -> int:
    """Loads the spec that the flags ask for, and runs an experiment.

    Args:
        name: The experiment's name in specs.
        bindings: Further bindings that the command's own flags stand for.
        default_spec: Spec to take without `--gin_file`.
        default_run_dir: Run directory to take without `--run_dir`.
        has_run_dir: Whether the command has a run directory.
        threads: Number of threads that TensorFlow is to have; None leaves it to TensorFlow.
        arguments: What else the experiment gets.

    Returns:
        The exit code.

    Raises:
        SpecError: If there is no spec, no run directory or no data directory.
    """
    from tas_tf.config import gin_config, presets

    files = _FLAGS.gin_file or ([default_spec] if default_spec else [])
    if has_run_dir:
        run_dir = _FLAGS.run_dir or default_run_dir
        _check_run_dir(run_dir)
        arguments["run_dir"] = run_dir or "runs/dry_run"
    _check_flags(files)
    for file in files:
        presets.find_spec(file)
    with started(threads):
        from tas_tf.experiments import common, registry  # noqa: F401, what gin can bind

        gin_config.load(files, [*_FLAGS.gin_bindings, *_flag_bindings(), *bindings])
        return common.call(name, dry_run=_FLAGS.dry_run, **arguments)


@contextlib.contextmanager
def started(threads: int | None = None) -> Iterator[None]:
    """Starts TensorFlow, as one of several workers where there are some.

    Args:
        threads: Number of threads; None leaves it to TensorFlow.
    """
    # TensorFlow is imported only now: a mistake in the flags is answered at once.
    with without_startup_noise():
        from tas_tf.deployment import runners
        from tas_tf.runtime import cluster, devices

    with contextlib.ExitStack() as held:
        with without_startup_noise():
            held.enter_context(cluster.taking_part())
            if threads is not None:
                runners.use_threads(threads)
            devices.device_types()
        # What TensorFlow and Keras log of their own work stays out of the way of ours.
        if not _FLAGS["verbosity"].present:
            logging.set_verbosity(logging.ERROR)
        yield


def _check_run_dir(run_dir: str | None) -> None:
    if not run_dir and not _FLAGS.dry_run:
        raise SpecError(
            "--run_dir: a directory for the run is needed, such as --run_dir=runs/first"
        )


def _check_flags(files: Sequence[str]) -> None:
    if not files:
        raise SpecError("--gin_file: a spec is needed, such as --gin_file=specs/resnet20.gin")
    data_dir = os.path.expanduser(_FLAGS.data_dir or ".")
    if not (_FLAGS.download or "://" in data_dir or os.path.isdir(data_dir)):
        raise SpecError(
            f"--data_dir: {_FLAGS.data_dir} is no directory; give the one that prepared TFDS data "
            "sets lie in"
        )


def profile_steps() -> tuple[int, int] | None:
    """Returns what `--profile_steps` asks for.

    Raises:
        SpecError: If it is malformed.
    """
    text = _FLAGS.profile_steps
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*", text)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last < first + MAX_PROFILED:
        raise SpecError(
            "--profile_steps: expected the first and the last step, such as 20,25: from 1, "
            f"ascending, at most {MAX_PROFILED} steps. Received: {text!r}"
        )
    return first, last


def path_binding(parameter: str, path: str | None) -> list[str]:
    """Returns the binding of a parameter to a path that a flag gave, if it did."""
    return [] if path is None else [f"{parameter} = {os.path.expanduser(path)!r}"]


def _flag_bindings() -> list[str]:
    bindings = path_binding("ImageData.data_dir", _FLAGS.data_dir)
    if _FLAGS.download:
        bindings.append("ImageData.download = True")
    if _FLAGS.seed is not None:
        bindings += [f"{root}.seed = {_FLAGS.seed}" for root in _SEEDED]
    return bindings


@contextlib.contextmanager
def without_startup_noise() -> Iterator[None]:
    """Holds back what TensorFlow's libraries write to stderr while they start, unless they fail.

    With `--verbosity` nothing is held back.
    """
    if _FLAGS["verbosity"].present:
        yield
        return
    with held_back():
        yield


def _parse_flags(command: Callable[[], int], arguments: list[str]) -> list[str]:
    if {"--help", "-help", "-h"}.intersection(arguments):
        sys.exit(_guarded(lambda: _say_help(command)))
    for argument in arguments:
        if plain_text.is_broken(argument):
            _complain(f"{argument!r} is not UTF-8 text, which file systems of TensorFlow need")
            sys.exit(EXIT_USER_ERROR)
    try:
        rest = _FLAGS(arguments)[1:]
    except flags.Error as error:
        _complain(error)
        sys.exit(EXIT_USER_ERROR)
    # Of TensorFlow's own messages only errors are shown, unless --verbosity asks for more.
    level = str(min(max(-_FLAGS.verbosity, 0), 3)) if _FLAGS["verbosity"].present else "2"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", level)
    if rest:
        _complain(f"unexpected argument {rest[0]!r}: settings are flags, such as --run_dir=runs/a")
        sys.exit(EXIT_USER_ERROR)
    return arguments[:1]


def _say_help(command: Callable[[], int]) -> int:
    print(_help(command), flush=True)
    return EXIT_DONE


def _help(command: Callable[[], int]) -> str:
    """Returns what the command's file says of it, and all that is said of its flags."""
    module = sys.modules[command.__module__]
    own = [flag for part in (module, __name__) for flag in _FLAGS.get_flags_for_module(part)]
    texts = [f"  --{flag.name:14}{' '.join(flag.help.split())}" for flag in own]
    lines = [textwrap.fill(text, 100, subsequent_indent=18 * " ") for text in texts]
    return "\n".join([module.__doc__ or "", "Flags:", *lines, "", _EXIT_CODES])


def _guarded(command: Callable[[], int]) -> int:
    try:
        with Interruption(), environment.explained(_FLAGS["verbosity"].present):
            return command()
    except UserError as error:
        _complain(error.worded(_NAMES))
        return EXIT_USER_ERROR
    except WorkerLostError as error:
        _complain(error)
        return EXIT_INTERRUPTED
    except KeyboardInterrupt as interrupt:
        signal = f" by {interrupt}" if str(interrupt) else ""
        again = shlex.join(sys.orig_argv)
        print(f"\nInterrupted{signal}. To go on:\n  {again}", file=sys.stderr)
        return EXIT_INTERRUPTED


def _complain(message: object) -> None:
    print(f"Error: {message}", file=sys.stderr)
