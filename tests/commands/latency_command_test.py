"""Milliseconds from the command line: measured, searched, derived and reported."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
import spaces
from command_line import (
    PROJECT,
    QUICK,
    RUN,
    bindings,
    check_message,
    check_refused,
    finished,
    run,
)

import tas_tf
from tas_tf.deployment.latency_runners import Setting
from tas_tf.experiments import latencies
from tas_tf.reports.report import write_report
from tas_tf.runtime import devices
from tas_tf.spaces.cost import cost
from tas_tf.spaces.latency_table import LatencyTable

SPACE = tas_tf.SearchSpace.resnet(8, 10, (8, 8, 1))
TABLE = spaces.latency_table(SPACE, most=10**6)
TINY = bindings("DEPTH = 8", "SEARCH_EPOCHS = 1")
LATENCY = bindings("TARGET = 'latency: 0.6'")


@pytest.fixture(autouse=True)
def table(tmp_path, monkeypatch):
    """Every test runs in a directory of its own, that holds a table."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("table.json").write_text(TABLE.to_json())


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The run directory of a search within a budget of latency."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "table.json").write_text(TABLE.to_json())
    given = bindings(f"run_search.latency_table = '{folder}/table.json'")
    assert run("search", QUICK, f"--run_dir={folder}/run", *TINY, *LATENCY, *given) in (0, 3)
    return folder / "run"


def read(path) -> tas_tf.Architecture:
    return tas_tf.Architecture.from_json(pathlib.Path(path).read_text())


def test_a_search_keeps_its_milliseconds_and_its_table(searched):
    assert LatencyTable.from_json((searched / "latency_table.json").read_text()) == TABLE
    found = read(searched / "architecture.json")
    budget = found.provenance["derivation"]["budgets"]["latency"]
    assert found.cost["latency"] == budget["cost"] == cost(found, TABLE.kind)
    assert budget["floor"] <= budget["cost"] <= budget["amount"]
    assert budget["amount"] == pytest.approx(0.6 * cost(SPACE.unpruned(), TABLE.kind))
    last = json.loads((searched / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 < last["expected_latency_ratio"] < 1.2 and "argmax_latency_ratio" in last


def test_the_report_shows_milliseconds(searched, tmp_path):
    _, markdown = write_report(str(searched), str(tmp_path))
    text = pathlib.Path(markdown).read_text().replace("\N{NO-BREAK SPACE}", " ")
    milliseconds = read(searched / "architecture.json").cost["latency"] / 1e6
    assert f"{milliseconds:.4g} ms" in text and "latency by the table" in text
    assert "litert, batch 1, 1 threads, on none (1 cores)" in text
    copy = shutil.copytree(searched, tmp_path / "copy")
    (copy / "latency_table.json").write_text("{}")
    text = pathlib.Path(write_report(str(copy))[1]).read_text().replace("\\", "")
    assert "latency_table.json is damaged" in text
    assert "the budget of latency is not shown" in text and "It has" in text


def test_derive_takes_the_searchs_table_or_another(searched, tmp_path):
    run_dir = f"--run_dir={shutil.copytree(searched, tmp_path / 'run')}"
    assert run("derive", run_dir, "--target=latency: 0.8") == 0
    found = read("run/derived/latency_0.8/architecture.json")
    whole = cost(SPACE.unpruned(), TABLE.kind)
    assert 0.76 <= found.cost["latency"] / whole <= 0.8
    other = spaces.latency_table(SPACE, seed=1, most=10**5)
    pathlib.Path("other.json").write_text(other.to_json())
    assert run("derive", run_dir, "--target=latency: 0.7", "--latency_table=other.json") == 0
    found = read("run/derived/latency_0.7/architecture.json")
    assert 0.66 <= found.cost["latency"] / cost(SPACE.unpruned(), other.kind) <= 0.7


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("none.json", None, r"run_search\.latency_table.*: none\.json cannot be read"),
        ("bad.json", '{"scale": 1}', r"latency_table: bad\.json: schema_version is missing"),
        (
            "wide.json",
            spaces.latency_table(tas_tf.SearchSpace.resnet(20)).to_json(),
            r"latency_table: wide\.json has no time of .* from 8x8 to 8x8",
        ),
    ],
)
def test_refuses_a_table_that_does_not_serve(path, text, said, capsys):
    if text is not None:
        pathlib.Path(path).write_text(text)
    given = bindings(f"run_search.latency_table = '{path}'")
    check_refused(capsys, "search", QUICK, RUN, *TINY, *LATENCY, *given, expected=[said])


