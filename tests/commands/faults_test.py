"""Disks that fill up or turn read-only: a clear error, and what was saved before is intact."""

import contextlib
import json
import os
import pathlib
import resource
import subprocess
import time

import keras
import numpy as np
import pytest
import small_runs
import tensorflow as tf
from command_line import MUCH_PATIENCE, QUICK, bindings, check_message, process, run

from tas_tf.errors import RunDirectoryError
from tas_tf.models import network_files
from tas_tf.models.spec_compiler import build_model
from tas_tf.runtime import lock, run_directory
from tas_tf.runtime.checkpoints import Checkpoints
from tas_tf.runtime.metrics import Metrics, read_metrics
from tas_tf.runtime.run_directory import RunDirectory

TINY = [QUICK, *bindings("DEPTH = 8", "EPOCHS = 1", "CheckpointInterval.steps = 5")]


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A run directory on a disk of its own, of 4 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", path):
        pytest.skip("only root may mount a small disk")
    try:
        yield RunDirectory(str(path / "run"))
    finally:
        while os.path.ismount(path):
            subprocess.run(["umount", "-l", str(path)], check=True)


def fill(directory):
    """Leaves no room on the disk."""
    with contextlib.suppress(OSError), open(f"{directory.path}/../filler", "wb", 0) as file:
        while True:
            file.write(bytes(4096))


def turn_read_only(directory):
    """Where a file is open for writing the disk itself cannot, but what is mounted over it can."""
    folder = os.path.dirname(directory.path)
    assert mount("--bind", folder, folder) and mount("-o", "remount,bind,ro", folder)


FAULTS = {"full": (fill, "No space left on device"), "read-only": (turn_read_only, "Read-only")}


def contents(directory):
    """What lies in the directory, event files aside: they grow."""
    paths = [p for p in pathlib.Path(directory.path).rglob("*") if p.is_file()]
    return {str(p): p.read_bytes() for p in paths if "events" not in p.parts}


def network():
    architecture = small_runs.space().unpruned()
    return build_model(architecture), architecture


def save_checkpoint(directory):
    loop = small_runs.training()
    checkpoints = Checkpoints(directory, **loop.state())
    checkpoints.save(checkpoints.saved or 10)
    return lambda: checkpoints.save(20)


def log(directory):
    metrics, record = Metrics(directory, 0), {"step": 1, "epoch": 1, "elapsed_seconds": 1.0}
    metrics.write(record)

    def write():
        try:
            metrics.write({**record, "step": 2, "more": "x" * 10_000})
        finally:
            assert read_metrics(directory) == [record]

    return write


def save_model(directory):
    model, architecture = network()
    network_files.save_model(model, architecture, directory)
    model.set_weights([value + 1 for value in model.get_weights()])
    return lambda: network_files.save_model(model, architecture, directory)


def export(directory):
    model, architecture = network()
    images = np.zeros((2, 8, 8, 1), np.uint8)
    classifier = small_runs.classifier(model)

    def write():
        small_runs.export_saved_model(
            classifier, architecture, directory.file("saved_model"), images
        )

    write()
    return write


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("prepare", [save_checkpoint, log, save_model, export])
def test_what_was_saved_before_is_intact(disk, prepare, fault):
    disk.open("a = 1\n")
    write = prepare(disk)
    before = contents(disk)
    act, reason = FAULTS[fault]
    act(disk)
    with pytest.raises(RunDirectoryError, match=f"cannot be written: .*{reason}.*is intact"):
        write()
    assert contents(disk) == before
    if prepare is save_model:
        architecture = small_runs.space().unpruned()
        disk_has = keras.models.load_model(disk.file(run_directory.MODEL))
        assert disk_has.count_params() == build_model(architecture).count_params()
    if prepare is export:
        assert tf.saved_model.load(disk.file("saved_model"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_is_refused_before_it_begins(disk, capsys, fault):
    disk.make()
    act, reason = FAULTS[fault]
    act(disk)
    assert run("train", *TINY, f"--run_dir={disk.path}/deeper") == 2
    check_message(capsys.readouterr().err, f"cannot be (written|made).*{reason}")


def test_a_lock_is_not_held_on_a_full_disk(disk):
    disk.make()
    fill(disk)
    with pytest.raises(RunDirectoryError, match="run.lock cannot be written: .*No space left"):
        with lock.locked(disk):
            pass
    lock.check_free(disk)


@pytest.mark.slow
def test_a_run_that_may_not_write_goes_on_when_it_may(tmp_path, capsys, monkeypatch):
    """A limit on the size of files stands for a disk that fills up during a checkpoint."""
    monkeypatch.chdir(tmp_path)
    arguments = [*TINY, "--run_dir=run"]
    started = process("train", *arguments)
    deadline = time.monotonic() + MUCH_PATIENCE
    while not list(pathlib.Path("run").glob("checkpoints/ckpt-*.json")):
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    resource.prlimit(started.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    stderr = started.communicate(timeout=MUCH_PATIENCE)[1]
    assert started.returncode == 2
    check_message(stderr, "ckpt-.* cannot be written: .*File too large", "the same command: it")
    names = os.listdir("run/checkpoints")
    manifests = [name for name in names if name.endswith(".json")]
    assert manifests and len(names) == 3 * len(manifests)
    assert not list(pathlib.Path("run").rglob("*.tmp"))

    assert run("train", *arguments) == 0
    assert "Goes on from the checkpoint of step" in capsys.readouterr().out
    assert json.loads(pathlib.Path("run/result.json").read_text())["test"]["images"] > 0


@pytest.mark.parametrize(
    ("command", "binding", "half", "lower"),
    [
        ("train", "LEARNING_RATE = 1e30", "training", "SGD.learning_rate .macro LEARNING_RATE, "),
        (
            "search",
            "ARCH_LEARNING_RATE = 3e38",
            "the half of the architecture",
            "Adam.learning_rate .macro ARCH_LEARNING_RATE, .* or run_search.cost_weight",
        ),
    ],
)
def test_what_diverges_says_what_to_lower(
    tmp_path, capsys, monkeypatch, command, binding, half, lower
):
    monkeypatch.chdir(tmp_path)
    assert run(command, *TINY, "--run_dir=run", *bindings(binding, "SEARCH_EPOCHS = 1")) == 2
    expected = rf"not finite after step \d+ \(epoch 1\), in {half}\. Lower {lower}"
    message = capsys.readouterr().err
    check_message(message, expected, "start it in another --run_dir")
