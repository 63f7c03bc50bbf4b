"""The wheel holds the code and the presets, and finds its presets from any directory."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGED = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "tas_tf", "specs", "tests")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """A wheel built from a copy, since setuptools leaves its own files beside its sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source]
    subprocess.run(command, check=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> pathlib.Path:
    """A folder that holds the wheel's content alone."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", target, wheel], check=True)
    return target


def run_installed(installed, directory, *arguments) -> subprocess.CompletedProcess:
    """Runs Python in `directory` with the installed wheel in front of the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)


def test_wheel_holds_every_source_and_spec_and_nothing_else(wheel):
    expected = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "templates/*")
        for path in (ROOT / "tas_tf").rglob(pattern)
    } | {
        "tas_tf/" + path.relative_to(ROOT).as_posix()
        for pattern in ("*.gin", "*.json")
        for path in (ROOT / "specs").rglob(pattern)
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected
    assert "tas_tf/specs/quickstart.gin" in held


def test_wheel_names_its_licence_and_commands(wheel):
    with zipfile.ZipFile(wheel) as archive:
        texts = {name.split("/")[-1]: name for name in archive.namelist() if "dist-info" in name}
        assert "LICENSE" in texts
        assert (
            "tas-pipeline = tas_tf.pipeline:run" in archive.read(texts["entry_points.txt"]).decode()
        )


def test_installed_wheel_is_what_is_imported(installed, tmp_path):
    done = run_installed(installed, tmp_path, "-c", "import tas_tf; print(tas_tf.__file__)")
    assert pathlib.Path(done.stdout.strip()).is_relative_to(installed), done.stderr


@pytest.mark.parametrize(
    ("command", "preset"), [("search", "resnet20"), ("pipeline", "quickstart")]
)
def test_packaged_preset_is_found_from_another_directory(
    installed, tmp_path, command, preset, request
):
    """The preset and the files that it includes: none of them is in the working directory."""
    arguments = [f"--gin_file=specs/{preset}.gin", "--run_dir=run", "--dry_run"]
    if preset == "resnet20":  # its data set does not come with the install
        arguments.append(f"--data_dir={request.getfixturevalue('data_dir')}")
    done = run_installed(installed, tmp_path, "-m", f"tas_tf.{command}", *arguments)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
