"""What TensorBoard answers, on loopback, about the event files of a small search."""

import gzip
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from command_line import PATIENCE, PROJECT, run

from tas_tf.spaces import cost
from tas_tf.training.event_files import SCALARS

SMALL = """
include 'specs/base/digits.gin'
DEPTH = 8
SEARCH_EPOCHS = 2
EPOCHS = 1
"""
RUN = "search/events"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the runs of a search, some steps of it profiled, and of a training."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.gin").write_text(SMALL)
    spec = f"--gin_file={folder}/small.gin"
    assert run("search", spec, f"--run_dir={folder}/search", "--profile_steps=14,16") in (0, 3)
    found = f"--architecture={folder}/search"
    assert run("train", spec, f"--run_dir={folder}/student", found) == 0
    return folder


@pytest.fixture(scope="module")
def ask(runs):
    """Asks a TensorBoard that serves the runs; returns what it answers."""
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={runs}"]
    command += ["--host=127.0.0.1", "--port=0", "--load_fast=false", "--reload_interval=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            url = next(
                match[0]
                for line in server.stdout
                if (match := re.search(r"http://127.0.0.1:\d+/", line.decode()))
            )
            asked = _asker(url + "data/")
            deadline = time.monotonic() + PATIENCE
            while "student/events" not in asked("plugin/scalars/tags"):
                assert time.monotonic() < deadline
                time.sleep(0.5)
            yield asked
        finally:
            server.kill()  # while it answers it may take no notice of SIGTERM


def _asker(url):
    def asked(path, body=None, parse=True, **parameters):
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url + path + query, content, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            content = answer.read()
            if answer.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
        return json.loads(content) if parse else content

    return asked


def test_scalars_have_the_documented_names(ask, runs):
    tags = ask("plugin/scalars/tags")
    search, student = set(tags[RUN]), set(tags["student/events"])
    assert search | student <= set(SCALARS.values())
    bands = {f"cost/macs/{name}" for name in ("expected", "argmax", "derived", "floor", "budget")}
    assert search >= bands | {"loss/train", "loss/architecture", "schedule/temperature"}
    assert student >= {"loss/train", "accuracy/train", "accuracy/test"}
    points = ask("plugin/scalars/scalars", run=RUN, tag="loss/architecture")
    records = [json.loads(line) for line in (runs / "search/metrics.jsonl").open()]
    assert [[step, pytest.approx(value, abs=1e-5)] for _, step, value in points] == [
        [record["step"], record["architecture_loss"]] for record in records
    ]


def test_every_recorded_number_has_a_name(runs):
    for part in ("search", "student"):
        for line in (runs / part / "metrics.jsonl").open():
            numbers = {n for n, v in json.loads(line).items() if isinstance(v, (int, float))}
            assert numbers - {"step"} <= set(SCALARS)


def test_the_document_lists_every_scalar():
    text = (PROJECT / "docs/tensorboard.md").read_text()
    for name in SCALARS.values():
        kind = name.split("/")[1]
        assert f"`{name.replace(kind, 'KIND', 1) if kind in cost.NAMES else name}`" in text


def test_every_choice_has_its_distribution(ask):
    tags = set(ask("plugin/histograms/tags")[RUN])
    assert tags >= {"widths/stem", "widths/stage1_block1_conv1", "depths/stage3"}
    points = ask("plugin/histograms/histograms", run=RUN, tag="widths/stem")
    assert len(points) == 2
    _, step, buckets = points[-1]
    assert step == 24
    assert sum(count for _, _, count in buckets) == pytest.approx(100)
    edges = [left for left, _, _ in buckets] + [buckets[-1][1]]
    candidates = (4, 6, 8, 9, 11, 12, 14, 16)
    for left, right, candidate in zip(edges, edges[1:], candidates, strict=False):
        assert left < candidate < right


