"""Models of one's own, made smaller by the commands; and what cannot be."""

import json
import pathlib
import shlex

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import PROJECT, bindings, run
from documents import blocks, commands
from keras import layers

from tas_tf.models import network_files
from tas_tf.models.narrowing import importance, most_important, narrow
from tas_tf.reports.report import write_comparison, write_report
from tas_tf.reports.run_records import read_run
from tas_tf.spaces.cost import cost

SHORT = bindings("EPOCHS = 2", "SEARCH_EPOCHS = 2")
SPEC = str(PROJECT / "specs" / "model.gin")


def network(classes=10, activation="softmax", size=8):
    """A small network that concatenates, and scales its pixels itself."""
    i = keras.Input((size, size, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1)(i)
    parts = []
    for filters in (8, 8):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        parts.append(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x)))
        x = layers.Concatenate()(parts) if parts[1:] else parts[0]
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(i, layers.Dense(classes, activation=activation)(x), name="mine")


def spec(model, *more):
    return [
        f"--gin_file={SPEC}",
        *bindings(
            f"MODEL = '{model}'",
            "DATASET = 'digits'",
            "AUGMENTATION = 'none'",
            *more,
        ),
        *SHORT,
    ]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory in which a page's lines have made a trained model smaller, in few epochs."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "specs").symlink_to(PROJECT / "specs")
    make, show = blocks("docs/own_model.md", "python")
    command, _ = commands("docs/own_model.md")[:2]
    _, _, module, *flags = shlex.split(command)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        keras.utils.set_random_seed(0)
        exec(make, {})
        assert run(module.split(".")[1], *flags, *SHORT) == 0
        exec(show, {})
    return folder


@pytest.fixture
def here(workplace, monkeypatch):
    monkeypatch.chdir(workplace)


@pytest.mark.usefixtures("here")
def test_the_model_that_comes_out_is_smaller_and_of_stock_layers():
    whole = keras.saving.load_model("mine.keras")
    small = keras.saving.load_model("runs/mine/student_kd/model.keras")
    searched = read_run("runs/mine").parts["search"]
    share = cost(searched.architecture) / cost(searched.space.unpruned())
    assert 0.475 <= share <= 0.5
    assert small.count_params() < whole.count_params()
    assert [type(layer) for layer in small.layers] == [type(layer) for layer in whole.layers]
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(np.sum(small(images), axis=1), 1, rtol=1e-5)
    served = tf.saved_model.load("runs/mine/export/saved_model")
    answers = served.signatures["serving_default"](tf.constant(images, tf.uint8))
    expected = small(tf.cast(tf.constant(images, tf.uint8), tf.float32))
    probabilities = [v for name, v in answers.items() if "prob" in name]
    np.testing.assert_allclose(probabilities[0], expected, atol=1e-5)


@pytest.mark.usefixtures("here")
def test_what_is_said_and_reported(capsys):
    result = json.loads(pathlib.Path("runs/mine/student_kd/result.json").read_text())
    assert result["unpruned"]["test"]["accuracy"] > 0.4
    read = read_run("runs/mine")
    assert read.missing == []
    page = pathlib.Path("runs/mine/report.md").read_text()
    assert "# digits\\_net on digits" in page
    assert "unpruned, as it came" in page and "derived, distilled" in page
    assert "| conv2d" in page.replace("\\", "")
    compared = write_comparison(["runs/mine", "runs/mine/student_kd"], "compared")[1]
    assert "derived, distilled" in pathlib.Path(compared).read_text()
    # Once more: all of it is done.
    capsys.readouterr()
    assert run("pipeline", *spec("mine.keras"), "--run_dir=runs/mine") == 0
    assert capsys.readouterr().out.count("Already done") == 3


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_the_smaller_model_is_exported_for_other_runtimes(capsys):
    arguments = [
        "--model=runs/mine/student_kd",
        "--run_dir=exported",
        "--format=onnx,openvino,litert_qat",
        "--qat_epochs=1",
    ]
    assert run("export", *arguments) == 0
    manifest = json.loads(pathlib.Path("exported/manifest.json").read_text())
    for name, file in (("onnx", "model.onnx"), ("openvino", "openvino")):
        entry = manifest["artifacts"][name]
        assert pathlib.Path("exported", file).exists() and entry["speed"]["threads"] >= 1
        assert entry["check"]["largest_relative_difference"] <= 1e-4
        assert entry["versions"]["openvino" if name == "openvino" else "onnxruntime"]
    trained = manifest["artifacts"]["litert_qat"]
    assert trained["accuracy"] > manifest["keras_accuracy"] - 0.05
    assert trained["check"]["class_agreement"] > 0.9


