"""Searchable units, blocks and stages: the fast path, its plain twin, and docs/method.md 4."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import PlainUnit

from tas_tf.errors import SpecError
from tas_tf.layers.aggregation import AGGREGATIONS
from tas_tf.layers.normalization import EPSILON, MOMENTUM
from tas_tf.layers.searchable_stage import SearchableBlock, SearchableStage
from tas_tf.layers.searchable_unit import Mode, SearchableUnit
from tas_tf.layers.shapes import static_shapes
from tas_tf.layers.streams import Shortcut
from tas_tf.layers.unit_draws import BlockDraw, draw_units
from tas_tf.spaces import families
from tas_tf.spaces.families import Block, Layer, Unit
from tas_tf.training.optimizers import SGD

TOLERANCES = {"float32": 1e-5, "float64": 1e-10}
FORMULATIONS = (SearchableUnit, PlainUnit)
VECTORS = ("scale", "offset", "moving_mean", "moving_variance")


def unit_layer(kernel=(3, 3), stride=1, kind="convolution") -> Layer:
    stem = families.outline(families.CIFAR_RESNET, families.BASIC, (1, 1, 1), (8, 8, 3)).stem
    return dataclasses.replace(stem, name="unit", kind=kind, kernel=kernel, stride=stride)


def randomize(unit, random):
    """Gives a unit random variables, zero in channels that a candidate does not have."""
    unit.kernel.assign(random.normal(size=unit.kernel.shape) * 0.5)
    for name, low in zip(VECTORS, (0.5, -1, -1, 0.5), strict=True):
        values = random.uniform(low, 1.5, unit.scale.shape)
        getattr(unit, name).assign(values * unit.channel_mask)


def cwi(x, channels):
    """Channel-wise interpolation by docs/method.md 3, one output channel at a time."""
    width = x.shape[-1]
    columns = [
        x[..., i * width // channels : -(-(i + 1) * width // channels)].mean(axis=-1)
        for i in range(channels)
    ]
    return np.stack(columns, axis=-1)


def widened(x, channels, aggregation):
    """Brings the channels that a map really has to another number."""
    if aggregation == "interpolate":
        return cwi(x, channels)
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, channels - x.shape[-1])])


def relative(value, reference):
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    return np.abs(value - reference).max() / max(np.abs(reference).max(), 1e-12)


@st.composite
def cases(draw, most_drawn=3):
    """Random units with an input, drawn candidates and their weights."""
    candidates = tuple(sorted(draw(st.sets(st.integers(1, 9), min_size=1, max_size=4))))
    count = min(draw(st.integers(1, most_drawn)), len(candidates))
    odd = st.sampled_from([1, 3, 5])
    kind = draw(st.sampled_from(["convolution", "convolution", "projection"]))
    kernel = (1, 1) if kind == "projection" else (draw(odd), draw(odd))
    random = np.random.default_rng(draw(st.integers(0, 2**20)))
    # At least two: a 1x1 kernel of one input channel has no gradient but for rounding.
    in_channels = draw(st.integers(2, 5))
    side = st.integers(3, 7)
    return {
        "layer": unit_layer(kernel, draw(st.sampled_from([1, 2])), kind),
        "in_channels": in_channels,
        "candidates": candidates,
        "indices": random.permutation(len(candidates))[:count].astype("int32"),
        "weights": random.dirichlet(np.ones(count)),
        "x": random.normal(size=(draw(st.integers(2, 4)), draw(side), draw(side), in_channels)),
        "random": random,
    }


def twins(case, aggregation, dtype):
    """A fused and a plain unit with the same variables."""
    units = [
        make(case["layer"], case["in_channels"], case["candidates"], aggregation, dtype=dtype)
        for make in FORMULATIONS
    ]
    randomize(units[0], case["random"])
    for fused, plain in zip(units[0].weights, units[1].weights, strict=True):
        plain.assign(fused)
    return units


def told(unit, indices, weights):
    """What one unit is told when such candidates are drawn."""
    indices = tf.constant(indices, tf.int32)
    shapes = static_shapes([unit.channels])
    (drawn,) = draw_units(
        [unit.candidates], indices[None], weights[None], shapes, unit.aggregation.mixes
    )
    return drawn


def run(unit, case, dtype, mode=Mode.WEIGHTS):
    """Returns the output, gradients of everything, and the moving statistics afterwards."""
    x, weights = tf.constant(case["x"], dtype), tf.constant(case["weights"], dtype)
    sources = [x, weights, unit.kernel.value, unit.scale.value, unit.offset.value]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        y = unit(x, drawn=told(unit, case["indices"], weights), mode=mode)
        value = tf.reduce_sum(y * tf.cast(tf.random.stateless_normal(y.shape, [0, 0]), dtype))
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(value, sources)]
    return [y, *gradients, unit.moving_mean.numpy(), unit.moving_variance.numpy()]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@given(case=cases())
@settings(max_examples=25, deadline=None)
def test_fused_is_plain(aggregation, dtype, case):
    results = [run(unit, case, dtype) for unit in twins(case, aggregation, dtype)]
    names = ("y", "x", "weights", "kernel", "scale", "offset", "mean", "variance")
    # Gradients that cancel are as exact as what cancels.
    scale = max(np.abs(g).max() for g in results[1][1:6])
    for name, fused, plain in zip(names, *results, strict=True):
        error = np.abs(np.asarray(fused) - np.asarray(plain)).max()
        size = np.abs(plain).max() if name in ("y", "mean", "variance") else scale
        assert error <= TOLERANCES[dtype] * size, name


@pytest.mark.parametrize("make", FORMULATIONS)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_candidate_given_twice_moves_its_averages_once(aggregation, make):
    # A row of a single candidate is drawn as a pair of it, the second with no weight.
    unit = make(unit_layer(), 2, (3,), aggregation, dtype="float64")
    x = tf.random.stateless_normal([2, 4, 4, 2], [0, 0], dtype=tf.float64)
    unit(x, drawn=told(unit, [0, 0], tf.constant([1.0, 0.0], tf.float64)), mode=Mode.WEIGHTS)
    convolved = convolution({"x": x.numpy(), "layer": unit_layer()}, unit.kernel.numpy())
    mean = convolved.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(unit.moving_mean[0], (1 - MOMENTUM) * mean, rtol=1e-12)


def convolution(case, kernel):
    """The unit's convolution from first principles: half a kernel of zeros on every side."""
    x, layer = case["x"], case["layer"]
    stride = layer.stride
    if layer.kind == "projection":
        return pooled(x, stride) @ kernel[0, 0]
    rows, columns = (size // 2 for size in layer.kernel)
    x = np.pad(x, [(0, 0), (rows, rows), (columns, columns), (0, 0)])
    height, width = x.shape[1] - 2 * rows, x.shape[2] - 2 * columns
    y = sum(
        x[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(layer.kernel[0])
        for j in range(layer.kernel[1])
    )
    return y[:, ::stride, ::stride]


def pooled(x, stride):
    """2x2 average pooling of stride 2; at an odd edge the average of what is there."""
    if stride == 1:
        return x
    rows, columns = (np.arange(0, size, 2) for size in x.shape[1:3])
    return np.stack(
        [np.stack([x[:, r : r + 2, c : c + 2].mean((1, 2)) for c in columns], 1) for r in rows], 1
    )


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@given(case=cases())
@settings(max_examples=25, deadline=None)
def test_a_unit_is_what_the_method_says(aggregation, case):
    unit, _ = twins(case, aggregation, "float64")
    before = {name: getattr(unit, name).numpy() for name in VECTORS}
    y, *_ = run(unit, case, "float64")
    z = convolution(case, unit.kernel.numpy())
    widths = [case["candidates"][k] for k in case["indices"]]
    widest, count = max(widths), z[..., 0].size
    expected = 0
    after = {name: before[name].copy() for name in ("moving_mean", "moving_variance")}
    for k, width, weight in zip(case["indices"], widths, case["weights"], strict=True):
        own = z[..., :width]
        mean, variance = own.mean((0, 1, 2)), own.var((0, 1, 2))
        normal = (own - mean) / np.sqrt(variance + EPSILON)
        normal = normal * before["scale"][k, :width] + before["offset"][k, :width]
        expected = expected + weight * widened(normal, widest, aggregation)
        unbiased = variance * count / (count - 1)
        for name, value in (("moving_mean", mean), ("moving_variance", unbiased)):
            after[name][k, :width] = MOMENTUM * before[name][k, :width] + (1 - MOMENTUM) * value
    assert relative(y[..., :widest], expected) < 1e-9
    assert not y[..., widest:].numpy().any()
    for name, value in after.items():
        np.testing.assert_allclose(getattr(unit, name), value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@given(case=cases())
@settings(max_examples=15, deadline=None)
def test_inference_uses_the_averages(aggregation, case):
    unit, plain = twins(case, aggregation, "float64")
    before = [variable.numpy() for variable in unit.weights]
    y, *_ = run(unit, case, "float64", Mode.INFERENCE)
    z = convolution(case, unit.kernel.numpy())
    widths = [case["candidates"][k] for k in case["indices"]]
    expected = 0
    for k, width, weight in zip(case["indices"], widths, case["weights"], strict=True):
        scale, offset, mean, variance = (getattr(unit, name).numpy()[k, :width] for name in VECTORS)
        normal = (z[..., :width] - mean) / np.sqrt(variance + EPSILON) * scale + offset
        expected = expected + weight * widened(normal, max(widths), aggregation)
    assert relative(y[..., : max(widths)], expected) < 1e-9
    assert not y[..., max(widths) :].numpy().any()
    np.testing.assert_allclose(run(plain, case, "float64", Mode.INFERENCE)[0], y, rtol=1e-12)
    for variable, value in zip(unit.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("make", FORMULATIONS)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_what_moves_averages(aggregation, make):
    unit = make(unit_layer(), 3, (2, 4, 5, 8), aggregation)
    x = tf.random.stateless_normal([2, 5, 5, 3], [0, 0])
    drawn, weights = tf.constant([2, 0]), tf.constant([0.3, 0.7])
    averages = [unit.moving_mean, unit.moving_variance]
    before = [variable.numpy() for variable in averages]
    y = unit(x, drawn=told(unit, drawn, weights), mode=Mode.ARCHITECTURE)
    unit(x, drawn=told(unit, drawn, weights), mode=Mode.INFERENCE)
    for variable, value in zip(averages, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    # Both halves use the batch's statistics.
    np.testing.assert_array_equal(unit(x, drawn=told(unit, drawn, weights), mode=Mode.WEIGHTS), y)
    mask = unit.channel_mask * np.array([1, 0, 1, 0])[:, None].astype(bool)
    for variable, value in zip(averages, before, strict=True):
        np.testing.assert_array_equal(variable.numpy() != value, mask)


def test_aggregations_differ_only_where_widths_do():
    units = [SearchableUnit(unit_layer(), 3, (2, 8), name) for name in AGGREGATIONS]
    units[1].kernel.assign(units[0].kernel)
    x = tf.random.stateless_normal([2, 5, 5, 3], [0, 0])
    weights = tf.constant([0.5, 0.5])
    both = [unit(x, drawn=told(unit, [0, 1], weights), mode=Mode.ARCHITECTURE) for unit in units]
    assert np.abs(both[0] - both[1]).max() > 0.1
    one = [unit(x, drawn=told(unit, [0], weights[:1]), mode=Mode.ARCHITECTURE) for unit in units]
    np.testing.assert_allclose(*one, atol=1e-6)


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(SpecError, match="aggregation: expected one of .*'interpolate'"):
        SearchableUnit(unit_layer(), 3, (2, 8), "average")


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("make", FORMULATIONS)
def test_padding_of_scales_and_offsets_stays_zero(aggregation, make):
    unit = make(unit_layer(), 3, (2, 5, 8), aggregation)
    optimizer = SGD(0.1)
    variables = [unit.kernel, unit.scale, unit.offset]
    optimizer.build(variables)
    x = tf.random.stateless_normal([2, 5, 5, 3], [0, 0])
    for drawn in ([0, 2], [1, 0], [2, 1], [0, 1]):
        with tf.GradientTape() as tape:
            y = unit(x, drawn=told(unit, drawn, tf.constant([0.4, 0.6])), mode=Mode.WEIGHTS)
            loss = tf.reduce_sum(tf.square(y - 3))
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply([tf.convert_to_tensor(g) for g in gradients], variables)
    for variable in (unit.scale, unit.offset):
        assert not variable.numpy()[~unit.channel_mask].any()
        assert variable.numpy()[unit.channel_mask].all()


def test_scales_start_at_one_or_zero():
    ones = SearchableUnit(unit_layer(), 3, (2, 4))
    np.testing.assert_array_equal(ones.scale, [[1, 1, 0, 0], [1, 1, 1, 1]])
    zeros = SearchableUnit(unit_layer(), 3, (2, 4), zero_scale=True)
    assert not zeros.scale.numpy().any()


def test_kernels_start_as_he_normal_fan_out():
    keras.utils.set_random_seed(0)
    unit = SearchableUnit(unit_layer(), 32, (64,))
    assert np.std(unit.kernel) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)


def block(candidates, in_channels, stride=1, count=1, **options):
    """Blocks of a 3x3 unit and another, at one resolution, with random variables."""
    family = families.CIFAR_RESNET
    pair = Block("pair", (Unit("first", (3, 3), strided=True), Unit("last", (3, 3), relu=False)))
    stages = families.outline(family, pair, (count, 1, 1), (8, 8, 3)).stages
    layers = stages[0] if stride == 1 else stages[1][:1]
    random, made = np.random.default_rng(0), []
    for member in layers:
        needed = member.needs_projection(in_channels, candidates[-1][-1])
        shortcut = Shortcut(identity=not needed, projection=needed)
        options = {"dtype": "float64", **options}
        made.append(SearchableBlock(member, in_channels, candidates, shortcut, **options))
        in_channels = candidates[-1][-1]
        for unit in [*made[-1].units, made[-1].projection]:
            if unit is not None:
                randomize(unit, random)
    return made


def drawn(member, *indices):
    """What a block is told when such candidates are drawn."""
    units = [
        told(unit, i, tf.constant([1.0] if len(i) == 1 else [0.3, 0.7], tf.float64))
        for unit, i in zip(member.units, indices, strict=True)
    ]
    # The projection draws as the last unit does.
    return BlockDraw(units, units[-1] if member.projection is not None else None)


def image(channels, width=None, sides=(6, 5)):
    """A random map of so many channels, of which only the first are there."""
    x = tf.random.stateless_normal([2, *sides, channels], [0, 1], dtype=tf.float64)
    return x * tf.cast(tf.range(channels) < (width or channels), tf.float64)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize(("width", "indices", "expected"), [(8, [0, 1], 8), (3, [0, 1], 6)])
def test_identity_shortcut_of_another_width(aggregation, width, indices, expected):
    (member,) = block([(4, 8), (2, 6, 8)], 8, aggregation=aggregation)
    assert member.projection is None
    x = image(8, width)
    draws = drawn(member, [0], indices)
    y, channels = member(x, tf.constant(width), drawn=draws, mode=Mode.INFERENCE)
    assert int(channels) == expected
    first = tf.nn.relu(member.units[0](x, drawn=draws.units[0], mode=Mode.INFERENCE))
    branch = member.units[1](first, drawn=draws.units[1], mode=Mode.INFERENCE)
    # Added over the channels they share; the wider one's others pass.
    shared = min(width, 6)
    np.testing.assert_allclose(y[..., :shared], tf.nn.relu((x + branch)[..., :shared]), rtol=1e-12)
    wider = x if width > 6 else branch
    np.testing.assert_allclose(y[..., shared:], tf.nn.relu(wider[..., shared:]), rtol=1e-12)
    assert not y[..., expected:].numpy().any()


@pytest.mark.parametrize("sides", [(6, 4), (5, 7), (1, 3)])
def test_strided_block_of_odd_size(sides):
    (member,) = block([(4, 8), (2, 8)], 5, stride=2)
    x = image(5, sides=sides)
    draws = drawn(member, [0, 1], [0])
    y, channels = member(x, tf.constant(5), drawn=draws, mode=Mode.ARCHITECTURE)
    assert y.shape[1:3] == tuple(-(-side // 2) for side in sides)
    assert int(channels) == 2
    assert not y[..., 2:].numpy().any()
    # The projection draws as the last unit does, from the pooled map.
    projected = member.projection(x, drawn=draws.units[1], mode=Mode.ARCHITECTURE)
    case = {"x": x.numpy(), "layer": member.projection.layer}
    z = convolution(case, member.projection.kernel.numpy())[..., :2]
    normal = (z - z.mean((0, 1, 2))) / np.sqrt(z.var((0, 1, 2)) + EPSILON)
    scale, offset = member.projection.scale[0, :2], member.projection.offset[0, :2]
    np.testing.assert_allclose(projected[..., :2], normal * scale + offset, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_stage_is_what_the_method_says(aggregation):
    members = block([(4, 8), (2, 3, 5, 8)], 8, count=3, aggregation=aggregation)
    stage = SearchableStage("stage", members, (1, 3), aggregation, "float64")
    x, width = image(8, 2), tf.constant(2)
    indices = ([[0, 1], [1]], [[1], [0]], [[0, 1], [0, 2]])
    draws = [drawn(member, *i) for member, i in zip(members, indices, strict=True)]
    depth_weights = tf.constant([0.2, 0.8, 0.0], tf.float64)
    y, channels = stage(x, width, depth_weights, draws=draws, mode=Mode.INFERENCE)
    outputs = []
    for member, draw in zip(members, draws, strict=True):
        x, width = member(x, width, drawn=draw, mode=Mode.INFERENCE)
        outputs.append(x.numpy()[..., : int(width)])
    kept = [outputs[0], outputs[2]]
    widest = max(output.shape[-1] for output in kept)
    assert len({output.shape[-1] for output in kept}) == 2
    assert int(channels) == widest
    expected = sum(
        share * widened(output, widest, aggregation)
        for share, output in zip((0.2, 0.8), kept, strict=True)
    )
    np.testing.assert_allclose(y[..., :widest], expected, rtol=1e-10)
    assert not y[..., widest:].numpy().any()


def test_a_stage_of_one_depth_is_its_last_block():
    members = block([(4, 8), (2, 8)], 8, count=2)
    stage = SearchableStage("stage", members, (2,), "interpolate", "float64")
    x, width = image(8), tf.constant(8)
    indices = ([[0], [0]], [[0, 1], [0, 1]])
    draws = [drawn(member, *i) for member, i in zip(members, indices, strict=True)]
    y, channels = stage(x, width, tf.ones([1], tf.float64), draws=draws, mode=Mode.INFERENCE)
    for member, draw in zip(members, draws, strict=True):
        x, width = member(x, width, drawn=draw, mode=Mode.INFERENCE)
    np.testing.assert_array_equal(y, x)
    assert int(channels) == int(width)
