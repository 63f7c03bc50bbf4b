"""Bazel: how tools/bazel finds it, and what it builds, runs and refuses where there is one."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from checkout import ROOT

LAUNCHER = ROOT / "tools" / "bazel"
LAYERS = "tas_tf/layers"


def run(*arguments, launcher=LAUNCHER, **environment) -> subprocess.CompletedProcess:
    """Runs tools/bazel in the checkout, with more variables in its environment."""
    environment = {name: str(value) for name, value in environment.items()}
    return subprocess.run(
        [launcher, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def venv():
    """Bazel takes Python and packages from .venv, which tools/bazel would make where it is not."""
    if pathlib.Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("these tests do not run in .venv, whose packages Bazel takes")


@pytest.fixture(scope="module")
def bazel(venv):
    """Runs a real Bazel, which keeps what it has built between runs."""
    told = run("--version")
    if told.returncode:
        pytest.skip(told.stderr.splitlines()[0])
    yield run
    run("shutdown")


def stand_in(folder: pathlib.Path, version: str) -> pathlib.Path:
    """A program that tells a version as Bazel does, and says how it was called."""
    path = folder / "bazel"
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "bazel {version}" || echo "$@"\n')
    path.chmod(0o755)
    return path


def test_without_bazel_it_says_how_to_get_one(tmp_path):
    (tmp_path / "tools").mkdir()
    launcher = pathlib.Path(shutil.copy(LAUNCHER, tmp_path / "tools"))
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = run("build", "//...", launcher=launcher, PATH=tmp_path, BAZEL_REAL="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "found no Bazel" in done.stderr
    for package in ("@bazel/bazel-linux_x64", "bazel-bootstrap", "@bazel/bazelisk"):
        assert package in done.stderr


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("4.2.3", ""),
        ("no_version", ""),  # what Debian's tells
        ("7.4.1", f"--bazelrc={ROOT}/bazel/workspace.bazelrc "),
        ("8.0.0", f"--bazelrc={ROOT}/bazel/workspace.bazelrc "),
    ],
)
def test_the_bazel_that_a_launcher_chose_is_started_as_its_version_needs(
    venv, tmp_path, version, options
):
    done = run("build", "//...", BAZEL_REAL=stand_in(tmp_path, version))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{options}build //...\n"


def test_a_bazel_that_reads_no_workspace_is_refused(tmp_path):
    done = run("build", "//...", BAZEL_REAL=stand_in(tmp_path, "9.1.0"))
    assert done.returncode == 2 and "Bazel 9.1.0" in done.stderr
    assert "USE_BAZEL_VERSION=8.x" in done.stderr


def test_it_does_not_start_itself(tmp_path):
    path = f"{LAUNCHER.parent}{os.pathsep}{tmp_path}{os.pathsep}{os.environ['PATH']}"
    stand_in(tmp_path, "4.2.3")
    done = run("--version", BAZEL_REAL=LAUNCHER, PATH=path)
    assert (done.returncode, done.stdout) == (0, "bazel 4.2.3\n")


@pytest.mark.slow
def test_packages_commands_and_tests(bazel):
    """All is built, which carries out every import; one folder's tests and a command run."""
    done = bazel("test", "//tas_tf/...", "//:all", "//tests:runtime_tests")
    assert done.returncode == 0, done.stderr
    assert re.search(r"//tests:runtime_tests .*PASSED", done.stdout)
    search = ("run", "//:search", "--", "--gin_file=specs/quickstart.gin")
    done = bazel(*search, "--dry_run")
    assert done.returncode == 0 and done.stdout.startswith("Search: "), done.stderr
    done = bazel(*search)
    assert done.returncode == 2 and "Error: --run_dir" in done.stderr


@pytest.mark.slow
def test_a_folder_without_tests_fails(bazel):
    done = bazel("test", "//tests:config_tests", "--test_arg=-k", "--test_arg=no_such_test")
    assert done.returncode == 3 and " deselected" in done.stdout + done.stderr
    assert re.search(r"//tests:config_tests .*FAILED", done.stdout)


@pytest.mark.slow
def test_a_wrong_way_import_is_refused(bazel, tmp_path):
    """A copy of a package imports from a later one; Bazel reads it in place of the checkout's."""
    shutil.copytree(ROOT / LAYERS, tmp_path / LAYERS)
    overlaid = ("build", f"--package_path={tmp_path}:{ROOT}", f"//{LAYERS}/...")
    done = bazel(*overlaid)
    assert done.returncode == 0, done.stderr
    path = tmp_path / LAYERS / "mixing.py"
    path.write_text(path.read_text() + "\n\ndef late():\n    from tas_tf.reports import canvas\n")
    done = bazel(*overlaid)
    assert done.returncode == 1
    line = len(path.read_text().splitlines())
    assert f"{LAYERS}/mixing.py:{line}: No module named 'tas_tf.reports'" in done.stderr