def test_pictures_are_there_to_drag_through(ask):
    tags = ask("plugin/images/tags")[RUN]
    assert set(tags) == {"architecture", "distributions"}
    pictures = ask("plugin/images/images", run=RUN, tag="architecture", sample=0)
    assert [picture["step"] for picture in pictures] == [12, 24]
    content = ask(f"plugin/images/individualImage?{pictures[-1]['query']}", parse=False)
    assert content.startswith(b"\x89PNG") and len(content) > 5000


def test_the_cost_has_a_chart_with_its_band(ask):
    (category,) = ask("plugin/custom_scalars/layout")["category"]
    (chart,) = category["chart"]
    (series,) = chart["margin"]["series"]
    assert series == {
        "value": "cost/macs/expected",
        "lower": "cost/macs/floor",
        "upper": "cost/macs/budget",
    }
    floor, budget = (
        ask("plugin/scalars/scalars", run=RUN, tag=f"cost/macs/{name}")[0][2]
        for name in ("floor", "budget")
    )
    assert (floor, budget) == (pytest.approx(0.475), pytest.approx(0.5))


def test_runs_are_compared_by_their_settings(ask):
    experiment = ask("plugin/hparams/experiment", {"experimentName": ""})
    names = {info["name"] for info in experiment["hparamInfos"]}
    assert names >= {"run_search.target", "run_search.epochs", "SGD.learning_rate", "resnet.depth"}
    assert not any(name.endswith(("data_dir", "run_dir", "dry_run")) for name in names)
    groups = ask(
        "plugin/hparams/session_groups",
        {
            "experimentName": "",
            "allowedStatuses": ["STATUS_SUCCESS"],
            "colParams": [],
            "startIndex": 0,
            "sliceSize": 10,
        },
    )["sessionGroups"]
    assert [group["hparams"]["resnet.depth"] for group in groups] == [8, 8]
    assert {"run_search.epochs", "run_training.epochs"} <= {n for g in groups for n in g["hparams"]}


@pytest.mark.parametrize(
    ("part", "tag", "expected"),
    [
        ("search", "spec", "run_search.epochs = %SEARCH_EPOCHS"),
        ("search", "architecture_json", "&quot;stem_width&quot;"),
        ("student", "spec", "run_training.epochs = %EPOCHS"),
        ("student", "architecture_json", "&quot;stages&quot;"),
    ],
)
def test_spec_and_architecture_can_be_read(ask, part, tag, expected):
    ((text,),) = [[p["text"] for p in ask("plugin/text/text", run=f"{part}/events", tag=tag)]]
    assert text.startswith("<pre><code") and expected in text


def test_the_profile_is_written_and_names_halves_stages_and_units(runs):
    (trace,) = pathlib.Path(runs / RUN / "plugins/profile").glob("*/*.xplane.pb")
    content = trace.read_bytes()
    for half, stage, unit in (
        ("weights_half", "stage1", "stage1_block1_conv1"),
        ("architecture_half", "stage3", "stage3_block1_projection"),
    ):
        block = unit.rsplit("_", 1)[0]
        # Where a name is used twice, TensorFlow numbers it.
        scopes = r"(_\d+)?/".join((half, "supernet", stage, block, unit, ""))
        assert re.search(scopes.encode(), content)
        assert re.search(rb"gradient_tape/" + scopes.encode(), content)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard_plugin_profile") is None,
    reason="the profile plugin is in the extra [profile]",
)
def test_the_profile_opens(ask):
    (run,) = ask("plugin/profile/runs")
    assert run.startswith(f"{RUN}/")
    (host,) = {h["hostname"] for h in ask("plugin/profile/hosts", run=run, tag="overview_page")}
    for tag in ("overview_page", "framework_op_stats", "input_pipeline_analyzer"):
        assert ask("plugin/profile/data", run=run, tag=tag, host=host)
    trace = ask("plugin/profile/data", run=run, tag="trace_viewer@", host=host)
    assert trace["traceEvents"]
