"""Formats: what is declared of each, and what ONNX and OpenVINO make of networks.

What all formats have in common is tested in artifacts_test.py, and what all runtimes have in
common in runners_test.py.
"""

import inspect
import multiprocessing
import os
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import small_runs
import tensorflow as tf
from command_line import PROJECT
from masking import calibrate, randomize
from sklearn.datasets import load_digits

import tas_tf
from tas_tf.deployment import artifacts, formats
from tas_tf.deployment.classifier import OUTPUTS
from tas_tf.deployment.formats import FORMATS
from tas_tf.deployment.unreported import openvino
from tas_tf.errors import ArchitectureError, InstallationError, SpecError
from tas_tf.models.derived import build_model
from tas_tf.runtime import run_directory


def exported(model):
    """A network with random weights, as it is exported where there are no images."""
    return artifacts.Export(
        classifier=small_runs.classifier(model),
        architecture=None,
        data=None,
        seed=0,
        qat_epochs=0,
    )


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)


@pytest.fixture(scope="module")
def export():
    model = tas_tf.build_model(small_runs.space().unpruned())
    return exported(small_runs.randomized(model, np.random.default_rng(0)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, export, images):
    folder = tmp_path_factory.mktemp("formats")
    for name in ("saved_model", "onnx", "openvino"):
        FORMATS[name].load().write(export, str(folder / FORMATS[name].file), images)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_file_that_writes_reads_and_runs_it(name):
    functions = ("write", "read", "runner") if FORMATS[name].is_runtime else ("write", "read")
    for function in functions:
        wanted = inspect.signature(getattr(formats.Implementation, function)).parameters
        found = inspect.signature(getattr(FORMATS[name].load(), function)).parameters
        assert list(found) == list(wanted)[1:]  # but for self


def test_every_format_is_documented():
    page = (PROJECT / "docs/deployment.md").read_text()
    for name, each in FORMATS.items():
        assert re.search(rf"^\| `{name}` \| `{each.file}/?` \|", page, re.MULTILINE)
        assert each.extra is None or f"tas_tf[{each.extra}]" in page
    assert FORMATS["keras"].file == run_directory.MODEL


def test_what_is_not_known_or_not_installed(monkeypatch):
    assert formats.parse_formats(["onnx, keras", "onnx"]) == ["onnx", "keras"]
    for names in ([], "", "onnx,"):
        with pytest.raises(SpecError, match="formats: expected one or several of saved_model, li"):
            formats.parse_formats(names)
    with pytest.raises(SpecError, match="runtime: expected one of .*; did you mean litert_int8?"):
        formats.check_runtime("litert_qat")
    for name, each in FORMATS.items():
        for package, imported in each.packages.items():
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, imported, None)
                said = (
                    rf"formats: {name} needs {package}, not installed here: pip install 'tas_tf\["
                )
                with pytest.raises(InstallationError, match=said):
                    formats.parse_formats(name)


def by_onnx(folder):
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    return lambda images: dict(zip(OUTPUTS, session.run(OUTPUTS, {"images": images}), strict=True))


def by_openvino(folder):
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.Core().compile_model(folder / "openvino/model.xml", "CPU", settings)
    return lambda images: {name: network({"images": images})[name] for name in OUTPUTS}


# An empty batch comes after another: that one's answers must not come again.
@pytest.mark.parametrize("load", [by_onnx, by_openvino])
def test_they_give_what_the_saved_model_gives(folder, export, images, load):
    answer = load(folder)
    served = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    expected = export.classifier.logits(images).numpy()
    for count in (7, 0, 1):
        answers = answer(images[:count])
        for name, value in served(images=tf.constant(images[:count])).items():
            assert (answers[name].shape, answers[name].dtype) == (value.shape, value.dtype)
            np.testing.assert_allclose(answers[name], value, atol=1e-4)
        np.testing.assert_allclose(answers["logits"], expected[:count], atol=1e-4)


@pytest.mark.parametrize("load", [by_onnx, by_openvino])
def test_they_refuse_images_of_another_shape(folder, images, load):
    answer = load(folder)
    for shape in small_runs.WRONG:
        with pytest.raises(Exception, match="Invalid rank|Got invalid dim|input tensor with index"):
            answer(np.zeros(shape, np.uint8))
    assert answer(images)["logits"].shape == (20, 10)  # it answers still


def test_onnx_names_the_batch(folder):
    graph = onnx.load(folder / "model.onnx").graph
    shapes = [value.type.tensor_type.shape.dim for value in (*graph.input, *graph.output)]
    assert [shape[0].dim_param for shape in shapes] == ["batch"] * 4
    assert [dimension.dim_value for dimension in shapes[0][1:]] == [8, 8, 1]


def check_logits(export, name, path, images):
    implementation = FORMATS[name].load()
    implementation.write(export, str(path), images)
    expected = export.classifier.logits(images).numpy()
    logits = implementation.read(export, str(path), threads=1)(images)
    limit = FORMATS[name].tolerance * np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=limit)


