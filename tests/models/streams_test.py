"""Streams as the derived network has them: the supernet contains what is built, everywhere."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_tf.layers.aggregation import AGGREGATIONS
from tas_tf.layers.sampling import Draw
from tas_tf.layers.searchable_unit import Mode
from tas_tf.layers.streams import DerivedStreams
from tas_tf.models.inheritance import inherit_weights
from tas_tf.models.spec_compiler import build_model
from tas_tf.models.supernet import Supernet
from tas_tf.spaces.families import FAMILIES
from tas_tf.spaces.search_space import SearchSpace

RATIOS = (0.3, 0.6, 1.0)
NETWORKS = (
    (14, "cifar_resnet", "basic", 9),
    (20, "cifar_resnet", "bottleneck", 9),
    (18, "imagenet_resnet", "basic", 33),
)


def space(depth=14, family="cifar_resnet", block="basic", side=9, **options):
    return SearchSpace.resnet(
        depth, 5, (side, side - 1, 2), family=family, block=block, ratios=RATIOS, **options
    )


def faithful(searched, seed=0, **options):
    """A supernet with streams of the derived network, its variables as training leaves them."""
    keras.utils.set_random_seed(seed)
    net = Supernet(searched, streams="derived", **options)
    random = np.random.default_rng(seed)
    for unit in net.units + net.projections:
        variables = (unit.scale, unit.offset, unit.moving_mean, unit.moving_variance)
        for variable, low in zip(variables, (0.5, -0.5, -0.5, 0.5), strict=True):
            variable.assign(random.uniform(low, 1.0, variable.shape) * unit.row_mask)
    return net


def architectures(searched, count, seed=0):
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield searched.architecture(
            [random.integers(len(choice.candidates)) for choice in searched.choices],
            [random.integers(len(depths)) for depths in searched.depths],
        )


def images(net, count=6):
    return tf.random.stateless_normal([count, *net.space.input_shape], [0, 0])


def derived(net, architecture):
    model = build_model(architecture)
    inherit_weights(model, architecture, net)
    return model


@pytest.mark.parametrize(
    ("shapes", "normalization", "tied"),
    [
        pytest.param("static", "private", False, marks=pytest.mark.slow),
        ("drawn", "shared", False),
        pytest.param("drawn", "private", True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("network", NETWORKS, ids=[f"{n[1]}_{n[2]}" for n in NETWORKS])
def test_the_derived_network_is_the_supernet_under_its_draw(
    network, aggregation, shapes, normalization, tied
):
    searched = space(*network, tie_streams=tied)
    options = {"aggregation": aggregation, "shapes": shapes, "normalization": normalization}
    net = faithful(searched, **options)
    x = images(net)
    run = tf.function(lambda draw: net(x, draw, mode=Mode.INFERENCE))
    for architecture in architectures(searched, 2):
        expected = derived(net, architecture)(x, training=False)
        received = run(net.fixed_draw(architecture))
        np.testing.assert_allclose(received, expected, atol=2e-4 * np.abs(expected).max())


def test_the_paper_s_supernet_does_not_contain_it():
    searched = space()
    net = faithful(searched)
    paper = Supernet(searched, aggregation="interpolate")
    for unit in paper.units:
        (same,) = [u for u in net.units if u.name == unit.name]
        for variable, value in zip(unit.weights, same.weights, strict=True):
            variable.assign(value)
    (architecture,) = architectures(searched, 1)
    x = images(net)
    expected = derived(paper, architecture)(x, training=False)
    received = paper(x, paper.fixed_draw(architecture), mode=Mode.INFERENCE)
    assert np.abs(received - expected).max() > 0.1 * np.abs(expected).max()


def stepped(net):
    """A function of the seed of a draw: logits, and gradients of all variables."""
    variables = net.weight_variables + net.architecture_variables
    x = tf.cast(images(net), tf.float64)

    @tf.function(autograph=False)
    def run(seed):
        with tf.GradientTape() as tape:
            draw = net.draw(tf.constant(1.5, tf.float64), seed)
            loss = tf.reduce_sum(tf.sin(net(x, draw, mode=Mode.WEIGHTS)))
        zero = tf.UnconnectedGradients.ZERO
        found = tape.gradient(loss, [v.value for v in variables], unconnected_gradients=zero)
        return [loss, *map(tf.convert_to_tensor, found)]

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "normalization"),
    [
        ("two", "shared"),
        pytest.param("two", "private", marks=pytest.mark.slow),
        pytest.param("gumbel", "private", marks=pytest.mark.slow),
        pytest.param("straight_through", "shared", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_shapes_give_the_same_numbers(strategy, aggregation, normalization):
    """Logits, gradients and averages of any draw, in static and in drawn shapes."""
    searched = space(depths=[(1, 2), (1, 2), (2,)])
    results = []
    for shapes in ("static", "drawn"):
        net = faithful(
            searched,
            aggregation=aggregation,
            strategy=strategy,
            shapes=shapes,
            normalization=normalization,
            dtype="float64",
        )
        run = stepped(net)
        several = [run(tf.constant([0, step])) for step in range(4)]
        averages = [variable.numpy() for variable in net.average_variables]
        results.append([np.asarray(value) for values in several for value in values] + averages)
    for static, drawn in zip(*results, strict=True):
        np.testing.assert_allclose(drawn, static, atol=1e-8 * max(1, np.abs(static).max()))


def test_every_width_gets_a_gradient():
    net = faithful(space(8), aggregation="pad", dtype="float64")
    x = tf.cast(images(net), tf.float64)
    total = 0
    for step in range(8):
        with tf.GradientTape() as tape:
            draw = net.draw(tf.constant(2.0, tf.float64), tf.constant([0, step]))
            loss = tf.reduce_sum(tf.sin(net(x, draw, mode=Mode.ARCHITECTURE)))
        total = total + np.abs(tf.convert_to_tensor(tape.gradient(loss, net.width_logits.value)))
    assert (total[:, :3] > 0).all()


@given(st.lists(st.integers(0, 2), min_size=5, max_size=5), st.floats(0.05, 0.95))
@settings(max_examples=20, deadline=None)
def test_identity_shares_are_the_probability_of_equal_widths(drawn, share):
    searched = space(8, depths=[(1,), (1,), (1,)])
    streams = DerivedStreams(searched)
    widths = np.array(
        [
            [choice.candidates[k] for k in (d, (d + 1) % 3)]
            for choice, d in zip(searched.choices, [*drawn, 0, 0], strict=True)
        ],
        np.int32,
    )
    weights = np.tile([share, 1 - share], (len(widths), 1))
    shares = streams.identity_shares(
        tf.constant(widths), tf.constant(weights), tf.ones([3, 1], tf.float64)
    ).numpy()
    # Stage 1 alone has a shortcut without stride: from the stem to the second unit of its block.
    expected = [(weights[0] * (widths[0] == width)).sum() for width in widths[2]]
    np.testing.assert_allclose(shares[0], expected)
    assert not shares[1:].any()


def test_a_stage_that_may_end_early_enters_the_next_with_all_its_depths(monkeypatch):
    import dataclasses

    family = dataclasses.replace(
        FAMILIES["cifar_resnet"], name="flat", strides=(1, 1, 1), base_widths=(16, 16, 16)
    )
    monkeypatch.setitem(FAMILIES, "flat", family)
    searched = SearchSpace.resnet(14, 5, (9, 8, 2), family="flat", ratios=RATIOS)
    net = faithful(searched, aggregation="pad")
    x = images(net)
    for architecture in architectures(searched, 4):
        expected = derived(net, architecture)(x, training=False)
        received = net(x, net.fixed_draw(architecture), mode=Mode.INFERENCE)
        np.testing.assert_allclose(received, expected, atol=2e-4 * np.abs(expected).max())
    depths = tf.constant([[0.25, 0.75]] * 3)
    draw = net.fixed_draw(searched.unpruned())
    shares = DerivedStreams(searched).identity_shares(
        tf.fill([13, 1], 16), tf.ones([13, 1]), depths
    )
    np.testing.assert_allclose(shares[:, 0], 1)  # all widths agree, whichever depth is taken
    mixed = net(x, Draw(draw.indices, draw.weights, depths), mode=Mode.INFERENCE)
    assert np.isfinite(mixed).all()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("network", NETWORKS[::2], ids=[f"{n[1]}_{n[2]}" for n in NETWORKS[::2]])
def test_it_starts_from_the_trained_network(network, aggregation):
    searched = space(*network)
    keras.utils.set_random_seed(1)
    model = build_model(searched.unpruned())
    net = Supernet(searched, aggregation=aggregation, streams="derived")
    x = images(net)
    net.start_from(model, x)
    expected = model(x, training=False)
    received = net(x, net.fixed_draw(searched.unpruned()))
    np.testing.assert_allclose(received, expected, atol=1e-4 * np.abs(expected).max())
    # Projections that the network lacks begin as identities: they change nothing.
    added = [p for p in net.projections if p.name not in {layer.name for layer in model.layers}]
    assert added
    for projection in added:
        np.testing.assert_array_equal(projection.kernel[0, 0], np.eye(projection.channels))


def test_bfloat16_is_near():
    searched = space(8)
    wide, net = faithful(searched), faithful(searched, dtype="mixed_bfloat16")
    draw = net.draw(tf.constant(1.0), tf.constant([0, 0]))
    logits = net(images(net, 8), draw, mode=Mode.ARCHITECTURE)
    expected = wide(images(net, 8), draw, mode=Mode.ARCHITECTURE)
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()
