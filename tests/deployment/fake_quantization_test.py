"""Networks that round as int8 does: kernels, ranges of maps, and the LiteRT files made of them."""

import keras
import numpy as np
import pytest
import quantizable
import small_runs
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from masking import calibrate, randomize

from tas_tf.deployment.fake_quantization import MapRange, RoundedKernel, fake_quantized
from tas_tf.deployment.folding import folded
from tas_tf.deployment.litert import reader
from tas_tf.deployment.quantization_aware import float_operations, int8_bytes


@pytest.fixture(scope="module")
def images():
    return quantizable.images()


def rounding(name, images):
    return fake_quantized(folded(quantizable.classifier(name)), images)


def ranges(student):
    return {layer.name: layer for layer in student.layers if isinstance(layer, MapRange)}


def ends(layer):
    return [float(layer.low), float(layer.high)]


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_kernel_has_a_scale_for_each_channel(depthwise):
    layer = layers.DepthwiseConv2D(3, depth_multiplier=2) if depthwise else layers.Conv2D(6, 3)
    layer.build((None, 8, 8, 3))
    rng = np.random.default_rng(0)
    sizes = 10.0 ** np.arange(-4, 2)
    kernel = rng.normal(size=(9 if depthwise else 27, 6)) * sizes
    shape = layer.weights[0].shape
    layer.set_weights([kernel.reshape(shape), sizes])
    rounded, bias = (value.numpy() for value in RoundedKernel(layer).values())
    steps = rounded.reshape(-1, 6) / (np.abs(kernel).max(axis=0) / 127)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert np.abs(steps).max(axis=0).round(3).tolist() == [127] * 6
    assert np.abs(steps - kernel / (np.abs(kernel).max(axis=0) / 127)).max() < 0.501
    np.testing.assert_allclose(bias, sizes, rtol=1e-6)


def test_a_channel_of_zeros_stays_one():
    layer = layers.Dense(2)
    layer.build((None, 3))
    layer.set_weights([np.array([[1.0, 0.0]] * 3), np.zeros(2)])
    np.testing.assert_allclose(RoundedKernel(layer)(np.ones((1, 3))), [[3.0, 0.0]], atol=1e-6)


def test_ranges_begin_as_images_have_them_and_follow_the_batches(images):
    student = rounding("folds", images)
    start = {name: ends(layer) for name, layer in ranges(student).items()}
    network = folded(quantizable.classifier("folds"))
    maps = keras.Model(network.input, network.get_layer("normalization").output)(images * 1.0)
    found = [float(tf.reduce_min(maps)), float(tf.reduce_max(maps))]
    np.testing.assert_allclose(start["normalization_range"], found, rtol=1e-6)
    assert start["pixels_range"] == [0, 255] and start["re_lu_range"][0] == 0
    student(images * 1.0, training=False)
    assert {name: ends(layer) for name, layer in ranges(student).items()} == start
    student(images * 0.0, training=True)
    black = keras.Model(network.input, network.get_layer("normalization").output)(images * 0.0)
    expected = 0.99 * start["normalization_range"][0] + 0.01 * float(tf.reduce_min(black))
    moved = ends(ranges(student)["normalization_range"])
    np.testing.assert_allclose(moved, [expected, 0.99 * found[1]], rtol=1e-5)
    assert ends(ranges(student)["pixels_range"]) == [0, 255]


def test_what_litert_gives_the_scale_of_its_input_has_no_range_of_its_own(images):
    names = set(ranges(rounding("normalized_first", images)))
    assert not any("average_pooling2d" in name and "global" not in name for name in names)
    # Sums and convolutions that a ReLU follows are rounded behind it alone.
    assert "concatenate_range" in names and "conv2d_range" in names
    assert not any("batch_normalization" in name for name in names)


def test_sigmoids_have_the_range_that_litert_gives_them(images):
    student = rounding("gated", images)
    gates = [layer for name, layer in ranges(student).items() if "gate" in name]
    assert len(gates) >= 2 and all(ends(gate) == [0, 255 / 256] for gate in gates)


def test_all_but_the_normalization_of_pixels_is_trained(images):
    student = rounding("gated", images)
    kernels = [layer for layer in student.layers if isinstance(layer, RoundedKernel)]
    assert len(student.trainable_variables) == 2 * (len(kernels) - 1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(student(images * 1.0, training=True)))
    for gradient in tape.gradient(loss, [v.value for v in student.trainable_variables]):
        assert np.abs(gradient).max() > 0


def steps_apart(student, images):
    """A file's content, and by how many steps of the logits it differs from what it is made of."""
    expected = student(images * 1.0, training=False).numpy()
    content = int8_bytes(student)
    np.testing.assert_allclose(student(images * 1.0, training=False), expected, atol=1e-5)
    received = reader(content, threads=1)(images)
    low, high = ends([*ranges(student).values()][-1])
    return content, np.abs(received - expected) / ((high - low) / 255)


