"""What tests of the commands share: running one here or in a process, and what a refusal is."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
from absl import flags

from tas_tf import baseline, command_line, derive, export, pipeline, search, train

PROJECT = pathlib.Path(__file__).parents[2]
QUICK = "--gin_file=specs/base/digits.gin"
RUN = "--run_dir=run"
# An idle machine refuses within 15 seconds and does the rest within 60; a busy one needs more.
PATIENCE = 150
MUCH_PATIENCE = 300

COMMANDS = {
    "search": search,
    "baseline": baseline,
    "train": train,
    "derive": derive,
    "export": export,
    "pipeline": pipeline,
}


def run(command, *arguments):
    """Does in this process what a command does, and returns its exit code."""
    _forget_flags()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [command, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            COMMANDS[command].run()
    return stop.value.code


def _forget_flags():
    """Leaves flags as a process finds them: values unset, and those of all commands undefined."""
    for flag in flags.FLAGS.get_flags_for_module(command_line):
        delattr(flags.FLAGS, flag.name)
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()


def bindings(*settings):
    return [f"--gin_bindings={setting}" for setting in settings]


def process(command, *arguments, **options):
    """Starts a command as users do in a terminal: SIGINT acts, even where a script's is ignored."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tas_tf.{command}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "80"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def finished(command, *arguments, timeout=PATIENCE, **options):
    """Runs a command as users do; returns exit code, stdout and stderr."""
    with process(command, *arguments, **options) as started:
        try:
            stdout, stderr = started.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            started.kill()
            raise
    return started.returncode, stdout, stderr


def check_message(stderr, *expected):
    assert stderr.startswith("Error: ")
    assert "Traceback" not in stderr
    assert len(stderr.strip().splitlines()) <= 6
    for text in expected:
        assert re.search(text, stderr), (text, stderr)


def check_refused(capsys, command, *arguments, expected):
    """Asserts that a command refuses its input with a message, and leaves nothing behind."""
    before = sorted(pathlib.Path().rglob("*"))
    assert run(command, *arguments) == 2
    check_message(capsys.readouterr().err, *expected)
    assert sorted(pathlib.Path().rglob("*")) == before


def training_arguments(pipeline, run_dir):
    """The arguments of a training as the pipeline of the fixture has it."""
    return [f"--gin_file={pipeline[0].parent / 'small.gin'}", f"--run_dir={run_dir}"]
