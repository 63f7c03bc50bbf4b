"""Several replicas do what one device does; workers that are killed or lost."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import replicas
from command_line import MUCH_PATIENCE, PROJECT, bindings, finished

from tas_tf.errors import SpecError
from tas_tf.runtime import cluster

SLOW = pytest.mark.slow  # each starts TensorFlow twice or three times, and traces its steps

SMALL = """
include 'specs/base/digits.gin'
DEPTH = 8
SEARCH_EPOCHS = 4
CheckpointInterval.steps = 4
"""


@pytest.mark.parametrize(
    ("way", "cases"),
    [
        ("2 devices", ["distillation float64"]),
        pytest.param("2 workers", ["distillation float64"], marks=SLOW),
        pytest.param("2 devices", list(replicas.CASES), marks=SLOW),
        pytest.param("4 devices", list(replicas.CASES), marks=SLOW),
        pytest.param("2 workers", list(replicas.CASES), marks=SLOW),
    ],
)
def test_replicas_do_what_one_device_does(way, cases):
    found = replicas.rows(way, cases)
    assert len(found) == len(cases) * (replicas.WORKERS if "workers" in way else 1)
    for row in found:
        first, later = replicas.CASES[row["case"]]
        assert row["moved"] > 1e-2, row
        assert row["first step"] < first, row
        assert max(row["20 steps"], row["logits"], row["metrics"]) < later, row
        assert row["between replicas"] == 0, row


@SLOW
def test_replicas_that_draw_for_themselves_stay_together():
    (row,) = replicas.rows("2 devices", [replicas.OWN_DRAWS])
    mine, theirs = row["draws"]
    assert mine != theirs
    assert row["moved"] > 1e-2
    assert row["between replicas"] == 0


@pytest.fixture
def config(monkeypatch):
    """Sets TF_CONFIG, for as long as a test lasts."""
    cluster.current.cache_clear()
    yield lambda text: monkeypatch.setenv("TF_CONFIG", text)
    monkeypatch.undo()
    cluster.current.cache_clear()


def of(jobs, kind="worker", index=0):
    return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})


def test_without_workers_there_is_one_chief(config):
    assert cluster.current() is None
    assert cluster.is_chief()
    config(of({"worker": ["a:1"]}))
    cluster.current.cache_clear()
    assert cluster.current() is None


@pytest.mark.parametrize(
    ("kind", "index", "number"), [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)]
)
def test_workers_are_those_of_the_configuration(config, kind, index, number):
    config(of({"worker": ["b:2", "c:3"], "chief": ["a:1"]}, kind, index))
    found = cluster.current()
    assert found.addresses == ("a:1", "b:2", "c:3")
    assert found.number == number
    assert cluster.is_chief() == (number == 0)
    assert found.name(2) == "worker 1 (c:3)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "indices"),
        (of({"worker": ["a:1", "b"]}), "'b' is no HOST:PORT"),
        (of({"worker": ["a:1", "b:2"]}, index=2), "worker"),
        (of({"worker": ["a:1", "b:2"], "ps": ["c:3"]}), "other than chief and worker"),
    ],
)
def test_a_configuration_that_is_malformed_is_refused(config, text, reason):
    config(text)
    with pytest.raises(SpecError, match=f"TF_CONFIG: expected .*Received: .*{reason}"):
        cluster.current()


def test_the_worker_that_does_not_answer_is_lost():
    with contextlib.closing(socket.create_server(("localhost", 0))) as server:
        addresses = ("localhost:1", f"localhost:{server.getsockname()[1]}", "localhost:1")
        jobs = (("worker", 0), ("worker", 1), ("worker", 2))
        assert cluster.Cluster(jobs, addresses, 0).lost(ValueError("")) == [2]
        assert cluster.Cluster(jobs, addresses, 2).lost(ValueError("")) == [0]
        both = (addresses[1], addresses[1])
        error = ValueError("/job:worker/replica:0/task:1 is gone")
        assert cluster.Cluster(jobs[:2], both, 0).lost(error) == [1]


@pytest.fixture
def arguments(tmp_path):
    """A small search, in a directory of its own."""
    (tmp_path / "small.gin").write_text(SMALL)
    return [f"--gin_file={tmp_path / 'small.gin'}", f"--run_dir={tmp_path / 'two'}"]


def search(arguments, config=None):
    """Starts a worker of a search."""
    extra = {"TF_CONFIG": config} if config else {}
    return subprocess.Popen(
        [sys.executable, "-m", "tas_tf.search", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **extra},
    )


def wait_for(condition, started):
    deadline = time.monotonic() + MUCH_PATIENCE
    while not condition():
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


def steps(folder):
    """The steps that finished checkpoints are of."""
    return {int(path.stem.split("-")[1]) for path in folder.glob("checkpoints/ckpt-*.json")}


@pytest.mark.slow  # starts two workers three times: minutes
def test_workers_that_are_killed_go_on_to_the_same_result(tmp_path, arguments):
    ports = " ".join(map(str, replicas.free_ports(2)))
    folder = tmp_path / "two"
    undisturbed = tmp_path / "undisturbed"
    command = [PROJECT / "tools" / "two_workers", sys.executable, "-m", "tas_tf.search"]
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "PORTS": ports}
    subprocess.run(
        [*command, arguments[0], f"--run_dir={undisturbed}"],
        env=env, check=True, timeout=MUCH_PATIENCE, capture_output=True,
    )  # fmt: skip
    started = subprocess.Popen(
        [*command, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for index in (1, 0):
        last = max(steps(folder), default=0)
        wait_for(lambda last=last: max(steps(folder), default=0) > last, started)
        for process in psutil.Process(started.pid).children(recursive=True):
            if f'"index": {index}}}' in process.environ().get("TF_CONFIG", ""):
                process.kill()
    stdout, stderr = started.communicate(timeout=2 * MUCH_PATIENCE)
    assert started.returncode == 0, stderr
    assert stdout.count("Goes on from the checkpoint of step") >= 2
    for name in ("architecture.json", "logits.json"):
        assert (folder / name).read_text() == (undisturbed / name).read_text()
    records = [
        [json.loads(line) for line in open(run / "metrics.jsonl")] for run in (folder, undisturbed)
    ]
    for mine, theirs in zip(*records, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert mine[name] == theirs[name] or "seconds" in name
    # One process takes the same first steps; in float32 what follows may part.
    code, _, stderr = finished(
        "search", arguments[0], f"--run_dir={tmp_path / 'one'}", timeout=MUCH_PATIENCE
    )
    assert (code, stderr) == (0, "")
    alone, together = json.loads(open(tmp_path / "one" / "metrics.jsonl").readline()), records[1][0]
    assert alone.keys() == together.keys()
    for name in alone:
        if "seconds" not in name:
            assert alone[name] == pytest.approx(together[name], rel=1e-4)


@pytest.mark.slow  # starts two workers twice, and waits for a silence: a minute or two
@pytest.mark.parametrize(
    ("lost", "how"), [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)]
)
def test_the_others_name_a_worker_that_is_lost(tmp_path, arguments, lost, how):
    long = [*arguments, *bindings("SEARCH_EPOCHS = 1000")]
    configs = replicas.configs(2)
    workers = [search(long, config) for config in configs]
    try:
        wait_for(lambda: steps(tmp_path / "two"), workers[0])
        workers[lost].send_signal(how)
        begin = time.monotonic()
        _, stderr = workers[1 - lost].communicate(timeout=MUCH_PATIENCE)
        assert time.monotonic() - begin < 60
        assert workers[1 - lost].returncode == 75, stderr
        address = json.loads(configs[0])["cluster"]["worker"][lost]
        assert f"Error: worker {lost} ({address}) does not answer" in stderr.splitlines()[-1]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert not list(pathlib.Path(tmp_path).rglob("*.tmp"))


def test_the_scheduler_names_the_workers(config):
    document = (PROJECT / "docs" / "distributed.md").read_text()
    lines = document[document.index("  workers=$(") : document.index("  until python")]
    hosts = "scontrol() { printf '%s\\n' node7 node9; };"
    done = subprocess.run(
        ["bash", "-c", f'{hosts}\n{lines}\nprintf %s "$TF_CONFIG"'],
        env={**os.environ, "SLURM_JOB_NODELIST": "node[7,9]", "SLURM_PROCID": "1"},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    config(done.stdout)
    assert cluster.current().addresses == ("node7:12345", "node9:12345")
    assert cluster.current().name(1) == "worker 1 (node9:12345)"
    assert not cluster.is_chief()
