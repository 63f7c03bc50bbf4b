"""The ladder, on a few networks whose accuracy is made up."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from command_line import PROJECT

from tas_tf.spaces.cost import cost
from tas_tf.spaces.search_space import SearchSpace

SPEC = """
include 'specs/base/digits.gin'
include 'specs/base/measured.gin'
DEPTH = 8
EPOCHS = 1
SEARCH_EPOCHS = 1
SEARCH = 'width'
resnet.tie_streams = False
resnet.ratios = (0.5, 0.75, 1.0)
Measurement.paths = 12
Measurement.near = 0
Measurement.finalists = 1
Measurement.images = 128
Measurement.final_images = 128
"""


def networks(count=10):
    """Random networks whose accuracy is the logarithm of their parameters."""
    space = SearchSpace.resnet(8, 10, (8, 8, 1), ratios=(0.5, 0.75, 1.0), search="width")
    random = np.random.default_rng(0)
    records = []
    for _ in range(count):
        widths = [int(random.choice(choice.candidates)) for choice in space.choices]
        indices = [c.candidates.index(w) for c, w in zip(space.choices, widths, strict=True)]
        architecture = space.architecture(indices, [len(d) - 1 for d in space.depths])
        records.append((widths, float(np.log(cost(architecture, "parameters")))))
    return {"networks": records}


def as_study(pairs):
    """The same networks as the records of a study."""
    space = SearchSpace.resnet(8, 10, (8, 8, 1), ratios=(0.5, 0.75, 1.0), search="width")
    found = {"networks": {}, "trainings": {}}
    for number, (widths, accuracy) in enumerate(pairs, 1):
        indices = [c.candidates.index(w) for c, w in zip(space.choices, widths, strict=True)]
        architecture = space.architecture(indices, [len(d) - 1 for d in space.depths])
        key = f"random/1.0/search_{number}"
        found["networks"][key] = {"architecture": json.loads(architecture.to_json())}
        found["trainings"][f"{key}/scratch/training_1"] = {"accuracy": accuracy}
    found["networks"]["unpruned"] = {"architecture": json.loads(space.unpruned().to_json())}
    found["trainings"]["unpruned/scratch/training_1"] = {"accuracy": 0.0}
    return found


@pytest.mark.slow
def test_it_ranks_and_goes_on_from_what_it_has(tmp_path):
    (tmp_path / "networks.json").write_text(json.dumps(networks()))
    (tmp_path / "study.json").write_text(json.dumps(as_study(networks()["networks"])))
    (tmp_path / "spec.gin").write_text(SPEC)
    command = [sys.executable, str(PROJECT / "benchmarks/ranking.py")]
    command += ["--gin_file=spec.gin", "--seeds=2", "--scored=4", "--json=found.json"]
    tables = []
    for file in ("networks.json", "study.json"):
        asked = [*command, f"--networks={file}"]
        done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        rows = json.loads((tmp_path / "found.json").read_text())["rows"]
        tables.append({row["predictor"]: row for row in rows})
    first, again = tables
    assert first["parameters"]["kendall"] == pytest.approx(1)
    assert {"macs", "sensitivities", "raw, mean", "fitted, seed 1", "fitted, deviation"} <= set(
        first
    )
    assert first["fitted, mean"]["epochs"] > 0
    for name, row in first.items():
        assert row["kendall"] == again[name]["kendall"]  # nothing was trained or measured anew
    assert len((pathlib.Path(tmp_path) / "runs/ranking/search_1/scores.jsonl").read_text()) > 0


@pytest.mark.slow
def test_ablations_differ_and_go_on_from_what_they_have(tmp_path):
    (tmp_path / "networks.json").write_text(json.dumps(networks()))
    (tmp_path / "spec.gin").write_text(SPEC)
    command = [sys.executable, str(PROJECT / "benchmarks/ablations.py"), "--json=found.json"]
    command += ["--gin_file=spec.gin", "--networks=networks.json", "--scored=4", "--seeds", "0"]
    tables = []
    for variants in (["as it is"], ["as it is", "two paths a step", "the paper's streams"]):
        asked = [*command, "--variants", *variants]
        done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        tables.append(json.loads((tmp_path / "found.json").read_text())["rows"])
    first, again = tables
    assert again[0] == first[0] and len(again) == 3
    values = [tuple(v for k, v in row.items() if ", " in k) for row in again]
    assert len(values[0]) == 6 and len(set(values)) == 3