@pytest.mark.usefixtures("here")
def test_further_budgets_come_of_the_same_search():
    command = [*spec("mine.keras"), "--run_dir=runs/mine/search", "--target=0.3"]
    assert run("derive", *command) == 0
    text = pathlib.Path("runs/mine/search/derived/0.3/architecture.json").read_text()
    assert json.loads(text)["cost"]["macs"] <= 0.3 * cost(
        read_run("runs/mine").parts["search"].space.unpruned()
    )


@pytest.mark.usefixtures("here")
def test_another_model_in_its_place_is_refused(capsys):
    pathlib.Path("other").mkdir(exist_ok=True)
    keras.utils.set_random_seed(9)
    network().save("other/mine.keras")
    command = [*spec("other/mine.keras"), "--run_dir=runs/mine/search"]
    assert run("search", *command) == 2
    assert "was begun with another model" in capsys.readouterr().err


class Own(layers.Layer):
    """A layer that no file can bring."""

    def call(self, x):
        return x


def with_lambda():
    i = keras.Input((8, 8, 1))
    x = layers.Lambda(lambda x: x * 2)(layers.Conv2D(4, 3)(i))
    return keras.Model(i, layers.Dense(10)(layers.Flatten()(x)))


def frozen_whole():
    i = keras.Input((8, 8, 1))
    return keras.Model(i, layers.Dense(10)(layers.Flatten()(i)))


def with_own_layer():
    i = keras.Input((8, 8, 1))
    return keras.Model(i, layers.Dense(10)(layers.Flatten()(Own()(layers.Conv2D(4, 3)(i)))))


@pytest.mark.parametrize(
    ("make", "more", "said"),
    [
        (lambda: network(classes=7), (), "10 classes"),
        (lambda: network(size=9), (), "(8, 8, 1)"),
        (frozen_whole, (), "channels to search"),
        (with_lambda, (), "Lambda"),
        (with_own_layer, (), "model.keras cannot be read"),
        (lambda: network(activation=None), ("TARGET = 0.001",), "Reachable are"),
        (lambda: network(), ("run_search.start_from = 'teacher'",), "expected None"),
        (lambda: network(), ("own_model.frozen = ('nowhere',)",), "no layer of mine"),
        (lambda: keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(3, 3)]), (), "classifier"),
    ],
)
def test_what_cannot_be_made_smaller_is_named(make, more, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make().save("model.keras")
    assert run("search", *spec("model.keras", *more), "--run_dir=run") == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [None, b"no model"])
