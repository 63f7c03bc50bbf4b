"""A finished pipeline on real images, which tests of the commands look at and copy."""

import fcntl
import json
import os
import pathlib
import shutil

import pytest
from command_line import MUCH_PATIENCE, finished

SMALL = """
include 'specs/base/digits.gin'
DEPTH = 8
EPOCHS = 1
SEARCH_EPOCHS = 5
"""


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
    """The run directory of a shrunk quickstart, with its exit code and what it printed.

    It is made once for all test processes; each has a copy of its own.
    """
    own = tmp_path_factory.mktemp("pipeline")
    shared = (
        own.parent.parent / "made_once" if "PYTEST_XDIST_WORKER" in os.environ else own / "made"
    )
    shared.mkdir(exist_ok=True)
    with open(shared / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "said.json").exists():
            (shared / "small.gin").write_text(SMALL)
            arguments = ["--gin_file=small.gin", "--run_dir=run"]
            said = finished("pipeline", *arguments, timeout=MUCH_PATIENCE, cwd=shared)
            (shared / "said.json").write_text(json.dumps(said))
    code, stdout, stderr = json.loads((shared / "said.json").read_text())
    assert stderr == ""
    shutil.copytree(shared, own, dirs_exist_ok=True, ignore=lambda *_: {"made"})
    return own / "run", code, stdout


@pytest.fixture
def teacher(pipeline):
    """A copy of a finished training, that a test may damage."""
    return pathlib.Path(shutil.copytree(pipeline[0] / "teacher", "teacher"))


@pytest.fixture
def empty_directory(tmp_path, monkeypatch):
    """A directory of its own to run in: presets are found from anywhere."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