def test_refuses_a_budget_out_of_reach(capsys):
    given = bindings("run_search.latency_table = 'table.json'", "TARGET = 'latency: 1 us'")
    expected = [r"Reachable are [\d.]+ ms to [\d.]+ ms latency"]
    check_refused(capsys, "search", QUICK, RUN, *TINY, *given, expected=expected)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("latency: 0.6 @ litert, batch 8", r"table\.json was measured in.*@ litert, batch 1, thr"),
        ("latency: 0.6 @ litert8", r"TARGET: expected one of saved_model, .*Received: 'litert8'"),
        ("latency: 0.6 @ litert, batch 0", r"expected text such as 'latency: 0\.6 @ litert_int8"),
        ("latency: 0.6 @ litert; batch 1", r"expected text such as"),
        ("macs: 0.6 @ litert", r"expected '@' behind a budget of latency alone"),
        (["latency: 0.6", "latency: 0.5 @ saved_model"], r"expected one budget of latency at most"),
    ],
)
def test_refuses_what_is_said_of_a_runtime(target, said, capsys):
    given = bindings("run_search.latency_table = 'table.json'", f"TARGET = {target!r}")
    check_refused(capsys, "search", QUICK, RUN, *TINY, *given, expected=[said])


@pytest.mark.parametrize(
    ("target", "setting", "plain"),
    [
        (0.5, None, 0.5),
        ("macs: 0.5", None, "macs: 0.5"),
        ("latency: 0.6", Setting("litert", 1, 1), "latency: 0.6"),
        ("latency: 4 ms @ litert_int8", Setting("litert_int8", 1, 1), "latency: 4 ms"),
        ("latency: 4 ms@onnx,batch 32,threads 2", Setting("onnx", 32, 2), "latency: 4 ms"),
        (
            ["parameters: 0.5", "latency: 0.6 @ keras, batch 2"],
            Setting("keras", 2, devices.threads()),
            ["parameters: 0.5", "latency: 0.6"],
        ),
    ],
)
def test_a_target_says_where_milliseconds_are_measured(target, setting, plain):
    asked = latencies.asked(target)
    assert (asked.setting, asked.targets) == (setting, plain)
    assert asked.is_said == ("@" in str(target))


def test_a_dry_run_says_what_would_be_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    targets = bindings("TARGET = ['latency: 0.6 @ litert, threads 2', 'parameters: 0.5']")
    assert run("search", QUICK, RUN, *TINY, *targets, "--dry_run") == 0
    printed = capsys.readouterr().out
    assert "would be profiled first, in litert, batch 1, threads 2: 255 layers" in printed
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.slow  # some hundred networks are converted
def test_without_a_table_the_device_is_profiled_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    few = [*TINY, *bindings("resnet.ratios = (0.5, 1.0)", "TARGET = 'latency: 0.7'")]
    assert run("search", QUICK, RUN, *few) in (0, 3)
    printed = capsys.readouterr().out
    assert "is profiled first, in litert, batch 1, threads 1" in printed
    (kept,) = (tmp_path / "cache/tas_tf/latency").glob("*.json")
    assert kept.read_text() == pathlib.Path("run/latency_table.json").read_text()
    # Further runs, budgets and baselines have it at once; another runtime is another table.
    assert run("baseline", QUICK, "--run_dir=other", *few, "--kind=uniform_width") in (0, 3)
    assert run("derive", "--run_dir=run", "--target=latency: 0.8") in (0, 3)
    assert "profiled" not in capsys.readouterr().out
    again = bindings("TARGET = 'latency: 0.7 @ litert_int8'")
    assert run("search", QUICK, "--run_dir=third", *few, *again, "--dry_run") == 0
    assert "would be profiled first, in litert_int8" in capsys.readouterr().out
    # What is damaged is measured anew.
    kept.write_text("{}")
    assert run("search", QUICK, "--run_dir=fourth", *few, "--dry_run") == 0
    assert "would be profiled first" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["search"], ["baseline", "--kind=uniform_width"]])
