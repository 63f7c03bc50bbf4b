"""Data, run directories, checkpoints and export on a file system that only tf.io.gfile knows."""

import json
import os
import signal

import pytest
import tensorflow as tf
from command_line import bindings, check_message, run
from sklearn.datasets import load_digits

from tas_tf.runtime import files, run_directory
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.training import callbacks

SMALL = """
include 'specs/base/digits.gin'
DATASET = 'ram://digits'
DEPTH = 8
EPOCHS = 1
SEARCH_EPOCHS = 3
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A spec whose data are a folder of images in memory."""
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = f"ram://digits/{label}"
        tf.io.gfile.makedirs(folder)
        pixels = tf.cast(image[..., None] * (255 / 16), tf.uint8)
        tf.io.write_file(f"{folder}/{number:04}.png", tf.io.encode_png(pixels))
    path = tmp_path_factory.mktemp("spec") / "small.gin"
    path.write_text(SMALL)
    return f"--gin_file={path}"


def interrupt_at(monkeypatch, epoch):
    """Sends this process SIGINT when an epoch has ended."""
    log = callbacks.MetricsLog.on_epoch_end

    def interrupted(self, number, logs=None):
        log(self, number, logs)
        if number == epoch:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(callbacks.MetricsLog, "on_epoch_end", interrupted)


@pytest.mark.slow
def test_the_whole_path_in_memory(spec, monkeypatch, capsys):
    found = RunDirectory("ram://runs/search")
    undisturbed = RunDirectory("ram://runs/undisturbed")
    assert run("search", spec, f"--run_dir={undisturbed.path}") in (0, 3)

    interrupt_at(monkeypatch, 1)
    assert run("search", spec, f"--run_dir={found.path}") == 75
    monkeypatch.undo()
    assert not found.exists(run_directory.ARCHITECTURE)
    capsys.readouterr()
    assert run("search", spec, f"--run_dir={found.path}") in (0, 3)
    assert "Goes on from the checkpoint of step" in capsys.readouterr().out
    for name in (run_directory.ARCHITECTURE, "logits.json"):
        assert files.read_text(found.file(name)) == files.read_text(undisturbed.file(name))

    trained = RunDirectory("ram://runs/student")
    arguments = [spec, f"--run_dir={trained.path}", f"--architecture={found.path}"]
    assert run("train", *arguments, *bindings("EPOCHS = 2")) == 0
    assert json.loads(files.read_text(trained.file(run_directory.RESULT)))["test"]["accuracy"] > 0.2
    assert run("derive", f"--run_dir={found.path}", "--target=0.6") == 0
    assert run("export", f"--run_dir={trained.path}") == 0
    assert "100.0% of the classes agree" in capsys.readouterr().out
    loaded = tf.saved_model.load(trained.file("saved_model"))
    images = tf.zeros([2, 8, 8, 1], tf.uint8)
    assert loaded.signatures["serving_default"](images=images)["logits"].shape == (2, 10)
    left = [path for path, _, _ in tf.io.gfile.walk("ram://runs") if path.endswith(".tmp")]
    assert not left


def test_another_experiment_in_memory_is_refused(spec, capsys):
    directory = RunDirectory("ram://runs/other")
    directory.open("EPOCHS = 7\n")
    assert run("train", spec, f"--run_dir={directory.path}") == 2
    check_message(capsys.readouterr().err, "ram://runs/other holds a different experiment")
