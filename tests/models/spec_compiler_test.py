"""The compiled model: what it costs layer by layer, that it is ordinary Keras, and its files."""

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
import small_runs
import tensorflow as tf
from networks import ALL, BOTTLENECK, FILE, SMALL, counted, reference_networks
from parity import check

from tas_tf.errors import ArchitectureError
from tas_tf.layers.normalization import EPSILON, MOMENTUM
from tas_tf.models import network_files
from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.runtime.run_directory import ARCHITECTURE, MODEL, RunDirectory
from tas_tf.spaces.cost import cost
from tas_tf.spaces.search_space import SearchSpace


# Deep networks take Keras seconds each to put together.
@pytest.mark.parametrize("deep", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_reference_networks_are_built_as_counted(reference_dir, monkeypatch, deep):
    # Only shapes matter here: zeros are made faster than random numbers.
    monkeypatch.setattr(
        keras.initializers.VarianceScaling,
        "__call__",
        lambda self, shape, dtype=None: tf.zeros(shape, dtype),
    )
    for name, architecture, macs, parameters in reference_networks(reference_dir):
        if deep != (len(list(architecture.layers())) > 25):
            continue
        model = build_model(architecture)
        received = counted(model)
        check(FILE, "MACs by walking the Keras model's layers", abs(received[0] - macs), 0)
        check(FILE, "parameters by walking the layers", abs(received[1] - parameters), 0)
        assert sum(np.prod(v.shape) for v in model.trainable_variables) == parameters, name
        keras.backend.clear_session()


@pytest.mark.parametrize("name", ALL)
def test_small_networks_are_built_as_counted(name):
    model = build_model(ALL[name])
    expected = cost(ALL[name], "macs"), cost(ALL[name], "parameters")
    assert counted(model) == expected
    assert [layer.name for layer, *_ in ALL[name].layers()] == [
        layer.name for layer in ordered(model, ALL[name]) if hasattr(layer, "kernel")
    ]


def ordered(model, architecture):
    """The model's layers in the order of the architecture's, others last."""
    order = [layer.name for layer, *_ in architecture.layers()]
    return sorted(
        model.layers, key=lambda m: order.index(m.name) if m.name in order else len(order)
    )


@pytest.mark.parametrize("name", ALL)
def test_the_compiled_model_is_stock_keras(name):
    model = build_model(ALL[name])
    assert type(model).__module__.startswith("keras.")
    for layer in model.layers:
        assert type(layer) is getattr(keras.layers, type(layer).__name__)
    assert "tas_tf" not in model.to_json()
    assert model.output_shape == (None, ALL[name].num_classes)
    assert len({layer.name for layer in model.layers}) == len(model.layers)


def randomized(model, seed=0):
    """Gives every weight a random value, variances positive."""
    random = np.random.default_rng(seed)
    model.set_weights(
        [random.uniform(-0.6 if w.ndim > 1 else 0.2, 1, w.shape) for w in model.get_weights()]
    )
    return model


def inputs(architecture, count=3):
    random = np.random.default_rng(1)
    return random.normal(size=(count, *architecture.input_shape)).astype("float32")


@pytest.mark.parametrize("name", ALL)
def test_training_layers_are_the_same_network(name):
    stock = randomized(build_model(ALL[name]))
    training = build_model(ALL[name], TRAINING_LAYERS)
    assert [(w.path.split("/", 1), w.shape, w.trainable) for w in stock.weights] == [
        (w.path.split("/", 1), w.shape, w.trainable) for w in training.weights
    ]
    training.set_weights(stock.get_weights())
    x = inputs(ALL[name])
    expected, received = stock(x, training=False), training(x, training=False)
    np.testing.assert_allclose(received, expected, atol=1e-5 * np.abs(expected).max())
    expected, received = stock(x, training=True), training(x, training=True)
    np.testing.assert_allclose(received, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_fused_normalization_in_training(dtype):
    layer = TRAINING_LAYERS.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, dtype=dtype)
    x = tf.cast(tf.random.stateless_normal([4, 3, 5, 6], [0, 0]) * 3 + 1, layer.compute_dtype)
    layer.build(x.shape)
    randomized(layer)
    scale, offset, mean, variance = (w.astype(np.float64) for w in layer.get_weights())
    y = layer(x, training=True)
    assert y.dtype == x.dtype
    wide = tf.cast(x, tf.float64).numpy()
    batch_mean, batch_variance = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
    expected = (wide - batch_mean) / np.sqrt(batch_variance + EPSILON) * scale + offset
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(tf.cast(y, tf.float64), expected, atol=tolerance)
    moved_mean = MOMENTUM * mean + (1 - MOMENTUM) * batch_mean
    unbiased = batch_variance * 60 / 59
    moved_variance = MOMENTUM * variance + (1 - MOMENTUM) * unbiased
    np.testing.assert_allclose(layer.moving_mean, moved_mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, moved_variance, rtol=1e-5)


def test_fused_normalization_that_is_frozen_or_in_inference_moves_nothing():
    layer = TRAINING_LAYERS.BatchNormalization()
    x = tf.random.stateless_normal([4, 3, 5, 6], [0, 0])
    layer(x, training=False)
    layer.trainable = False
    frozen = layer(x, training=True)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(6))
    np.testing.assert_array_equal(frozen, layer(x, training=False))


