"""Channels in order of importance, and weights taken from a supernet."""

import numpy as np
import pytest
import tensorflow as tf

from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.inheritance import inherit_weights, order_channels
from tas_tf.models.spec_compiler import build_model
from tas_tf.models.supernet import Supernet
from tas_tf.spaces.search_space import SearchSpace

SPACES = [
    SearchSpace.resnet(14, input_shape=(8, 8, 3)),
    SearchSpace.resnet(20, block="bottleneck", input_shape=(8, 8, 3)),
    SearchSpace.resnet(18, 10, (32, 32, 3), family="imagenet_resnet"),
]


def shaken(layer, rng):
    """Gives a layer's weights random values, variances positive ones."""
    layer.set_weights([w + rng.uniform(0.05, 1, w.shape) * 0.3 for w in layer.get_weights()])


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.family}-{space.block}")
def test_order_leaves_the_function_as_it_is(space):
    rng = np.random.default_rng(0)
    model = build_model(space.unpruned())
    for layer in model.layers:
        shaken(layer, rng)
    images = rng.normal(size=(4, *space.input_shape)).astype("float32")
    before = model(images, training=False).numpy()
    scales = [layer.gamma.numpy() for layer in model.layers if layer.name.endswith("conv1_bn")]
    order_channels(model, space.unpruned())
    np.testing.assert_allclose(model(images, training=False), before, rtol=2e-4)
    ordered = [layer.gamma.numpy() for layer in model.layers if layer.name.endswith("conv1_bn")]
    for old, new in zip(scales, ordered, strict=True):
        np.testing.assert_array_equal(new, np.sort(np.abs(old))[::-1])
    assert any((old != new).any() for old, new in zip(scales, ordered, strict=True))


@pytest.mark.parametrize("space", SPACES[2:] + SPACES[:1], ids=lambda space: space.family)
def test_derived_network_is_the_supernet_at_its_draw(space):
    rng = np.random.default_rng(1)
    supernet = Supernet(space)
    for unit in supernet.units + supernet.projections:
        mask = unit.channel_mask
        for variable in (unit.scale, unit.offset, unit.moving_mean):
            variable.assign(mask * rng.uniform(0.1, 0.5, mask.shape))
        unit.moving_variance.assign(rng.uniform(0.5, 1.5, mask.shape))
    # One width for each stage: no projection stands that the supernet does not have.
    widths = [1] * len(space.choices)
    architecture = space.architecture(widths, [0] * len(space.depths))
    model = build_model(architecture)
    inherit_weights(model, architecture, supernet)
    images = tf.constant(rng.normal(size=(4, *space.input_shape)), tf.float32)
    expected = supernet(images, supernet.fixed_draw(architecture), mode=Mode.INFERENCE).numpy()
    received = model(images, training=False).numpy()
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-4)
