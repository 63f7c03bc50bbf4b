"""Errors for users: they name the setting that is wrong, and commands name its flag."""

import pytest

from tas_tf.errors import DivergenceError, RunDirectoryError, SpecError

NAMES = {"run_dir": "--run_dir", "formats": "--format"}


def test_the_setting_stands_before_the_message():
    error = RunDirectoryError("runs/a is in use; give another `run_dir`", field="run_dir")
    assert str(error) == "run_dir: runs/a is in use; give another `run_dir`"
    assert error.worded(NAMES) == "--run_dir: runs/a is in use; give another --run_dir"


@pytest.mark.parametrize(
    ("error", "worded"),
    [
        (SpecError("expected a number", field="threads"), "threads: expected a number"),
        (SpecError("run_dir is text, `x` too"), "run_dir is text, `x` too"),
        (
            SpecError("a `run_dir` or a run_dir", field="formats"),
            "--format: a --run_dir or a run_dir",
        ),
        (DivergenceError("a half", 7, 2), str(DivergenceError("a half", 7, 2))),
    ],
)
def test_only_settings_get_other_names(error, worded):
    assert error.worded(NAMES) == worded
