"""Checkpoints: written whole, verified, the last few kept."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf

from tas_tf.errors import RunDirectoryError, SpecError
from tas_tf.runtime import files
from tas_tf.runtime.checkpoints import KEPT, CheckpointInterval, Checkpoints
from tas_tf.runtime.run_directory import RunDirectory

CONFIG = "a.epochs = 3\n"


@pytest.fixture(params=["disk", "ram"])
def directory(request, tmp_path):
    """A run directory, on disk and on a file system that only tf.io.gfile knows."""
    path = str(tmp_path / "run")
    opened = RunDirectory(path if request.param == "disk" else f"ram://{path}")
    opened.open(CONFIG)
    return opened


def state(value=0.0):
    return {"value": tf.Variable([value, 1.0])}


def saved(directory, steps=(10, 20, 30)):
    """Saves checkpoints whose value is their step."""
    held = state()
    checkpoints = Checkpoints(directory, **held)
    for step in steps:
        held["value"].assign([step, 1.0])
        checkpoints.save(step)
    return checkpoints


def restored(directory):
    """Restores what there is; returns the value, and what was refused."""
    held = state(-1.0)
    checkpoints = Checkpoints(directory, **held)
    found = checkpoints.restore()
    assert found == (checkpoints.saved is not None)
    return held["value"].numpy()[0], checkpoints.refused


def names(directory):
    return sorted(n.rstrip("/") for n in tf.io.gfile.listdir(directory.file("checkpoints")))


def files_of(step):
    return [f"ckpt-{step}.{e}" for e in ("data-00000-of-00001", "index", "json")]


def test_the_last_few_are_kept(directory):
    assert not Checkpoints(directory, **state()).restore()
    saved(directory, range(10, 60, 10))
    kept = range(60 - 10 * KEPT, 60, 10)
    assert names(directory) == sorted(n for step in kept for n in files_of(step))
    assert restored(directory) == (50, [])


def read(directory, name):
    with tf.io.gfile.GFile(directory.file("checkpoints", name), "rb") as file:
        return file.read()


def damage(directory, name, change):
    files.write_whole(directory.file("checkpoints", name), change(read(directory, name)))


def flipped(content):
    return content[:9] + bytes([content[9] ^ 1]) + content[10:]


DAMAGES = {
    "truncated": (lambda c: c[:-1], r"has [\d,]+ bytes in place of [\d,]+"),
    "empty": (lambda c: b"", "has 0 bytes in place of"),
    "flipped": (flipped, "bytes have changed"),
}


@pytest.mark.parametrize("file", [0, 1], ids=["data", "index"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_one_is_named_and_the_one_before_it_is_used(directory, kind, file):
    saved(directory)
    change, reason = DAMAGES[kind]
    damage(directory, files_of(30)[file], change)
    value, (refused,) = restored(directory)
    assert value == 20
    assert refused.startswith(directory.file("checkpoints", "ckpt-30 cannot be used: its file"))
    assert re.search(reason, refused)


def test_a_missing_file_is_named(directory):
    saved(directory)
    tf.io.gfile.remove(directory.file("checkpoints", files_of(30)[1]))
    value, (refused,) = restored(directory)
    assert value == 20 and "its file ckpt-30.index is missing" in refused


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff", b"[" * 99_999, b"{}", b'{"files": 3, "run": 1}']
    + [b'{"files": {"a": {"bytes": 1}}, "run": "", "variables": ""}'],
)
def test_a_damaged_manifest_is_named(directory, content):
    saved(directory)
    damage(directory, files_of(30)[2], lambda _: content)
    value, (refused,) = restored(directory)
    assert value == 20 and "ckpt-30 cannot be used: its manifest is damaged" in refused


def test_one_of_another_network_or_run_is_named(directory):
    saved(directory)
    for step, change in ((30, {"variables": "x"}), (20, {"run": "x"})):
        text = json.loads(read(directory, files_of(step)[2]))
        damage(directory, files_of(step)[2], lambda _, text=text, c=change: json.dumps(text | c))
    value, refused = restored(directory)
    assert value == 10
    assert "ckpt-30 cannot be used: it is of another network" in refused[0]
    assert "ckpt-20 cannot be used: another run made it" in refused[1]


@pytest.mark.parametrize("other", [{"value": [0.0]}, {"other": [0.0, 1.0]}])
def test_none_that_can_be_used_ends_the_run(directory, other):
    saved(directory)
    variables = {name: tf.Variable(value) for name, value in other.items()}
    before = [v.numpy() for v in variables.values()]
    with pytest.raises(RunDirectoryError) as caught:
        Checkpoints(directory, **variables).restore()
    message = str(caught.value)
    for step in (10, 20, 30):
        assert f"ckpt-{step} cannot be used: it is of another network" in message
    assert "to start over" in message
    for value, old in zip(variables.values(), before, strict=True):
        np.testing.assert_array_equal(value.numpy(), old)


def test_an_unfinished_one_is_left_out_and_removed_by_the_next(directory):
    saved(directory, [10])
    for name in ("ckpt-20.data-00000-of-00001", "ckpt-20_temp/part-00000-of-00001.index"):
        path = directory.file("checkpoints", name)
        tf.io.gfile.makedirs(path.rpartition("/")[0])
        files.write_whole(path, "half")
    value, (refused,) = restored(directory)
    assert value == 10 and refused.endswith("ckpt-20 was not finished: it is left out")
    saved(directory, [20])
    assert names(directory) == [*files_of(10), *files_of(20)]
    assert restored(directory) == (20, [])


def test_only_unfinished_ones_are_none(directory):
    saved(directory, [10])
    tf.io.gfile.remove(directory.file("checkpoints", "ckpt-10.json"))
    held = state()
    checkpoints = Checkpoints(directory, **held)
    assert not checkpoints.restore()
    assert "ckpt-10 was not finished" in checkpoints.refused[0]


def test_a_save_that_fails_leaves_what_was_there(directory, monkeypatch):
    checkpoints = saved(directory)
    before = names(directory)

    def fail(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.io.gfile, "rename", fail)
    with pytest.raises(RunDirectoryError, match="ckpt-40.* cannot be written: No space left"):
        checkpoints.save(40)
    monkeypatch.undo()
    assert names(directory) == before
    assert restored(directory) == (30, [])


def test_the_same_step_is_not_saved_twice(directory):
    checkpoints = saved(directory, [10])
    tf.io.gfile.remove(directory.file("checkpoints", "ckpt-10.json"))
    checkpoints.save(10)
    assert "ckpt-10.json" not in names(directory)


def test_when_one_is_due(directory):
    every = Checkpoints(directory, CheckpointInterval(steps=3), **state())
    assert [step for step in range(1, 10) if every.due(step)] == [3, 6, 9]
    often = Checkpoints(directory, CheckpointInterval(seconds=1e-9), **state())
    assert often.due(1)
    assert not Checkpoints(directory, **state()).due(1)
    tenth = Checkpoints(directory, CheckpointInterval(epochs=10), **state())
    assert [epoch for epoch in range(1, 25) if tenth.due_after(epoch)] == [10, 20]
    assert all(every.due_after(epoch) for epoch in range(1, 25))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"steps": 0}, {"steps": -1}, {"seconds": 0.0}])
def test_an_interval_that_makes_no_sense_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(SpecError, match=f"CheckpointInterval.{name}: expected a number above 0"):
        CheckpointInterval(**wrong)
