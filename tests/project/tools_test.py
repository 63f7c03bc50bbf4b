"""tools/compare_architectures.py, count_costs.py and list_runs.py, run as people run them."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from tas_tf import Architecture, SearchSpace
from tas_tf.spaces.cost import costs

ROOT = pathlib.Path(__file__).parents[2]
PUBLISHED = ROOT / "specs" / "architectures" / "tas_resnet20_cifar10.json"
EXAMPLE = ROOT / "docs" / "examples" / "resnet20_cifar10"


def tool(name, *arguments) -> subprocess.CompletedProcess:
    # -I: neither the working directory nor PYTHONPATH helps to find tas_tf.
    command = [sys.executable, "-I", str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def unpruned(tmp_path):
    path = tmp_path / "unpruned.json"
    path.write_text(SearchSpace.resnet(20).unpruned().to_json())
    return path


def test_compare(unpruned):
    done = tool("compare_architectures", unpruned, PUBLISHED)
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    found = Architecture.from_json(PUBLISHED.read_text())
    whole = SearchSpace.resnet(20).unpruned()
    for kind, value in costs(found).items():
        assert lines[kind][1:3] == [f"{costs(whole)[kind]:,}", f"{value:,}"]
    assert lines["macs"][3] == "-45.0%"
    assert lines["stem"][1:4] == ["3", "->", "16"]
    assert " new" in done.stdout and " gone" not in done.stdout
    turned = tool("compare_architectures", PUBLISHED, unpruned)
    assert " gone" in turned.stdout and " new" not in turned.stdout


def test_compare_as_json(unpruned):
    compared = json.loads(tool("compare_architectures", unpruned, PUBLISHED, "--json").stdout)
    for side in ("first", "second"):
        index = ("first", "second").index(side)
        layers = [layer[side] for layer in compared["layers"] if layer[side]]
        assert sum(layer["macs"] for layer in layers) == compared["costs"]["macs"][index]
    names = [layer["name"] for layer in compared["layers"]]
    assert names[0] == "stem" and names[-1] == "classifier" and len(set(names)) == len(names)


def test_count_costs(unpruned):
    done = tool("count_costs", unpruned, PUBLISHED)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["file", "macs", "parameters", "memory"]
    assert rows[1][1:] == [f"{v:,}" for v in costs(SearchSpace.resnet(20).unpruned()).values()]
    counted = json.loads(tool("count_costs", PUBLISHED, "--json").stdout)
    assert counted == {str(PUBLISHED): costs(Architecture.from_json(PUBLISHED.read_text()))}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("compare_architectures", [PUBLISHED, "nowhere.json"]),
        ("count_costs", [PUBLISHED, "nowhere.json"]),
        ("list_runs", ["nowhere"]),
    ],
)
def test_what_is_not_there_is_named(name, arguments):
    done = tool(name, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr


def test_list_runs(tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "whole")
    shutil.copytree(EXAMPLE, tmp_path / "half")
    (tmp_path / "half/student/result.json").unlink()
    (tmp_path / "half/student_kd/result.json").write_text("{")
    done = tool("list_runs", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line for line in done.stdout.splitlines()[1:]}
    assert len(rows) == 12
    accuracy = json.loads((EXAMPLE / "student/result.json").read_text())["test"]["accuracy"]
    assert rows[f"{tmp_path}/whole/student"].endswith(f"{accuracy:.2%}")
    assert "5 of 5 parts done" in rows[f"{tmp_path}/whole"]
    assert " epoch " in rows[f"{tmp_path}/half/student"]
    assert "damaged" in rows[f"{tmp_path}/half/student_kd"]
    listed = json.loads(tool("list_runs", tmp_path, "--json").stdout)
    assert {run["run"] for run in listed} == set(rows)


def test_list_runs_of_a_folder_without_any(tmp_path):
    done = tool("list_runs", tmp_path)
    assert done.returncode == 0 and "No run below" in done.stdout
