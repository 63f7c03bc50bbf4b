"""A finished pipeline on real images, which tests of the commands look at and copy."""

import pathlib
import shutil

import pytest
from command_line import MUCH_PATIENCE, finished

SMALL = """
include 'specs/quickstart.gin'
DEPTH = 8
EPOCHS = 1
SEARCH_EPOCHS = 5
"""


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
    """The run directory of a shrunk quickstart, with its exit code and what it printed."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "small.gin").write_text(SMALL)
    arguments = ["--gin_file=small.gin", "--run_dir=run"]
    code, stdout, stderr = finished("pipeline", *arguments, timeout=MUCH_PATIENCE, cwd=folder)
    assert stderr == ""
    return folder / "run", code, stdout


@pytest.fixture
def teacher(pipeline):
    """A copy of a finished training, that a test may damage."""
    return pathlib.Path(shutil.copytree(pipeline[0] / "teacher", "teacher"))


@pytest.fixture
def empty_directory(tmp_path, monkeypatch):
    """A directory of its own to run in: presets are found from anywhere."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