def test_a_file_that_is_no_model(content, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "model.keras").write_bytes(content)
    assert run("search", *spec("model.keras"), "--run_dir=run") == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: own_model.model (macro MODEL") and "Traceback" not in error


@pytest.mark.parametrize(
    ("flags", "more", "said"),
    [
        (["--kind=uniform_depth"], (), "of a network of own_model expected one of uniform_width"),
        (["--kind=l0"], (), "of a network of own_model expected one of uniform_width"),
        (["--kind=taylor", "--start_from=teacher"], (), "is what is started from"),
    ],
)
def test_a_baseline_that_it_cannot_have(flags, more, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network().save("model.keras")
    assert run("baseline", *spec("model.keras", *more), "--run_dir=run", *flags) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ["uniform_width", "random", "magnitude", "taylor", "sensitivity"])
def test_a_baseline_keeps_what_the_model_has_learned(kind, capsys):
    by = "run_baseline.criterion = 'l1'"
    command = [*spec("mine.keras", "TARGET = 0.6", by), f"--run_dir=runs/of_{kind}"]
    assert run("baseline", *command, f"--kind={kind}") == 0
    architecture = network_files.load_architecture(f"runs/of_{kind}")
    assert 0.57 <= cost(architecture) / cost(architecture.space.unpruned()) <= 0.6
    small, whole = (
        keras.saving.load_model(path) for path in (f"runs/of_{kind}/model.keras", "mine.keras")
    )
    kept = narrow(
        whole,
        architecture.space.graph,
        most_important(
            importance(whole, architecture.space.graph, by="kernel"), architecture.widths
        ),
    )
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(small(images), kept(images), atol=1e-5)
    if kind == "uniform_width":
        shares = [
            architecture.widths[c.name] / c.candidates[-1] for c in architecture.space.choices
        ]
        assert max(shares) - min(shares) <= 0.2
    # Once more: it is done.
    capsys.readouterr()
    assert run("baseline", *command, f"--kind={kind}") == 0
    assert "Already done" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_baseline_is_found_and_trained_as_the_page_says():
    _, *lines = commands("docs/own_model.md")[:3]
    for line in lines:
        _, _, module, *flags = shlex.split(line)
        assert run(module.split(".")[1], *flags, *SHORT) == 0
    result = json.loads(pathlib.Path("runs/magnitude_trained/result.json").read_text())
    assert result["test"]["accuracy"] > 0.4


@pytest.mark.slow  # a deep network is traced four times
@pytest.mark.parametrize("name", ["vgg16", "mobilenetv2", "densenet", "resnet20"])
def test_a_network_that_is_built_anew_goes_through_the_pipeline(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The preset of a ResNet searches its stages.
    preset = str(PROJECT / "specs" / f"{'vgg16' if name == 'resnet20' else name}.gin")
    more = (
        f"NETWORK = '{name}'",
        "DATASET = 'digits'",
        "ImageData.image_size = 16",
        "EPOCHS = 1",
        "SEARCH_EPOCHS = 1",
    )
    command = [f"--gin_file={preset}", *bindings(*more, "AUGMENTATION = 'none'"), "--run_dir=run"]
    assert run("pipeline", *command) in (0, 3)
    read = read_run("run")
    assert read.missing == []
    assert cost(read.parts["student_kd"].architecture) <= 0.5 * cost(read.search.space.unpruned())
    teacher = keras.saving.load_model("run/teacher/model.keras")
    base = keras.saving.load_model("run/search/base.keras")
    for one, other in zip(teacher.get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    report = pathlib.Path("run/report.md").read_text()
    assert "What is missing" not in report and "one's own" not in report
    assert f"{name}, built for these images" in report


@pytest.mark.parametrize("network", [None, "alexnet"])
def test_a_network_that_there_is_not(network, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    preset = str(PROJECT / "specs" / "vgg16.gin")
    more = bindings(f"NETWORK = {network!r}", "DATASET = 'digits'")
    assert run("search", f"--gin_file={preset}", *more, "--run_dir=run") == 2
    assert "one of vgg16, mobilenetv2, densenet" in capsys.readouterr().err


def residual():
    """A network two of whose branches can be left out."""
    i = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, padding="same")(layers.Rescaling(1 / 127.5, offset=-1)(i))
    for name in ("first", "second"):
        y = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
        x = layers.Add(name=name)([x, layers.Conv2D(8, 3, padding="same")(y)])
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(i, layers.Dense(10, activation="softmax")(x), name="mine")


MEASURED = (
    "run_search.decide = 'measurement'",
    "own_model.leave_out_branches = True",
    "Measurement.paths = 24",
    "Measurement.near = 4",
    "Measurement.finalists = 3",
    "Measurement.images = 128",
    "Measurement.final_images = 256",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        pytest.param(MEASURED, id="measurement"),
        pytest.param(MEASURED[1:2], id="gradient", marks=pytest.mark.slow),
    ],
)
def test_a_search_that_may_leave_out_branches(more, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    residual().save("model.keras")
    command = [*spec("model.keras", *more, "TARGET = 0.35"), "--run_dir=run"]
    assert run("search", *command) in (0, 3)
    printed = capsys.readouterr().out
    assert "2 branches" in printed
    searched = read_run("run")
    assert searched.missing == []
    found = searched.search.architecture
    assert set(found.left_out) <= {"first", "second"}
    small = keras.saving.load_model("run/model.keras")
    assert not {layer.name for layer in small.layers} & {*found.left_out}
    page = pathlib.Path(write_report("run")[1]).read_text()
    if more is MEASURED:
        assert "Lead over uniform" in printed and "Against uniform narrowing" in page
        assert "What each depth is worth" in page
    # A smaller budget needs that branches are left out; the space is known again from the run.
    assert run("derive", "--run_dir=run", "--target=0.05") in (0, 3)
    text = pathlib.Path("run/derived/0.05/architecture.json").read_text()
    assert json.loads(text)["left_out"]
