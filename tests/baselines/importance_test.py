"""Importance of channels: against the definitions, finite differences and masks."""

import numpy as np
import pytest
import small_runs
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_tf.baselines import gated, importance, sensitivity
from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces.cost import cost, parse_targets
from tas_tf.spaces.derivation import derive
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import losses

SPACES = {
    "basic": small_runs.space(),
    "tied": small_runs.space(tie_streams=True),
    "bottleneck": SearchSpace.resnet(20, 10, (8, 8, 1), block="bottleneck", ratios=(0.5, 1.0)),
    "imagenet": SearchSpace.resnet(18, 10, (32, 32, 3), family="imagenet_resnet"),
}


def network(space, seed=0):
    """An unpruned network with random weights of all sizes."""
    random = np.random.default_rng(seed)
    return small_runs.randomized(build_model(space.unpruned()), random)


def batches(space, count=2, size=16):
    random = np.random.default_rng(1)
    return [
        (
            tf.constant(random.normal(size=(size, *space.input_shape)), tf.float32),
            tf.constant(random.integers(0, space.num_classes, size), tf.int32),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", SPACES)
def test_open_gates_change_nothing(name):
    space = SPACES[name]
    model = network(space)
    twin = gated.gated_network(model, space)
    gates = gated.open_gates(twin)
    assert set(gates) == {
        *gated.unit_gates(space).values(),
        *(gate for stage in gated.branch_gates(space) for gate in stage),
    }
    ((images, _),) = batches(space, 1)
    for training in (False, True):
        expected = model(images, training=training).numpy()
        received = twin([images, gates], training=training).numpy()
        np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-4)


def test_scale_is_the_published_criterion():
    space = SPACES["basic"]
    model = network(space)
    values = importance.magnitude(model, space, "scale")
    unit = next(c for c, choice in enumerate(space.choices) if choice.name == "stage2_block1_conv1")
    scales = np.abs(model.get_layer("stage2_block1_conv1_bn").gamma.numpy())
    np.testing.assert_array_equal(scales, np.sort(scales)[::-1])
    kept = [scales[:width].sum() / scales.sum() for width in space.choices[unit].candidates]
    np.testing.assert_allclose(values.widths[unit], kept, rtol=1e-6)


def test_l1_is_the_published_criterion():
    space = SPACES["basic"]
    model = network(space)
    values = importance.magnitude(model, space, "l1")
    # A block's output cuts what the stem and the block have written.
    kernels = [model.get_layer(name).kernel.numpy() for name in ("stem", "stage1_block1_conv2")]
    written = sum(np.abs(kernel).sum((0, 1, 2)) for kernel in kernels)
    np.testing.assert_allclose(written, np.sort(written)[::-1])
    index = [choice.name for choice in space.choices].index("stage1_block1_conv2")
    kept = [written[:width].sum() / written.sum() for width in space.choices[index].candidates]
    np.testing.assert_allclose(values.widths[index], kept, rtol=1e-5)


@pytest.mark.parametrize("name", SPACES)
def test_magnitudes_grow_with_the_candidate_and_leave_the_function(name):
    space = SPACES[name]
    model = network(space)
    ((images, _),) = batches(space, 1)
    before = model(images, training=False).numpy()
    for criterion in ("scale", "l1"):
        values = importance.magnitude(model, space, criterion)
        for choice, row in zip(space.choices, values.widths, strict=True):
            assert (np.diff(row[: len(choice.candidates)]) > 0).all()
        for depths, row in zip(space.depths, values.depths, strict=True):
            assert (np.diff(row[: len(depths)]) > 0).all()
        after = model(images, training=False).numpy()
        np.testing.assert_allclose(after, before, rtol=1e-2, atol=1e-3 * np.abs(before).max())


def test_taylor_is_the_slope_along_a_mask():
    """`(dL/dg)^2` of a gate, by central differences; of several batches the sum."""
    space = SPACES["basic"]
    model = gated.gated_network(network(space), space)
    several, whole = batches(space), gated.open_gates(model)
    found = importance.gate_importance(model, several)
    functions = [sensitivity.loss_of(model, [batch]) for batch in several]
    step = 0.02
    for name in ("stem_relu", "stage2_block1_conv1_relu", "stage3_block1_relu"):
        largest = np.argsort(-found[name])[:3]
        for channel in largest:
            moved = [
                {**whole, name: whole[name] + sign * step * tf.one_hot(channel, len(whole[name]))}
                for sign in (1, -1)
            ]
            slopes = [(f(moved[0]) - f(moved[1])) / (2 * step) for f in functions]
            assert found[name][channel] == pytest.approx(sum(s**2 for s in slopes), rel=0.05)


def test_taylor_is_gradient_times_weight_of_the_normalization():
    space = SPACES["basic"]
    plain = network(space)
    (batch,) = batches(space, 1)
    found = importance.gate_importance(gated.gated_network(plain, space), [batch])
    layer = plain.get_layer("stage2_block1_conv1_bn")
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(losses.cross_entropy(batch[1], plain(batch[0], training=True)))
    parameters = [layer.gamma.value, layer.beta.value]
    gradients = tape.gradient(loss, parameters)
    products = sum((g * p).numpy() for g, p in zip(gradients, parameters, strict=True))
    expected = products**2
    np.testing.assert_allclose(
        found["stage2_block1_conv1_relu"], expected, rtol=0.02, atol=1e-4 * expected.max()
    )


def test_taylor_tells_what_a_cut_costs():
    """Channels of all layers of a trained network rank as by the change of the loss when cut."""
    space, loop, data = SPACES["basic"], small_runs.training(), small_runs.digits()
    loop.fit(data.training(64, 0), 3)
    model = gated.gated_network(loop.model, space)
    several = list(data.training(128, 0, "architecture", augment=False).batches(0, 4))
    whole, loss = gated.open_gates(model), sensitivity.loss_of(model, several)
    importances, base = importance.gate_importance(model, several), loss(whole)
    found, changes = [], []
    for name in gated.unit_gates(space).values():
        masks = 1 - np.eye(len(whole[name]), dtype="float32")
        changes += [loss({**whole, name: tf.constant(mask)}) - base for mask in masks]
        found += list(importances[name])
    ranks = [np.argsort(np.argsort(values)) for values in (found, np.abs(changes))]
    assert np.corrcoef(*ranks)[0, 1] > 0.6


@pytest.fixture(scope="module")
def valued():
    """Values of one network by every way to value channels."""
    space = SPACES["basic"]
    measured = sensitivity.measure(
        gated.gated_network(network(space), space), space, batches(space), {}, lambda losses: None
    )
    return {
        "scale": importance.magnitude(network(space), space, "scale"),
        "l1": importance.magnitude(network(space), space, "l1"),
        "taylor": importance.taylor(network(space), space, batches(space)),
        "sensitivity": sensitivity.values(space, measured),
    }


@settings(deadline=None, max_examples=20)
@given(target=st.floats(0.3, 1.0))
def test_every_way_keeps_the_budget(valued, target):
    (budget,) = parse_targets(target, SPACES["basic"])
    for name, values in valued.items():
        derived = derive(SPACES["basic"], *values, [budget])
        assert derived.in_band, name
        assert budget.contains(cost(derived.architecture)), name
