"""Images that changed after a run met them: refused, or let pass by a rule that is said."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from command_line import bindings, check_message, run
from keras.layers import BatchNormalization
from PIL import Image

from tas_tf.data import identity
from tas_tf.data.image_data import ImageData
from tas_tf.models import network_files
from tas_tf.reports import report
from tas_tf.runtime.run_directory import RunDirectory

SMALL = ["--gin_file=specs/base/digits.gin"]
SMALL += bindings("EPOCHS = 2", "BATCH_SIZE = 8", "DEPTH = 8", "DATASET = 'ds'")
TAMPERED = [0.0, 0.9]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three classes of images, told apart by a colour, and a network trained on them."""
    folder = tmp_path_factory.mktemp("provenance")
    random = np.random.default_rng(0)
    for label, name in enumerate("abc"):
        (folder / "ds" / name).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 120, (12, 12, 3), np.uint8)
            pixels[..., label] += 100
            Image.fromarray(pixels).save(folder / "ds" / name / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("train", *SMALL, "--run_dir=run") == 0
    return folder


@pytest.fixture(autouse=True)
def place(trained, tmp_path, monkeypatch):
    """A copy of both, which a test may change."""
    shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")


def _rename():
    pathlib.Path("ds/a").rename("ds/zebra")


def _add():
    for number in range(31):
        shutil.copy("ds/b/1.png", f"ds/b/more{number}.png")


def _repaint():
    shutil.copy("ds/a/1.png", "ds/b/1.png")


def _swap():
    for one, other in (("a", "x"), ("b", "a"), ("x", "b")):
        pathlib.Path("ds", one).rename(f"ds/{other}")


def _add_class():
    shutil.copytree("ds/a", "ds/d")


CHANGES = {
    "renamed": (_rename, "class 'a' is now 'zebra'"),
    "more": (_add, "31 images more in train: 91 in place of 60"),
    "repainted": (_repaint, "class 'b' in train"),
}
COMMANDS = {
    "resume": ["train", *SMALL, "--run_dir=run"],
    "dry run": ["train", *SMALL, "--run_dir=run", "--dry_run"],
    "export": ["export", "--run_dir=run", "--format=saved_model"],
    "export beside": ["export", "--run_dir=new", "--model=run"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_changed_images_are_refused(capsys, command, change, expected):
    change()
    before = {path: path.read_bytes() for path in pathlib.Path("run").rglob("*.*")}
    assert run(*command) == 2
    check_message(capsys.readouterr().err, "not the images of run", expected, "Bring back")
    assert {path: path.read_bytes() for path in pathlib.Path("run").rglob("*.*")} == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_rename, "'a' is now 'zebra'"),
        (_swap, "'a' is now 'b'; class 'b' is now 'a'"),
        (_add_class, "class 'd' is new"),
    ],
)
@pytest.mark.parametrize("role", ["teacher", "start_from"])
def test_a_network_of_other_classes_is_refused(capsys, role, change, expected):
    change()
    given = {
        "teacher": ["--teacher=run"],
        "start_from": bindings("run_training.start_from = 'run'"),
    }
    arguments = ["train", *SMALL, "--run_dir=student", *given[role]]
    assert run(*arguments) == 2
    check_message(capsys.readouterr().err, f"classes of the {role} run", expected)
    assert not pathlib.Path("student").exists()


def test_a_teacher_of_other_images_of_the_classes_is_let_pass(capsys):
    _add()
    assert run("train", *SMALL, "--run_dir=student", "--teacher=run", "--dry_run") == 0
    said = capsys.readouterr().out
    assert "the teacher run was trained on other images of the same classes: 31 images more" in said


def test_a_baseline_that_reads_no_image_knows_them(capsys):
    baseline = ["baseline", *SMALL, "--kind=uniform_width", "--run_dir=narrow"]
    assert run(*baseline) == 0
    assert not pathlib.Path("narrow/machine.json").exists()  # it read none
    shutil.move("ds", "elsewhere")
    assert run(*baseline, *bindings("DATASET = 'elsewhere'")) == 0
    assert "Already done: narrow" in capsys.readouterr().out
    shutil.move("elsewhere", "ds")
    _repaint()
    assert run(*baseline) == 2
    check_message(capsys.readouterr().err, "not the images of narrow", "class 'b' in train")
    for place in ("narrow", "narrow/architecture.json"):
        training = ["train", *SMALL, f"--architecture={place}", "--run_dir=student", "--dry_run"]
        assert run(*training) == 0
        told = f"architecture {place} was found on other images: other contents of the images of"
        assert told in capsys.readouterr().out
    report.write_report("narrow")
    assert "What is missing" not in pathlib.Path("narrow/report.md").read_text()