@pytest.mark.parametrize("name", sorted(set(quantizable.ALL) - {"float32"}))
def test_the_file_gives_what_the_network_that_rounds_gives(name, images):
    content, steps = steps_apart(rounding(name, images), images)
    # A sum between two steps may round otherwise; behind it some such add up.
    assert steps.max() < 4.01 and steps.mean() < 0.75
    model = Interpreter(model_content=content)
    (given,), (out,) = model.get_input_details(), model.get_output_details()
    assert (given["dtype"], given["quantization"]) == (np.uint8, (1.0, 0))
    assert out["dtype"] == np.int8 and out["quantization"] != (0.0, 0)
    assert all(d["dtype"] != np.float32 for d in model.get_tensor_details())
    assert float_operations(content) == []


ALONE = {
    "convolution": lambda x: layers.Conv2D(10, 8)(x),
    "depthwise": lambda x: layers.DepthwiseConv2D(8, depth_multiplier=2)(x),
    "dense": lambda x: layers.Dense(10)(x),
    "normalization": lambda x: layers.BatchNormalization()(x),
    "sum": lambda x: layers.Add()([x, layers.MaxPooling2D(3, 1, "same")(x)]),
    "product": lambda x: layers.Multiply()([x, layers.MaxPooling2D(3, 1, "same")(x)]),
    "joined": lambda x: layers.Concatenate()([x, layers.Activation("sigmoid")(x)]),
    "largest": lambda x: layers.GlobalMaxPooling2D()(x),
    "moved": lambda x: layers.Permute((3, 1, 2))(layers.Cropping2D(1)(layers.ZeroPadding2D(2)(x))),
    "repeated": lambda x: layers.UpSampling2D(2)(x),
    "average": lambda x: layers.AveragePooling2D(2)(x),
    "mean": lambda x: layers.GlobalAveragePooling2D()(x),
    "silu": lambda x: layers.Activation("silu")(x),
    "gelu": lambda x: layers.Activation("gelu")(x),
    "relu": lambda x: layers.ReLU()(x),
    "softmax": lambda x: layers.Softmax()(x),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_layer_alone_rounds_as_litert_does(name, images):
    keras.utils.clear_session()
    pixels = layers.Input(quantizable.SHAPE)
    model = keras.Model(pixels, layers.Flatten()(ALONE[name](pixels)))
    student = fake_quantized(folded(quantizable.randomized(model)), images)
    content, steps = steps_apart(student, images)
    # LiteRT looks exponentials up in a table.
    assert steps.max() < (2.01 if name == "softmax" else 1.01) and float_operations(content) == []


def test_kernels_of_the_file_have_a_scale_for_each_channel(images):
    model = Interpreter(model_content=int8_bytes(rounding("folds", images)))
    scales = {
        tuple(details["shape"]): len(details["quantization_parameters"]["scales"])
        for details in model.get_tensor_details()
    }
    assert scales[6, 3, 3, 3] == 6 and scales[1, 3, 3, 12] == 12 and scales[10, 12] == 10


def test_what_int8_has_no_kernels_for_is_named(images):
    student = rounding("float32", images)
    expected = student(images * 1.0, training=False).numpy()
    content = int8_bytes(student)
    assert "RSQRT" in float_operations(content) and "CONV_2D" not in float_operations(content)
    received = reader(content, threads=1)(images)
    np.testing.assert_allclose(received, expected, atol=0.05 * np.abs(expected).max())


def alike(one, other):
    """The correlation of logits, each class about its mean."""
    one, other = (logits - logits.mean(axis=0) for logits in (one, other))
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


# Families, and what they are made with: images are normalized before.
FAMILIES = {
    "MobileNet": {},
    "MobileNetV2": {},
    "MobileNetV3Small": {"include_preprocessing": False},
    "ResNet50V2": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_networks_of_keras_applications_are_int8_throughout(name):
    keras.utils.clear_session()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 32, 32, 3), np.uint8)
    model = getattr(keras.applications, name)(
        weights=None,
        input_shape=(32, 32, 3),
        classes=10,
        classifier_activation=None,
        **FAMILIES[name],
    )
    classifier = small_runs.classifier(model)
    scale, shift = classifier.scale_and_shift
    randomize(model, rng)
    calibrate(model, images * scale + shift)
    expected = classifier.logits(images).numpy()
    network = folded(classifier)
    atol = 1e-3 * np.abs(expected).max()
    np.testing.assert_allclose(network(images * 1.0), expected, rtol=0, atol=atol)
    student = fake_quantized(network, images)
    rounded = student(images * 1.0, training=False).numpy()
    content = int8_bytes(student)
    assert float_operations(content) == []
    received = reader(content, threads=1)(images)
    # Random weights let rounding grow from layer to layer: the file is nearer to the network that
    # rounds than that is to the network that does not.
    assert alike(received, rounded) > alike(rounded, expected)
