"""First lines of reports: what was found, and whether it is faster."""

import json
import pathlib

import pytest
from example import copied

from tas_tf.reports.report import write_report


def read_json(path):
    return json.loads(path.read_text())


@pytest.fixture
def run(tmp_path):
    """A copy of the committed run, that a test may change."""
    return copied(tmp_path / "run")


def written(run) -> str:
    """The page of a run."""
    path, _ = write_report(str(run))
    return pathlib.Path(path).read_text()


def timed(run, **shares):
    """Writes into an export's manifest what calls of its artifacts took."""
    path = run / "export/manifest.json"
    manifest = read_json(path)
    for name, share in shares.items():
        times = {"network": {"median_ms": 2.0 * share}, "unpruned": {"median_ms": 2.0}}
        call = {"batch_size": 1, "times": times, "share_of_time": share}
        speed = {"threads": 1, "share_of_macs": 0.55, "calls": [call]}
        manifest["artifacts"][name]["speed"] = speed
    path.write_text(json.dumps(manifest))


def test_first_lines_say_where_it_is_hardly_faster(run):
    timed(run, saved_model=0.93, litert=0.6, litert_int8=0.8)
    for text in (written(run), (run / "report.md").read_text()):
        text = text.replace("\N{NO-BREAK SPACE}", " ").replace("\\", "")
        first = text[: text.index("What was asked")]
        slow = "1.08 times as saved_model, batch 1; 1.25 times as litert_int8, batch 1."
        assert f"HARDLY FASTER than the unpruned network, exported alike: {slow}" in first
        assert "Faster than the unpruned network, exported alike: 1.67 times as litert" in first
        assert "resnet.width_divisor = 8" in first
        assert "93.0 %" in text and "1.86 ms" in text


def test_first_lines_begin_with_the_milliseconds_that_were_asked(run):
    path = run / "search/result.json"
    result = read_json(path)
    (budget,) = result["derivation"]["budgets"].values()
    asked = {"cost": 1.2e6, "unpruned": 2e6, "floor": 1.1e6, "amount": 1.2e6, "argmax_cost": 1.5e6}
    result["derivation"]["budgets"]["latency"] = budget | asked
    path.write_text(json.dumps(result))
    page = written(run).replace("\N{NO-BREAK SPACE}", " ")
    time = "the network found takes 1.2 ms, 60.0 % of the unpruned network&#39;s time."
    assert f"By the table of latencies {time} The network found has 22.4 M MACs, 54.9 %" in page
    assert page.index("<dt>time kept</dt><dd>60.0 %</dd>") < page.index("<dt>MACs kept</dt>")


def test_first_lines_are_silent_on_what_is_fast_or_was_not_timed(run):
    timed(run, saved_model=0.6, litert=0.6, litert_int8=0.6)
    assert "HARDLY" not in written(run)
    manifest = read_json(run / "export/manifest.json")
    for artifact in manifest["artifacts"].values():
        artifact["speed"] = None
    (run / "export/manifest.json").write_text(json.dumps(manifest))
    page = written(run)
    assert "exported alike" not in page and "latency was not measured in this run" in page


def test_speed_that_is_no_speed_is_said(run):
    timed(run, litert=-0.6)
    assert "export/manifest.json is damaged" in written(run)