def model_of(*layers):
    """A classifier of 8x8 pixels of 8 channels that ends in these layers."""
    images = maps = keras.Input((8, 8, 8))
    for layer in layers:
        maps = layer(maps)
    return keras.Model(images, keras.layers.Dense(10)(keras.layers.Flatten()(maps)))


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_layers_that_keras_exports_badly_are_expressed(tmp_path, name):
    normalization = keras.layers.Normalization(mean=0.2, variance=2.0)
    grouped = keras.layers.Conv2D(8, 3, groups=4)  # which Keras has XLA compile
    model = model_of(normalization, grouped, keras.layers.Activation("gelu"))
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 8), np.uint8)
    check_logits(exported(model), name, tmp_path / FORMATS[name].file, images)


@pytest.mark.parametrize("name", ["saved_model", "litert", "onnx", "openvino"])
@pytest.mark.parametrize("activation", ["silu", "hard_silu", "gelu", "mish", "selu"])
def test_activations_with_gradients_of_their_own(tmp_path, name, activation):
    pixels = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3, activation=activation)(pixels)
    model = keras.Model(pixels, keras.layers.Dense(5)(keras.layers.Flatten()(maps)))
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    check_logits(exported(model), name, tmp_path / FORMATS[name].file, images)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_network_that_a_format_cannot_express_is_named(tmp_path, name):
    path = tmp_path / FORMATS[name].file
    expected = rf"{name}: the network cannot be converted \(No .*Erfinv"
    with pytest.raises(ArchitectureError, match=expected):
        exported(model_of(keras.ops.erfinv)).make(name, str(path), np.zeros((4, 8, 8, 8), np.uint8))
    assert not list(tmp_path.iterdir())


# A model of every family of keras.applications, and the least images that it takes.
FAMILIES = {
    **dict.fromkeys(("VGG16", "ResNet50", "ResNet50V2", "DenseNet121", "MobileNet"), 32),
    **dict.fromkeys(("MobileNetV2", "MobileNetV3Small", "NASNetMobile", "EfficientNetB0"), 32),
    **dict.fromkeys(("EfficientNetV2B0", "ConvNeXtTiny"), 32),
    **{"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75},
}


def digits(size):
    """Scikit-learn's digits as images (1797, size, size, 3) uint8, shuffled, and their labels."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = (data.images[order] * 15).astype(np.uint8)
    repeats = -(-size // 8)
    images = images.repeat(repeats, axis=1).repeat(repeats, axis=2)[:, :size, :size]
    return np.stack([images] * 3, axis=-1), data.target[order]


def trained(name, images, labels):
    """A network derived at random from a model of a family, trained for some epochs.

    Networks of random weights tell little here: they let errors of rounding grow, some by a
    factor of 10,000, and int8 computes something else.
    """
    keras.utils.set_random_seed(0)
    whole = getattr(keras.applications, name)(
        weights=None, input_shape=images.shape[1:], classes=10, classifier_activation=None
    )
    space = tas_tf.SearchSpace.from_model(whole)
    rng = np.random.default_rng(0)
    narrow = space.architecture([rng.integers(len(c.candidates)) for c in space.choices])
    export = exported(build_model(narrow))
    model, (scale, shift) = export.classifier.model, export.classifier.scale_and_shift
    if not any("Normalization" in type(layer).__name__ for layer in model.layers):
        randomize(model, rng)  # with Keras' own first weights a VGG learns nothing
    pixels = (images * scale + shift).astype(np.float32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    model.fit(pixels, labels, epochs=6, verbose=0)
    calibrate(model, pixels[:256])
    return export


def compared(name, folder):
    """Compares all formats of a family's network; of int8 returns accuracies and correlation."""
    images, labels = digits(FAMILIES[name])
    export = trained(name, images[:1280], labels[:1280])
    images, labels = images[1280:1480], labels[1280:1480]
    for runtime in ("saved_model", "litert", "onnx", "openvino", "keras"):
        check_logits(export, runtime, folder / FORMATS[runtime].file, images)
    expected = export.classifier.logits(images).numpy()
    int8 = FORMATS["litert_int8"].load()
    path = str(folder / FORMATS["litert_int8"].file)
    int8.write(export, path, images)
    logits = int8.read(export, path, threads=1)(images)
    accuracies = [float((some.argmax(axis=1) == labels).mean()) for some in (expected, logits)]
    return accuracies, float(np.corrcoef(logits.ravel(), expected.ravel())[0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_derived_networks_of_any_keras_model(tmp_path, name):
    # TensorFlow keeps what it traces: gigabytes of each, in a process of its own.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        accuracies, correlation = process.submit(compared, name, tmp_path).result()
    print(f"{name}: accuracy {accuracies[0]:.1%}, int8 {accuracies[1]:.1%} ({correlation:.4f})")
    # Rounded to 8 bits where maps of so few epochs have long tails.
    assert accuracies[1] > accuracies[0] - 0.1
    assert correlation > 0.8


def test_openvino_reports_nothing_over_the_network(folder, tmp_path):
    code = (
        "import sys\nfrom tas_tf.deployment.unreported import openvino\n"
        "openvino.convert_model(sys.argv[1])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    subprocess.run(
        [sys.executable, "-c", code, folder / "model.onnx"],
        env=environment,
        check=True,
        capture_output=True,
    )
    assert not list(tmp_path.iterdir())  # what reports keeps its number at home