def test_initial_weights():
    keras.utils.set_random_seed(0)
    model = build_model(SearchSpace.resnet(8).unpruned())
    kernel = model.get_layer("stage3_block1_conv2").kernel.numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)
    classifier = model.get_layer("classifier").kernel.numpy()
    assert classifier.std() == pytest.approx(0.01, rel=0.1)
    for name, scale in (("bottleneck", 1), ("imagenet", 0)):
        model = build_model(ALL[name])
        assert np.all(model.get_layer("stage2_block1_conv3_bn").gamma.numpy() == scale)
        assert np.all(model.get_layer("stage2_block1_conv2_bn").gamma.numpy() == 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory with a model that was trained on fused layers, and its SavedModel."""
    directory = RunDirectory(str(tmp_path_factory.mktemp("run")))
    model = randomized(build_model(SMALL, TRAINING_LAYERS))
    network_files.save_model(model, SMALL, directory)
    with open(directory.file(ARCHITECTURE), "w") as file:
        file.write(SMALL.to_json())
    path = directory.file("saved_model")
    tf.io.gfile.makedirs(f"{path}/left_over")
    classifier = dataclasses.replace(
        small_runs.classifier(network_files.load_model(directory.path)),
        mean=[0.4, 0.5, 0.6],
        deviation=[0.2, 0.3, 0.25],
    )
    found = small_runs.export_saved_model(classifier, SMALL, path, pixels(6))
    return directory, model, classifier, found


def pixels(count):
    return np.random.default_rng(2).integers(0, 256, (count, *SMALL.input_shape)).astype(np.uint8)


def test_a_saved_model_file_is_loaded_again(trained):
    directory, model, _, _ = trained
    x = inputs(SMALL)
    expected = model(x, training=False)
    for path in (directory.path, directory.file(MODEL)):
        loaded = network_files.load_model(path)
        np.testing.assert_allclose(loaded(x, training=False), expected, rtol=1e-6)
        assert not any("Fused" in type(layer).__name__ for layer in loaded.layers)
    assert network_files.load_architecture(directory.path) == SMALL
    assert network_files.load_architecture(directory.file(ARCHITECTURE)) == SMALL


def test_the_saved_model_has_the_preprocessing_inside(trained):
    directory, model, classifier, found = trained
    check = found["check"]
    assert (check["images"], check["class_agreement"]) == (6, 1)
    assert check["largest_relative_difference"] < 1e-5
    serve = tf.saved_model.load(directory.file("saved_model")).signatures["serving_default"]
    for count in (1, 5):
        x = (pixels(count) / 255 - classifier.mean) / classifier.deviation
        expected = model(x.astype("float32"), training=False).numpy()
        outputs = serve(images=tf.constant(pixels(count)))
        scale = np.abs(expected).max()
        np.testing.assert_allclose(outputs["logits"], expected, atol=1e-4 * scale)
        np.testing.assert_allclose(outputs["probabilities"].numpy().sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(outputs["classes"], expected.argmax(axis=1))


def test_files_load_where_the_package_is_not(trained):
    directory, model, _, _ = trained
    x = inputs(SMALL)
    np.save(directory.file("x.npy"), x)
    code = f"""
import sys
sys.modules["tas_tf"] = None  # as if it were not installed
import keras, numpy as np, tensorflow as tf
model = keras.saving.load_model({directory.file(MODEL)!r})
np.save({directory.file("y.npy")!r}, model(np.load({directory.file("x.npy")!r}), training=False))
tf.saved_model.load({directory.file("saved_model")!r}).signatures["serving_default"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    received = np.load(directory.file("y.npy"))
    np.testing.assert_allclose(received, model(x, training=False), rtol=1e-5)


def test_a_saved_model_replaces_the_one_before(trained):
    directory = trained[0]
    files = tf.io.gfile.listdir(directory.file("saved_model"))
    assert "saved_model.pb" in files
    assert "left_over" not in files
    assert not directory.exists("saved_model.tmp")


def test_what_cannot_be_loaded_is_refused(trained, tmp_path):
    with pytest.raises(ArchitectureError, match="teacher: .* holds no trained network"):
        network_files.load_model(str(tmp_path), "teacher")
    with pytest.raises(ArchitectureError, match="teacher: .*none"):
        network_files.load_model(str(tmp_path / "none"), "teacher")
    (tmp_path / MODEL).write_bytes(b"nothing of the kind")
    with pytest.raises(ArchitectureError, match="architecture: .* cannot be read"):
        network_files.load_model(str(tmp_path))
    (tmp_path / ARCHITECTURE).write_text(SMALL.to_json())
    with pytest.raises(ArchitectureError, match="model: .* cannot be read"):
        network_files.load_model(str(tmp_path))
    # A file of another network than the architecture beside it.
    directory = trained[0]
    tf.io.gfile.copy(directory.file(MODEL), str(tmp_path / MODEL), overwrite=True)
    (tmp_path / ARCHITECTURE).write_text(BOTTLENECK.to_json())
    with pytest.raises(ArchitectureError, match="model: .* cannot be read"):
        network_files.load_model(str(tmp_path))
