"""The training twin computes padded maps, and is the true network in all that can be seen."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import randomized
from spaces import odd_architectures

from tas_tf.layers import padding
from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.supervised import Training, evaluate

DEVICE_WIDTH = padding.device_width


def step(model, images, labels):
    """Returns logits, all gradients, and the averages after a step."""
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    averages = [v.numpy() for v in model.non_trainable_variables]
    return [logits.numpy()], [tf.convert_to_tensor(g).numpy() for g in gradients], averages


@pytest.mark.parametrize("dtype, tolerance, parts", [("float64", 1e-8, 4), ("float32", 1e-5, 1)])
@settings(max_examples=4, deadline=None)
@given(odd_architectures(), st.integers(0, 1000))
def test_a_padded_network_is_the_true_one(dtype, tolerance, parts, architecture, seed):
    # In float32 only inference is compared: a kernel of one channel has gradients that are all
    # rounding, for normalization undoes its scale.
    random = np.random.default_rng(seed)
    images = tf.constant(random.normal(size=(8, *architecture.input_shape)), dtype)
    labels = tf.constant(random.integers(0, 5, 8), tf.int32)
    rules = {
        "padded": lambda width, _: DEVICE_WIDTH(width, "float32"),
        "true": lambda width, _: width,
    }
    found, weights = {}, None
    for name, rule in rules.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(padding, "device_width", rule)
            keras.config.set_dtype_policy(dtype)
            try:
                model = build_model(architecture, TRAINING_LAYERS)
            finally:
                keras.config.set_dtype_policy("float32")
            weights = weights or randomized(model, random).get_weights()
            model.set_weights(weights)
            found[name] = [[model(images, training=False).numpy()], *step(model, images, labels)]
    for values, wanted in zip(found["padded"][:parts], found["true"], strict=False):
        for value, reference in zip(values, wanted, strict=True):
            assert value.shape == reference.shape
            scale = 1e-5 + np.abs(reference).max()
            np.testing.assert_allclose(value / scale, reference / scale, atol=tolerance)


def test_variables_have_the_true_shapes_and_names():
    architecture = Architecture(
        family="cifar_resnet",
        block="basic",
        input_shape=(8, 8, 3),
        num_classes=10,
        stem_width=5,
        stages=(((7, 9),), ((13, 30),), ((33, 45),)),
    )
    twin, stock = build_model(architecture, TRAINING_LAYERS), build_model(architecture)
    assert [(v.path, tuple(v.shape)) for v in twin.variables] == [
        (v.path, tuple(v.shape)) for v in stock.variables
    ]
    widths = [layer.output.shape[-1] for layer in twin.layers if layer.name.endswith("_add")]
    assert widths == [12, 32, 48]


@pytest.mark.parametrize(
    "width, expected", [(3, 4), (4, 4), (21, 28), (25, 28), (29, 32), (57, 64)]
)
def test_widths_that_the_device_likes(width, expected):
    assert padding.device_width(width, "float32") == expected
    assert padding.device_width(width, "float64") == width


def test_under_mixed_precision_variables_and_logits_are_float32():
    architecture = Architecture(
        family="cifar_resnet",
        block="basic",
        input_shape=(8, 8, 3),
        num_classes=10,
        stem_width=5,
        stages=(((7, 9),), ((13, 30),), ((33, 45),)),
    )
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_model(architecture, TRAINING_LAYERS)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {variable.dtype for variable in model.variables} == {"float32"}
    loop = Training(model)
    loop.compile(keras.optimizers.SGD(0.1))
    images, labels = tf.random.normal((4, 8, 8, 3)), tf.constant([0, 1, 2, 3])
    before = [v.numpy() for v in model.trainable_variables]
    loop.train_step((images, labels), tf.constant(0, tf.int64))
    moved = [
        np.abs(a - b.numpy()).max() for a, b in zip(before, model.trainable_variables, strict=True)
    ]
    assert min(moved) > 0
    assert model(images).dtype == tf.float32


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_padded_network_can_be_evaluated(precision):
    """In a graph of inference alone, as held-out accuracy is: it once ended the process."""
    space = SearchSpace.resnet(8, 10, (8, 8, 1))
    narrow = space.architecture([2] * len(space.choices), [0] * len(space.depths))
    keras.config.set_dtype_policy(precision)
    try:
        padded = build_model(narrow, TRAINING_LAYERS)
    finally:
        keras.config.set_dtype_policy("float32")
    true = build_model(narrow)
    true.set_weights(padded.get_weights())
    images = np.random.default_rng(0).normal(size=(40, 8, 8, 1)).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices((images, np.zeros(40, "int32"))).batch(20)
    losses = [evaluate(model, dataset)["loss"] for model in (padded, true)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5 if precision == "float32" else 1e-2)
