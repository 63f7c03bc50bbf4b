"""What is loaded before anything is asked for: `import tas_tf` and `--help` answer at once."""

import subprocess
import sys

import pytest
from checkout import options

SLOW = {"gin", "jinja2", "keras", "matplotlib", "numpy", "rich", "tensorboard", "tensorflow"}
MODULES = [
    line.split(" = ")[1].removesuffix(":run")
    for line in options("options.entry_points")["console_scripts"].strip().splitlines()
]


def loaded(*arguments: str) -> set[str]:
    """The modules that Python loads, its own at its start included."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("module", MODULES)
def test_help_loads_nothing_that_takes_long(module):
    names = loaded("-m", module, "--help")
    assert "absl.flags" in names
    assert not {name.partition(".")[0] for name in names} & SLOW


def test_import_loads_one_file():
    names = loaded("-c", "import tas_tf") - loaded("-c", "")
    # importlib loads warnings where the interpreter has not loaded it for itself.
    assert names - {"importlib", "warnings"} == {"tas_tf"}
