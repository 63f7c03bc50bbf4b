"""What a run stands on: files written whole, run directories, metrics."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

from tas_tf.errors import RunDirectoryError
from tas_tf.runtime import devices, files, metrics, run_directory
from tas_tf.runtime.metrics import METRICS, Metrics
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.training.callbacks import MetricsLog
from tas_tf.training.event_files import EventFiles

CONFIG = "a.epochs = 3\nb.rate = 0.1\n"


@pytest.fixture(params=["disk", "ram"])
def directory(request, tmp_path):
    """An empty run directory, on disk and on a file system that only tf.io.gfile knows."""
    path = str(tmp_path / "runs" / "one")
    return RunDirectory(path if request.param == "disk" else f"ram://{path}")


def names_in(directory):
    return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(directory.path))


def test_files_are_written_whole(directory):
    tf.io.gfile.makedirs(directory.path)
    path = directory.file("note")
    files.write_whole(path, "grün")
    assert files.read_text(path) == "grün"
    files.write_whole(path, b"bytes")
    assert files.read_text(path) == "bytes"
    assert names_in(directory) == ["note"]


@pytest.mark.parametrize("call", ["write", "rename"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(directory, monkeypatch, call):
    tf.io.gfile.makedirs(directory.path)
    path = directory.file("note")
    files.write_whole(path, "old")

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    target = tf.io.gfile.GFile if call == "write" else tf.io.gfile
    monkeypatch.setattr(target, call, fail)
    with pytest.raises(KeyboardInterrupt):
        files.write_whole(path, "new")
    monkeypatch.undo()
    assert files.read_text(path) == "old"
    assert names_in(directory) == ["note"]


def test_a_new_directory_is_accepted_and_checking_leaves_nothing(directory):
    directory.check(CONFIG)
    assert not tf.io.gfile.exists(directory.path)
    directory.open(CONFIG)
    assert names_in(directory) == [run_directory.CONFIG]
    directory.check(CONFIG)
    directory.check(None)
    directory.open(CONFIG)
    assert names_in(directory) == [run_directory.CONFIG]


def test_what_a_killed_process_left_is_no_other_thing(directory):
    tf.io.gfile.makedirs(directory.path)
    for name in (".config.gin.12.tmp", run_directory.LOCK):
        files.write_whole(directory.file(name), "half")
    tf.io.gfile.makedirs(directory.file(".saved_model.12.tmp"))
    files.write_whole(directory.file(".saved_model.12.tmp", "part"), "half")
    directory.check(CONFIG)
    directory.open(CONFIG)
    assert names_in(directory) == [run_directory.CONFIG, run_directory.LOCK]


def test_a_folder_takes_the_place_of_another_whole_or_not_at_all(directory):
    for content in ("first", "second"):
        with files.replacing(directory.file("saved")) as temporary:
            tf.io.gfile.makedirs(temporary)
            files.write_whole(f"{temporary}/part", content)
        assert files.read_text(directory.file("saved", "part")) == content
    with pytest.raises(RunDirectoryError, match="saved cannot be written: full. .* is intact"):
        with files.replacing(directory.file("saved")) as temporary:
            tf.io.gfile.makedirs(temporary)
            raise OSError("full")
    assert files.read_text(directory.file("saved", "part")) == "second"
    assert names_in(directory) == ["saved"]


@pytest.mark.parametrize(
    "same",
    [
        CONFIG,
        "b.rate = 0.1\n\n# a comment\na.epochs = 3\n",
        CONFIG + "data.data_dir = '/elsewhere'\n",
        "a.epochs = \\\n    3\nb.rate = 0.1\n",
        CONFIG + "CheckpointInterval.steps = 7\nCheckpointInterval.seconds = 5\n",
    ],
    ids=["itself", "order", "places", "broken lines", "checkpoints"],
)
def test_the_same_experiment_goes_on(directory, same):
    directory.open(CONFIG)
    directory.check(same)
    assert files.read_text(directory.file(run_directory.CONFIG)) == CONFIG


def test_places_of_networks_may_differ_and_be_long(directory):
    long = "it's a place of many words/" * 6
    places = [f"('{long[:60]}'\n     '{long[60:]}')".replace("it's", "its"), "'a'", "%PLACE"]
    directory.open(f"{CONFIG}run_training.teacher = \\\n    {places[0]}\n")
    for place in places:
        macro = "PLACE = 'x'\n" if "%" in place else ""
        directory.check(f"{macro}{CONFIG}run_training.teacher = {place}\n")
    for other in ("None", None):
        line = "" if other is None else f"run_training.teacher = {other}\n"
        with pytest.raises(RunDirectoryError, match=r"-run_training.teacher = \(a place\)"):
            directory.check(f"{CONFIG}{line}")


def test_another_experiment_is_refused_with_the_difference(directory):
    directory.open(CONFIG)
    with pytest.raises(RunDirectoryError) as refused:
        directory.check("a.epochs = 4\nb.rate = 0.1\n")
    message = str(refused.value)
    assert "different experiment" in message
    assert "-a.epochs = 3" in message
    assert "+a.epochs = 4" in message
    assert "b.rate" not in message


def test_a_folder_of_other_things_is_refused(directory):
    tf.io.gfile.makedirs(directory.path)
    directory.check(CONFIG)  # empty
    for name in run_directory.REPORT_FILES:
        files.write_whole(directory.file(name), "")
    directory.check(CONFIG)
    files.write_whole(directory.file("holiday.jpg"), "")
    with pytest.raises(RunDirectoryError, match="not empty and is no run directory"):
        directory.check(CONFIG)
    assert "holiday.jpg" in names_in(directory)


def test_a_file_is_no_directory(directory):
    tf.io.gfile.makedirs(os.path.dirname(directory.path))
    files.write_whole(directory.path, "")
    with pytest.raises(RunDirectoryError, match="run_dir: .* is a file"):
        directory.check(CONFIG)
    inside = RunDirectory(f"{directory.path}/deeper")
    with pytest.raises(RunDirectoryError, match="cannot be written .* is a file"):
        inside.check(CONFIG)


def test_a_directory_that_cannot_be_written_is_refused(monkeypatch, directory):
    def refuse(self, *args):
        raise tf.errors.PermissionDeniedError(None, None, "no permission")

    tf.io.gfile.makedirs(directory.path)
    monkeypatch.setattr(tf.io.gfile.GFile, "write", refuse)
    with pytest.raises(RunDirectoryError, match="cannot be written .*no permission"):
        directory.check(CONFIG)


def test_home_and_trailing_slashes(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunDirectory("~/run/").path == str(tmp_path / "run")


def test_json(directory):
    tf.io.gfile.makedirs(directory.path)
    directory.write_json("value.json", {"a": [1, 2.5, None]})
    assert directory.read_json("value.json") == {"a": [1, 2.5, None]}
    with pytest.raises(RunDirectoryError, match="none.json cannot be read"):
        directory.read_json("none.json")
    files.write_whole(directory.file("broken.json"), '{"a": ')
    with pytest.raises(RunDirectoryError, match="broken.json cannot be read"):
        directory.read_json("broken.json")


def record(epoch, **values):
    return {"step": 10 * epoch, "epoch": epoch, **values, "elapsed_seconds": 1.5 * epoch}


def test_metrics_go_on_where_the_run_does(directory):
    directory.open(CONFIG)
    log = Metrics(directory, 0)
    assert log.elapsed_seconds() == 0
    for epoch in (1, 2, 3):
        log.write(record(epoch, loss=1 / epoch, name="text"))
    assert [r["epoch"] for r in metrics.read_metrics(directory)] == [1, 2, 3]
    # The checkpoint is of epoch 2: what came later did not happen.
    log = Metrics(directory, 20)
    assert log.elapsed_seconds() == 3
    log.write(record(3, loss=9.0))
    assert metrics.read_metrics(directory) == [
        record(1, loss=1.0, name="text"),
        record(2, loss=0.5, name="text"),
        record(3, loss=9.0),
    ]
    lines = files.read_text(directory.file(METRICS)).splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_a_run_without_metrics(directory):
    assert metrics.read_metrics(directory) == []


def test_metrics_log_writes_a_record_for_each_epoch(directory):
    directory.open(CONFIG)
    with EventFiles(directory) as events:
        log = MetricsLog(Metrics(directory, 0), events, 10)
        log.on_epoch_end(0, {"loss": 0.123456789, "count": 3})
        log.on_epoch_end(1, {"loss": np.float32(0.5)})
    first, second = metrics.read_metrics(directory)
    assert (first["step"], first["epoch"], first["loss"], first["count"]) == (10, 1, 0.123457, 3)
    assert (second["step"], second["loss"]) == (20, 0.5)
    assert 0 <= first["elapsed_seconds"] <= second["elapsed_seconds"]


def test_the_machine_is_described():
    machine = devices.describe_machine()
    assert machine["devices"]
    assert machine["versions"]["tensorflow"] == tf.__version__
    json.dumps(machine)
