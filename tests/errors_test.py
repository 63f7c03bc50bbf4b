"""Errors for users: they name the setting that is wrong, and commands name its flag."""

import gin
import pytest

from tas_tf.config import gin_config
from tas_tf.errors import DivergenceError, RunDirectoryError, SpecError, UserError

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


@pytest.fixture
def refusing():
    """What refuses its setting, and what gin makes it for: gin wraps the error in both."""

    def inner(size: int) -> int:
        raise SpecError(f"expected less than {size}", field="size")

    def outer(part: int) -> int:
        return part

    names = ["inner_of_errors_test", "outer_of_errors_test"]
    for function, name in zip((inner, outer), names, strict=True):
        if name not in gin_config.registered:
            gin_config.configurable(function, name)
    settings = (f"{names[1]}.part = @{names[0]}()", f"{names[0]}.size = 3")
    gin_config.load([], settings)
    yield names[1]
    gin.clear_config()


def test_the_setting_survives_gin(refusing):
    with pytest.raises(UserError) as refused:
        gin_config.call(refusing)
    error = refused.value
    assert (error.field, error.message) == ("size", "expected less than 3")
    assert error.worded({"size": "--size"}) == "--size: expected less than 3"
