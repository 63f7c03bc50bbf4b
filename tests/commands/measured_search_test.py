"""Searches by measurement, as users run them."""

import dataclasses
import json
import pathlib
import shutil

import pytest
from command_line import bindings, check_refused, finished, run

import tas_tf
from tas_tf.deployment.latency_profile import profile
from tas_tf.deployment.latency_runners import Setting
from tas_tf.experiments.latencies import hasty_seconds
from tas_tf.spaces.cost import cost
from tas_tf.spaces.latency_table import LatencyTable

SPEC = """
include 'specs/base/digits.gin'
DEPTH = 8
EPOCHS = 2
SEARCH_EPOCHS = 2
BATCH_SIZE = 64
include 'specs/base/measured.gin'
Measurement.paths = 20
Measurement.near = 3
Measurement.finalists = 3
Measurement.images = 128
Measurement.final_images = 256
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a teacher and a search that started from it."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pathlib.Path("a.gin").write_text(SPEC)
        assert run("train", "--gin_file=a.gin", "--run_dir=teacher") == 0
        start = bindings("run_search.start_from = 'teacher'")
        assert run("search", "--gin_file=a.gin", "--run_dir=search", *start) == 0
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it that a test may change."""
    shutil.copytree(made, tmp_path / "made")
    monkeypatch.chdir(tmp_path / "made")
    return tmp_path / "made"


def test_it_records_what_it_measured_and_how_far_the_choice_leads(made):
    result = json.loads((made / "search" / "result.json").read_text())
    assert result["derivation"]["in_band"]
    assert "least" in result["derivation"]["method"]
    leads = result["measurement"]["leads"]
    assert set(leads) == {"runner-up", "uniform"}
    lines = (made / "search" / "scores.jsonl").read_text().splitlines()
    assert len(lines) == 20 + 3 + 3 + 1
    architecture = json.loads((made / "search" / "architecture.json").read_text())
    assert architecture["cost"]["macs"] == result["derivation"]["budgets"]["macs"]["cost"]


@pytest.mark.slow
def test_an_interrupted_measurement_comes_to_the_same(folder):
    search = folder / "search"
    before = {name: (search / name).read_bytes() for name in ("architecture.json", "scores.jsonl")}
    result = json.loads((search / "result.json").read_text())
    for name in ("result.json", "architecture.json", "model.keras"):
        (search / name).unlink()
    lines = before["scores.jsonl"].decode().splitlines(keepends=True)
    (search / "scores.jsonl").write_text("".join(lines[:11]))
    start = bindings("run_search.start_from = 'teacher'")
    assert run("search", "--gin_file=a.gin", "--run_dir=search", *start) == 0
    for name, content in before.items():
        assert (search / name).read_bytes() == content
    again = json.loads((search / "result.json").read_text())
    assert again["measurement"] == result["measurement"]


@pytest.mark.slow
def test_milliseconds_are_kept_where_the_table_is_wrong(folder):
    # A constant that no network takes: by it 80 % of the time are those that in truth take 70 %.
    space, setting = tas_tf.SearchSpace.resnet(8, 10, (8, 8, 1)), Setting("litert", 1, 1)
    table = profile(space, "measured.json", setting, hasty_seconds(setting))
    extra = cost(space.unpruned(), table.kind) // 2
    table = dataclasses.replace(table, overhead_ns=table.overhead_ns + extra)
    pathlib.Path("table.json").write_text(table.to_json())
    given = bindings(
        "run_search.start_from = 'teacher'",
        "TARGET = 'latency: 0.8'",
        "run_search.latency_table = 'table.json'",
    )
    assert run("search", "--gin_file=a.gin", "--run_dir=timed", *given) == 0
    found = json.loads(pathlib.Path("timed/result.json").read_text())
    shares = [each["share"] for each in found["timed"]]
    timed = json.loads(pathlib.Path("timed/timed.json").read_text())["shares"]
    assert set(shares) <= set(timed.values())
    recorded = LatencyTable.from_json(pathlib.Path("timed/latency_table.json").read_text())
    assert recorded == dataclasses.replace(table, source=recorded.source)
    # The table was corrected by what the model takes for the best, before finalists were measured.
    lines = pathlib.Path("timed/scores.jsonl").read_text().splitlines()
    rounds = (len(lines) - 20 - 3) / (3 + 1)
    assert rounds <= 2 and len(timed) > rounds
    other = bindings("run_baseline.latency_table = 'table.json'", "TARGET = 'latency: 0.8'")
    for kind in ("uniform_width", "random"):
        flags = (f"--run_dir={kind}", f"--kind={kind}")
        assert run("baseline", "--gin_file=a.gin", *flags, *other) in (0, 3)
        assert json.loads(pathlib.Path(kind, "result.json").read_text())["timed"]


def test_further_budgets_need_no_further_search(folder):
    assert run("derive", "--run_dir=search", "--target=0.7") == 0
    derived = json.loads((folder / "search/derived/0.7/architecture.json").read_text())
    cost = derived["provenance"]["derivation"]["budgets"]["macs"]
    assert cost["floor"] <= cost["cost"] <= cost["amount"]


def test_a_student_starts_from_its_weights(folder):
    start = ("--architecture=search", *bindings("run_training.start_from = 'search'"))
    assert run("train", "--gin_file=a.gin", "--run_dir=student", *start) == 0
    result = json.loads((folder / "student" / "result.json").read_text())
    assert result["test"]["accuracy"] > 0.2


def test_damaged_scores_are_refused(folder, capsys):
    (folder / "search" / "result.json").unlink()
    (folder / "search" / "scores.jsonl").write_text("{\n")
    start = bindings("run_search.start_from = 'teacher'")
    arguments = ("--gin_file=a.gin", "--run_dir=search", *start)
    check_refused(capsys, "search", *arguments, expected=["scores.jsonl cannot be read"])


def test_fewer_finalists_than_asked_for_are_said(folder, capsys):
    # Where losses count for nothing, all drawn models agree.
    heavy = bindings("Measurement.capacity = 800", "run_search.start_from = 'teacher'")
    assert run("search", "--gin_file=a.gin", "--run_dir=heavy", *heavy) == 0
    assert "Finalists: 1, where 3 were asked for" in capsys.readouterr().out
    leads = json.loads(pathlib.Path("heavy/result.json").read_text())["measurement"]["leads"]
    assert set(leads) == {"uniform"}


@pytest.mark.parametrize(
    ("binding", "expected"),
    [
        ("Measurement.paths = 1", "Measurement.paths.*at least 2. Received: 1"),
        ("Measurement.capacity = -0.5", "Measurement.capacity.*at least 0. Received: -0.5"),
        ("run_search.decide = 'guess'", "decide.*'gradient', 'measurement'.*'guess'"),
        ("Supernet.streams = 'own'", "streams.*'paper', 'derived'.*'own'"),
        ("Supernet.normalization = 1", "normalization"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, monkeypatch, capsys, binding, expected):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("a.gin").write_text(SPEC)
    arguments = ("--gin_file=a.gin", "--run_dir=run", *bindings(binding))
    check_refused(capsys, "search", *arguments, expected=[expected])


@pytest.mark.slow
def test_the_pipeline_starts_from_its_teacher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("a.gin").write_text(SPEC)
    code, stdout, _ = finished("pipeline", "--gin_file=a.gin", "--run_dir=run")
    assert code == 0
    assert "Lead over uniform" in stdout
    assert (tmp_path / "run" / "export").is_dir()
