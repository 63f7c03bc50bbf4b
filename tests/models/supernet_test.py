"""The supernet: gradients, the two halves, and the networks that it contains."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tas_tf.errors import ArchitectureError, SpecError
from tas_tf.layers.aggregation import AGGREGATIONS
from tas_tf.layers.normalization import EPSILON
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.candidates import entropy
from tas_tf.models.spec_compiler import build_model
from tas_tf.models.supernet import Supernet
from tas_tf.spaces import families
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.search_space import SearchSpace

RATIOS = (0.3, 0.6, 1.0)
FAMILIES = ("cifar_resnet", "imagenet_resnet")


def space(depth=14, family="cifar_resnet", side=9, **options):
    return SearchSpace.resnet(
        depth, 5, (side, side - 1, 2), family=family, ratios=RATIOS, **options
    )


def images(net, count=4):
    return tf.random.stateless_normal([count, *net.space.input_shape], [0, 0])


def randomize(net):
    """Random scales, offsets and averages, as training leaves them."""
    random = np.random.default_rng(0)
    for unit in net.units + net.projections:
        variables = (unit.scale, unit.offset, unit.moving_mean, unit.moving_variance)
        for variable, low in zip(variables, (0.5, -0.5, -0.5, 0.5), strict=True):
            variable.assign(random.uniform(low, 1.0, variable.shape) * unit.channel_mask)
    return net


@pytest.fixture(scope="module")
def gradients():
    """Gradients of all variables over a few draws: their largest magnitudes, by name."""
    keras.utils.set_random_seed(0)
    net = Supernet(space())
    variables = net.weight_variables + net.architecture_variables

    @tf.function
    def run(seed):
        with tf.GradientTape() as tape:
            logits = net(images(net), net.draw(tf.constant(2.0), seed), mode=Mode.ARCHITECTURE)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant([0, 1, 2, 3]), logits)
            )
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    total = 0
    for step in range(12):
        total += np.array([np.abs(g) for g in run(tf.constant([0, step]))], object)
    return net, {variable.path: value for variable, value in zip(variables, total, strict=True)}


def test_every_variable_is_a_weight_or_a_logit_or_an_average():
    net = Supernet(space())
    kinds = (net.weight_variables, net.architecture_variables, net.average_variables)
    listed = [variable.path for variables in kinds for variable in variables]
    assert len(set(listed)) == len(listed)
    assert set(listed) == {variable.path for variable in net.weights}


def test_every_weight_gets_a_gradient(gradients):
    net, found = gradients
    for variable in net.weight_variables:
        assert found[variable.path].any(), variable.path
    for unit in net.units + net.projections:
        # Over these draws every candidate was drawn; what a candidate lacks has no gradient.
        for vectors in (unit.scale, unit.offset):
            assert found[vectors.path].any(axis=1).all(), vectors.path
            assert not found[vectors.path][~unit.channel_mask].any()


def test_every_logit_gets_a_gradient(gradients):
    net, found = gradients
    for variable, sizes in (
        (net.width_logits, [len(choice.candidates) for choice in net.space.choices]),
        (net.depth_logits, [len(depths) for depths in net.space.depths]),
    ):
        for row, size in zip(found[variable.path], sizes, strict=True):
            assert row[:size].all()
            assert not row[size:].any()


def test_logits_start_small_and_padding_at_zero():
    net = Supernet(space(frozen=("stem",)))
    assert net.width_logits.shape == (13, 3)
    stem, *others = net.width_logits.numpy()
    assert not stem[1:].any()
    assert 0.005 < np.std(others) < 0.02
    widths, depths = (p.numpy() for p in net.probabilities())
    assert widths.dtype == np.float64
    np.testing.assert_array_equal(widths[0], [1, 0, 0])
    np.testing.assert_allclose(np.concatenate([widths.sum(1), depths.sum(1)]), 1)


def copied(net, architecture):
    """The architecture's network with the supernet's weights, copied candidate by candidate."""
    model = build_model(architecture)
    units = {unit.name: unit for unit in net.units + net.projections}
    for layer, in_channels, out_channels, *_ in architecture.layers():
        if layer.kind == "classifier":
            kernel = net.classifier_kernel.numpy()[:in_channels]
            model.get_layer(layer.name).set_weights([kernel, net.classifier_bias.numpy()])
            continue
        unit = units[layer.name]
        k = unit.candidates.index(out_channels)
        kernel = unit.kernel.numpy()[:, :, :in_channels, :out_channels]
        vectors = [
            variable.numpy()[k, :out_channels]
            for variable in (unit.scale, unit.offset, unit.moving_mean, unit.moving_variance)
        ]
        if layer.normalized:
            model.get_layer(f"{layer.name}_bn").set_weights(vectors)
        else:
            # The supernet normalizes every projection: folded into the kernel.
            scale, offset, mean, variance = vectors
            kernel = kernel * scale / np.sqrt(variance + EPSILON)
            assert not (offset - mean * scale / np.sqrt(variance + EPSILON)).any()
        model.get_layer(layer.name).set_weights([kernel])
    return model


def without_shifts(net):
    """Lets the projections that a derived network does not normalize only scale."""
    for projection in net.projections:
        if not projection.layer.normalized:
            projection.offset.assign(np.zeros(projection.offset.shape))
            projection.moving_mean.assign(np.zeros(projection.offset.shape))
    return net


def random_architecture(searched, seed):
    random = np.random.default_rng(seed)
    return searched.architecture(
        [random.integers(len(choice.candidates)) for choice in searched.choices],
        [random.integers(len(depths)) for depths in searched.depths],
    )


# A derived network has projections where widths of an identity shortcut differ, the supernet has
# none to copy from there: tied streams have no such places.
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize(
    ("depth", "family", "block"),
    [(14, "cifar_resnet", "basic"), (20, "cifar_resnet", "bottleneck")]
    + [(18, "imagenet_resnet", "basic")],
)
def test_one_hot_draws_are_the_derived_networks(depth, family, block, aggregation):
    side = 33 if family == "imagenet_resnet" else 9
    searched = space(depth, family, side, block=block, tie_streams=True)
    net = without_shifts(randomize(Supernet(searched, aggregation)))
    x = images(net)
    run = tf.function(lambda draw: net(x, draw, mode=Mode.INFERENCE))
    for seed in range(3):
        architecture = random_architecture(searched, seed)
        expected = copied(net, architecture)(x, training=False)
        received = run(net.fixed_draw(architecture))
        np.testing.assert_allclose(received, expected, atol=1e-4 * np.abs(expected).max())


def trained(searched):
    """The unpruned network with random normalization, as if it had been trained."""
    keras.utils.set_random_seed(1)
    model, random = build_model(searched.unpruned()), np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([random.uniform(low, 1, shape) for low in (0.5, -0.5, -0.5, 0.5)])
    return model


@pytest.mark.parametrize(("depth", "family", "side"), [(18, FAMILIES[1], 33), (14, FAMILIES[0], 9)])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_start_from_the_trained_network(depth, family, side, aggregation):
    searched = space(depth, family, side)
    model, net = trained(searched), Supernet(searched, aggregation)
    x = images(net)
    net.start_from(model, x)
    # Other images too: what is not normalized keeps its scale and its shift.
    for batch in (x, 2 * x + 1):
        expected = model(batch, training=False)
        received = net(batch, net.fixed_draw(searched.unpruned()))
        np.testing.assert_allclose(received, expected, atol=1e-4 * np.abs(expected).max())
    for unit in net.units + net.projections:
        for variable in (unit.scale, unit.offset, unit.moving_mean):
            whole = variable.numpy()[-1]
            np.testing.assert_array_equal(variable, np.where(unit.channel_mask, whole, 0))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (space(8).unpruned(), r"stage1_block2_conv1: .*\(3, 3, 16, 16\).* Received: None"),
        (space(20).unpruned(), "stage1_block3_conv1: .*None here"),
        (space(14).unpruned().replace(num_classes=7), r"classifier: .*\(64, 5\).*\(64, 7\)"),
        (space(14).architecture([2] * 12 + [1], [1] * 3), r"stage3_block2_conv2: .*64, 38\)"),
    ],
    ids=["shallower", "deeper", "classes", "narrower"],
)
def test_start_from_refuses_another_network(architecture: Architecture, message):
    net = Supernet(space(14))
    before = [variable.numpy() for variable in net.weights]
    with pytest.raises(ArchitectureError, match=message):
        net.start_from(build_model(architecture), images(net))
    # Nothing was taken from it.
    for variable, value in zip(net.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_fixed_draw_names_every_candidate():
    searched = space(14)
    net = Supernet(searched)
    architecture = searched.architecture([0, 1, 2, 2, 2] + [1] * 4 + [2] * 4, [0, 1, 0])
    draw = net.fixed_draw(architecture)
    np.testing.assert_array_equal(draw.depth_weights, [[1, 0], [0, 1], [1, 0]])
    # Cut units stand at their smallest width.
    indices = draw.indices.numpy()[:, 0]
    np.testing.assert_array_equal(indices, [0, 1, 2, 0, 0] + [1] * 4 + [2, 2, 0, 0])
    np.testing.assert_array_equal(draw.weights, np.ones([13, 1]))


def test_unknown_strategy_is_refused():
    with pytest.raises(SpecError, match="strategy: expected one of .*'two'"):
        Supernet(space(8), strategy="three")


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_bfloat16(aggregation):
    keras.utils.set_random_seed(0)
    wide = Supernet(space(8), aggregation)
    net = Supernet(space(8), aggregation, dtype="mixed_bfloat16")
    for variable, value in zip(net.weights, wide.weights, strict=True):
        variable.assign(value)
        assert variable.dtype == "float32"
    draw = net.draw(tf.constant(1.0), tf.constant([0, 0]))
    logits = net(images(net, 8), draw, mode=Mode.ARCHITECTURE)
    assert logits.dtype == tf.float32
    assert np.isfinite(logits).all()
    expected = wide(images(net, 8), draw, mode=Mode.ARCHITECTURE)
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def test_blocks_of_all_families_can_be_searched():
    for name, family in families.FAMILIES.items():
        assert Supernet(space(18 if family.stem_pool else 8, name, 32)).space.family == name


def test_entropy():
    p = np.array([[0.5, 0.5, 0, 0], [1, 0, 0, 0], [0.25] * 4, [1, 0, 0, 0]])
    np.testing.assert_allclose(entropy(p, [2, 4, 4, 1]), [1, 0, 1, 0], atol=1e-12)