def test_a_budget_below_the_floor_is_refused_before_the_device_is_profiled(
    command, tmp_path, monkeypatch
):
    few = bindings("DEPTH = 8", "TARGET = 'latency: 0.001'")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    begun = time.monotonic()
    code, out, err = finished(*command, QUICK, RUN, *few, cwd=tmp_path)
    assert code == 2 and time.monotonic() - begun < 60  # 15 s on a quiet machine
    check_message(
        err,
        "TARGET: no architecture of the space takes .* in litert, batch 1, threads 1",
        r"Reachable are .* ms to .* ms, that is 0\.\d+ to 1\.000 of the unpruned network",
    )
    assert "Measured" not in out and not list((tmp_path / "cache/tas_tf").rglob("*.json"))


def test_goes_on_with_the_same_table_only(searched, capsys):
    run_dir = f"--run_dir={searched}"
    given = bindings(f"run_search.latency_table = '{searched.parent}/table.json'")
    assert run("search", QUICK, run_dir, *TINY, *LATENCY, *given) in (0, 3)
    assert "Already done" in capsys.readouterr().out
    other = spaces.latency_table(SPACE, seed=1, most=10**6)
    kept = (searched.parent / "table.json").read_text()
    try:
        (searched.parent / "table.json").write_text(other.to_json())
        code = run("search", QUICK, run_dir, *TINY, *LATENCY, *given)
    finally:
        (searched.parent / "table.json").write_text(kept)
    expected = rf"--run_dir: {searched} began with another table.*, or another --run_dir$"
    assert code == 2
    check_message(capsys.readouterr().err, expected)


def test_measure_shows_time_beside_macs(searched, tmp_path):
    code, out, _ = finished(
        "measure",
        f"--architecture={searched}",
        "--architecture=tas_resnet20_cifar10",
        *("--runtime=keras", "--seconds=0.1", "--output=times.json", "--threads=1"),
        cwd=tmp_path,
    )
    assert code == 0 and "keras, batch 1, 1 threads, on " in out
    found = json.loads((tmp_path / "times.json").read_text())
    assert found["device"]["versions"]["tensorflow"]
    own, published = found["networks"]
    # ResNet-8 has one block in every stage, ResNet-20 has three.
    assert [row["unpruned_blocks"] for row in (own, published)] == [[1] * 3, [3] * 3]
    assert published["share_of_macs"] == pytest.approx(0.54, abs=0.01)
    for row in (own, published):
        network, whole = row["times"]["network"], row["times"]["unpruned"]
        assert row["depth_is_known"]
        assert row["share_of_time"] == network["median_ms"] / whole["median_ms"]
        assert 0 < network["median_ms"] <= network["p90_ms"] <= network["p99_ms"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["measure"], "--architecture: a network is needed"),
        (
            ["measure", "--architecture=tas_resnet20_cifar10", "--runtime=onxx"],
            "runtime: expected one of saved_model, litert, litert_int8, onnx, openvino, keras. "
            "Received: 'onxx'; did you mean onnx?",
        ),
        (["profile_device", QUICK], "--output: a file for the table is needed"),
        (["profile_device", QUICK, "--output=a", "--runtime=tensorrt"], "runtime: expected one of"),
    ],
)
def test_refusals_of_what_measures(arguments, said, tmp_path):
    code, out, err = finished(*arguments, cwd=tmp_path)
    assert code == 2 and said in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("measure", ["--architecture=tas_resnet20_cifar10", "--runtime=onnx"]),
        ("profile_device", [QUICK, "--output=table", "--runtime=onnx"]),
        ("export", ["--run_dir=run", "--format=saved_model,onnx"]),
    ],
)
def test_a_runtime_that_is_missing_is_refused_before_tensorflow_starts(
    command, arguments, tmp_path
):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.gin").write_text("")
    code = (
        "import atexit, sys\n"
        "sys.modules['onnxruntime'] = sys.modules['tf2onnx'] = None\n"
        "atexit.register(lambda: print('tensorflow' in sys.modules))\n"
        f"from tas_tf import {command}\n"
        f"{command}.run()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    field = "--format" if command == "export" else "runtime"
    said = f"Error: {field}: onnx needs onnxruntime and tf2onnx, not installed here: "
    assert ended.stderr.startswith(said + "pip install 'tas_tf[onnx]'")
    assert (ended.returncode, ended.stdout) == (2, "False\n")


def test_profile_says_what_it_will_do(tmp_path):
    given = ("--output=new.json", "--threads=1", "--runtime=litert_int8", "--dry_run")
    code, out, _ = finished("profile_device", QUICK, *TINY, *given, cwd=tmp_path)
    assert code == 0 and "kinds and 12 whole networks, in litert_int8, batch 1, threads 1" in out
    assert not (tmp_path / "new.json").exists()