def test_a_run_that_was_recorded_by_other_digests_goes_on(capsys):
    """As a record from before names were recorded alone, and larger sets sampled by class."""
    record = json.loads(pathlib.Path("run/data.json").read_text())
    for group in record["identity"]["splits"]["train"].values():
        del group["names"]
        group["contents"] = "0123456789abcdef"
    record["identity"]["extent"] = "names and sizes of all images, contents of 9 of 60"
    before = ImageData("ds")
    before.prepare(record["seed"])
    record["splits"] = before.splits(identity.read(record))
    pathlib.Path("run/data.json").write_text(json.dumps(record))
    pathlib.Path("run/result.json").unlink()
    assert run("train", *SMALL, "--run_dir=run") == 0
    said = capsys.readouterr().out
    assert "Contents of the images of run cannot be compared: recorded were names" in said
    assert "Goes on from the checkpoint" in said
    report.write_comparison(["run"], "compared")
    assert "cannot be compared" not in pathlib.Path("compared/comparison.md").read_text()


def test_moved_images_are_the_same(capsys):
    export = ["export", "--run_dir=exported", "--model=run"]
    assert run(*export) == 0
    shutil.move("ds", "elsewhere")
    moved = bindings(f"DATASET = '{pathlib.Path('elsewhere').absolute()}'")
    assert run("train", *SMALL, *moved, "--run_dir=run") == 0
    assert "Already done: run" in capsys.readouterr().out
    assert run(*export, *moved) == 0
    assert "Already done: exported" in capsys.readouterr().out
    pathlib.Path("elsewhere/a").rename("elsewhere/zebra")
    assert run("train", *SMALL, *moved, "--run_dir=run") == 2
    check_message(capsys.readouterr().err, "'a' is now 'zebra'")


def test_a_record_from_before_contents_were_recorded_is_compared_as_far_as_it_goes(capsys):
    record = json.loads(pathlib.Path("run/data.json").read_text())
    del record["identity"]
    pathlib.Path("run/data.json").write_text(json.dumps(record))
    _repaint()
    assert run("train", *SMALL, "--run_dir=run") == 0
    assert "run is from before contents were recorded" in capsys.readouterr().out
    _add()
    assert run("train", *SMALL, "--run_dir=run") == 2
    check_message(capsys.readouterr().err, "31 images more")


def test_without_images_what_needs_none_is_exported(capsys):
    shutil.rmtree("ds")
    assert run("export", "--run_dir=run", "--format=saved_model") == 0
    said = capsys.readouterr().out
    assert "images are not at hand" in said and "256 images of noise" in said
    labels = pathlib.Path("run/saved_model/assets/labels.txt").read_text()
    assert labels.split() == ["a", "b", "c"]
    assert "or on noise" in pathlib.Path("run/model_card.md").read_text()
    assert run("export", "--run_dir=run", "--format=litert_int8") == 2
    check_message(capsys.readouterr().err, "'ds'")


@pytest.mark.parametrize("accuracy", TAMPERED)
def test_an_artifact_that_is_far_less_accurate_ends_with_3(capsys, accuracy):
    arguments = ["export", "--run_dir=run", "--format=litert_int8"]
    assert run(*arguments) == 0
    manifest = json.loads(pathlib.Path("run/manifest.json").read_text())
    manifest["artifacts"]["litert_int8"]["accuracy"] = accuracy
    pathlib.Path("run/manifest.json").write_text(json.dumps(manifest))
    capsys.readouterr()
    fallen = accuracy < manifest["keras_accuracy"] - 1 / 6 - 0.05
    assert run(*arguments) == (3 if fallen else 0)
    assert ("FAR LESS ACCURATE" in capsys.readouterr().out) == fallen


def _overshadow():
    """Gives the last map a channel that no logit depends on, and that leaves int8 no room."""
    model = network_files.load_model("run")
    *_, scale = (layer for layer in model.layers if isinstance(layer, BatchNormalization))
    offset, kernel = scale.beta.numpy(), model.layers[-1].kernel.numpy()
    offset[0], kernel[0] = 3000.0, 0.0
    scale.beta.assign(offset)
    model.layers[-1].kernel.assign(kernel)
    network_files.save_model(model, network_files.load_architecture("run"), RunDirectory("run"))


@pytest.mark.slow
def test_an_artifact_that_int8_ruins_ends_with_3(capsys):
    _overshadow()
    assert run("export", "--run_dir=run", "--format=litert_int8,saved_model") == 3
    said = capsys.readouterr().out
    assert "model_int8.tflite is FAR LESS ACCURATE" in said.splitlines()[-1]
    assert "accuracy on the test split" in said and "100.0% of the classes agree" in said


def test_a_comparison_says_that_images_differ():
    assert run("train", *SMALL, "--run_dir=same") == 0
    _repaint()
    assert run("train", *SMALL, "--run_dir=other") == 0
    report.write_comparison(["run", "same"], "one")
    assert "cannot be compared" not in pathlib.Path("one/comparison.md").read_text()
    report.write_comparison(["run", "other"], "two")
    text = pathlib.Path("two/comparison.md").read_text()
    assert "cannot be compared: other beside run" in text and "class 'b' in train" in text
