"""What all commands share: flags, and how a mistake becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

from absl import app, flags, logging

from tas_tf.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    Interrupted,
    SpecError,
    UserError,
)

_FLAGS = flags.FLAGS


def define_flags(run_dir: str) -> None:
    """Defines the flags that every command has.

    Args:
        run_dir: What the help says of `--run_dir`.
    """
    flags.DEFINE_multi_string(
        "gin_file", [], "Spec: a path here, or a preset such as specs/resnet110.gin. Repeatable."
    )
    flags.DEFINE_multi_string(
        "gin_bindings", [], "A setting that overrides the spec, such as 'TARGET = 0.4'. Repeatable."
    )
    flags.DEFINE_string("run_dir", None, run_dir)
    flags.DEFINE_string(
        "data_dir", None, "Where prepared TFDS data sets lie; by default ~/tensorflow_datasets."
    )
    flags.DEFINE_bool("download", False, "Whether a data set that is not there may be downloaded.")
    flags.DEFINE_bool("dry_run", False, "Say what would be done, and do nothing.")
    flags.DEFINE_integer("seed", None, "Seed of everything, in place of the spec's.")


def run(command: Callable[[], int]) -> None:
    """Runs a command with absl; a user's mistake is a message and exit code 2, no traceback.

    Args:
        command: Does the work after flags are parsed; returns the exit code.
    """
    app.run(lambda _: sys.exit(_guarded(command)), flags_parser=_parse_flags)


def call_root(name: str, bindings: Sequence[str] = (), default_spec: str | None = None) -> int:
    """Loads the spec that the flags ask for, and calls a root function of `experiments`.

    Args:
        name: Name of the root function.
        bindings: Further bindings that the command's own flags stand for.
        default_spec: Spec to take without `--gin_file`.

    Returns:
        The exit code.

    Raises:
        SpecError: If there is no spec or no run directory.
    """
    files = _FLAGS.gin_file or ([default_spec] if default_spec else [])
    if not files:
        raise SpecError("--gin_file: a spec is needed, such as --gin_file=specs/resnet20.gin")
    if not _FLAGS.run_dir and not _FLAGS.dry_run:
        raise SpecError(
            "--run_dir: a directory for the run is needed, such as --run_dir=runs/first"
        )
    # TensorFlow is imported only now: a mistake in the flags is answered at once.
    with _without_startup_noise():
        from tas_tf import configuration, experiments, runtime

        runtime.device_types()
    # What TensorFlow and Keras log of their own work stays out of the way of ours.
    if not _FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)

    configuration.load(files, [*_FLAGS.gin_bindings, *_flag_bindings(experiments), *bindings])
    return configuration.call(
        experiments.ROOTS[name],
        run_dir=_FLAGS.run_dir or "runs/dry_run",
        dry_run=_FLAGS.dry_run,
    )


def path_binding(parameter: str, path: str | None) -> list[str]:
    """Returns the binding of a parameter to a path that a flag gave, if it did."""
    return [] if path is None else [f"{parameter} = {os.path.expanduser(path)!r}"]


def _flag_bindings(experiments) -> list[str]:
    bindings = path_binding("ImageData.data_dir", _FLAGS.data_dir)
    if _FLAGS.download:
        bindings.append("ImageData.download = True")
    if _FLAGS.seed is not None:
        bindings += [f"{root}.seed = {_FLAGS.seed}" for root in ("run_search", "run_training")]
    return bindings


@contextlib.contextmanager
def _without_startup_noise() -> Iterator[None]:
    """Holds back what TensorFlow's libraries write to stderr while they start, unless they fail."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _parse_flags(arguments: list[str]) -> list[str]:
    # Only errors of TensorFlow's start-up are shown.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        rest = _FLAGS(arguments)[1:]
    except flags.Error as error:
        _complain(error)
        sys.exit(EXIT_USER_ERROR)
    if rest:
        _complain(f"unexpected argument {rest[0]!r}: settings are flags, such as --run_dir=runs/a")
        sys.exit(EXIT_USER_ERROR)
    if _FLAGS.help:
        print(sys.modules["__main__"].__doc__)
        print(_FLAGS.main_module_help())
        sys.exit(EXIT_DONE)
    return arguments[:1]


def _guarded(command: Callable[[], int]) -> int:
    try:
        return command()
    except UserError as error:
        _complain(error)
        return EXIT_USER_ERROR
    except (KeyboardInterrupt, Interrupted):
        print("\nInterrupted. The same command goes on from the last epoch.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _complain(message: object) -> None:
    print(f"Error: {message}", file=sys.stderr)
