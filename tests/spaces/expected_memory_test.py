"""Peak activation memory: by the layers of built models, and its bound for spaces."""

import math

import keras
import numpy as np
import pytest
import spaces
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import reference_networks

from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces import families
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import KINDS, cost
from tas_tf.spaces.expected_cost import FORMULAS, SHARPNESS, CostModel, places
from tas_tf.spaces.search_space import SearchSpace


@pytest.fixture(autouse=True, scope="module")
def odd_blocks():
    with pytest.MonkeyPatch.context() as patch:
        for name, block in spaces.ODD_BLOCKS.items():
            patch.setitem(families.BLOCKS, name, block)
        # Only shapes matter here: zeros are made faster than random numbers.
        patch.setattr(
            keras.initializers.VarianceScaling,
            "__call__",
            lambda self, shape, dtype=None: tf.zeros(shape, dtype),
        )
        yield


# These write over their (first) input, or as padding need no copy of it.
IN_PLACE = (
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.Add,
    keras.layers.ZeroPadding2D,
)


def execution_order(model) -> list:
    """Layers in the order in which they run: all of a block's units, then its shortcut's layers."""
    order, made_by = [], {id(layer.output): layer for layer in model.layers}

    def visit(tensor):
        layer = made_by[id(tensor)]
        if layer not in order:
            for source in reversed(inputs(layer)):
                visit(source)
            order.append(layer)

    visit(model.output)
    return order


def inputs(layer) -> list:
    return [] if isinstance(layer, keras.layers.InputLayer) else keras.tree.flatten(layer.input)


def peak_memory(model) -> int:
    """Bytes alive at most, by the lives of buffers over the layers of a Keras model.

    A buffer is made by an input or by a layer that does not work in place, and lives until the
    last layer that reads it has run.
    """
    buffer_of, size_of, last_use = {}, {}, {}
    order = execution_order(model)
    for step, layer in enumerate(order):
        read = [buffer_of[id(tensor)] for tensor in inputs(layer)]
        if isinstance(layer, IN_PLACE):
            buffer = read[0]
        else:
            buffer = layer.name
            size_of[buffer] = math.prod(layer.output.shape[1:])
        buffer_of[id(layer.output)] = buffer
        for used in (buffer, *read):
            last_use[used] = step
    first_use = {layer.name: step for step, layer in enumerate(order)}
    alive = [
        sum(size for name, size in size_of.items() if first_use[name] <= step <= last_use[name])
        for step in range(len(order))
    ]
    return 4 * max(alive)


# Deep networks take Keras seconds each to put together.
@pytest.mark.parametrize("deep", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_reference_networks(reference_dir, deep):
    for name, architecture, _, _ in reference_networks(reference_dir):
        if deep == (len(list(architecture.layers())) > 35):
            assert cost(architecture, "memory") == peak_memory(build_model(architecture)), name
            keras.backend.clear_session()


SEEDS = st.integers(0, 2**32 - 1)


def random_indices(space: SearchSpace, random) -> tuple[list[int], list[int]]:
    widths = [int(random.integers(len(choice.candidates))) for choice in space.choices]
    return widths, [int(random.integers(len(depths))) for depths in space.depths]


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(space=spaces.small_spaces(), seed=SEEDS)
def test_random_networks(space, seed):
    architecture = space.architecture(*random_indices(space, np.random.default_rng(seed)))
    assert cost(architecture, "memory") == peak_memory(build_model(architecture))
    keras.backend.clear_session()


def test_small_network_by_hand():
    network = Architecture(
        "cifar_resnet", "basic", (5, 7, 3), 9, 2, (((8, 2),), ((1, 4),), ((1, 4),))
    )
    first = 35 * 2 + 35 * 8  # the block's input, which waits, and its first unit's output
    assert cost(network, "memory") == 4 * (first + 35 * 2)  # and its second unit's
    narrow = network.replace(stages=(((1, 2),), ((1, 40),), ((1, 4),)))
    # The stage's output, its shortcut pooled to 3 x 4, and what the projection makes of it.
    assert cost(narrow, "memory") == 4 * (12 * 40 + 12 * 2 + 12 * 40)
    # A wide stem, 4 x 4, and what is pooled of it, exceed the image of 8 x 8.
    pooled = Architecture(
        *(
            "imagenet_resnet",
            "basic",
            (8, 8, 1),
            2,
            64,
            (((1, 1),), ((1, 1),), ((1, 1),), ((1, 1),)),
        )
    )
    assert cost(pooled, "memory") == 4 * (16 * 64 + 4 * 64)
    # On a single pixel the classifier's scores are the largest.
    classes = network.replace(input_shape=(1, 1, 1), num_classes=99)
    assert cost(classes, "memory") == 4 * (4 + 99)


def unpruned_peak(space: SearchSpace) -> int:
    return max(KINDS["memory"].layer(*placed) for placed in space.unpruned().layers())


def allowance(space: SearchSpace) -> float:
    """How far the bound may lie above the peak of one architecture."""
    return math.log(len(places(space, FORMULAS["built"]))) / SHARPNESS * unpruned_peak(space)


@settings(deadline=None, max_examples=40)
@given(space=spaces.small_spaces(), seed=SEEDS)
def test_one_hot(space, seed):
    model, random = CostModel(space, "memory"), np.random.default_rng(seed)
    sizes = [max(len(choice.candidates) for choice in space.choices), max(map(len, space.depths))]
    for _ in range(5):
        indices = random_indices(space, random)
        one_hot = [np.eye(size)[rows] for size, rows in zip(sizes, indices, strict=True)]
        peak = cost(space.architecture(*indices), "memory")
        assert model.expected(*one_hot, total=np.max) == pytest.approx(peak, rel=1e-12)
        bound = model.expected(*one_hot)
        assert peak * (1 - 1e-12) <= bound <= peak * (1 + 1e-12) + allowance(space)


@settings(deadline=None, max_examples=30)
@given(space=spaces.small_spaces(most=150), seed=SEEDS, scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_bound_lies_above_the_expectation(space, seed, scale):
    probabilities = spaces.probabilities(space, spaces.random_logits(space, seed, scale))
    peaks, summed = [], 0.0
    for indices in spaces.all_indices(space):
        peaks.append(cost(space.architecture(*indices), "memory"))
        summed += spaces.probability(*indices, probabilities) * peaks[-1]
    bound = CostModel(space, "memory").expected(*probabilities)
    assert summed * (1 - 1e-9) <= bound <= max(peaks) + allowance(space)


@settings(deadline=None, max_examples=30)
@given(space=spaces.small_spaces(most=150), seed=SEEDS)
def test_bound_is_the_log_sum_exp_of_all_layers_of_all_architectures(space, seed):
    probabilities = spaces.probabilities(space, spaces.random_logits(space, seed))
    sharpness, summed = SHARPNESS / unpruned_peak(space), 0.0
    for indices in spaces.all_indices(space):
        layers = space.architecture(*indices).layers()
        costs = np.array([KINDS["memory"].layer(*placed) for placed in layers])
        probability = spaces.probability(*indices, probabilities)
        summed += probability * np.exp(sharpness * costs).sum()
    expected = np.log(summed) / sharpness
    assert CostModel(space, "memory").expected(*probabilities) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("tie_streams", [False, True])
def test_bound_lies_above_the_mean_of_drawn_peaks(tie_streams):
    space = SearchSpace.resnet(20, tie_streams=tie_streams)
    probabilities = spaces.probabilities(space, spaces.random_logits(space, 1, scale=1.0))
    random, drawn = np.random.default_rng(2), []
    for _ in range(1_000):
        widths, depths = (
            [int((random.random() > row.cumsum()[:-1]).sum()) for row in rows]
            for rows in probabilities
        )
        drawn.append(cost(space.architecture(widths, depths), "memory"))
    bound = CostModel(space, "memory").expected(*probabilities)
    assert np.mean(drawn) < bound <= cost(space.unpruned(), "memory") + allowance(space)


@pytest.mark.parametrize("tie_streams", [False, True])
def test_gradient(tie_streams):
    space = SearchSpace.resnet(
        20, ratios=(0.3, 0.6, 1.0), input_shape=(11, 13, 3), tie_streams=tie_streams
    )
    logits = [tf.constant(rows) for rows in spaces.random_logits(space, 3, scale=0.5)]
    model = CostModel(space, "memory")
    with tf.GradientTape() as tape:
        tape.watch(logits)
        bound = model.expected(*map(tf.nn.softmax, logits), tf.math.log)
    gradients = [gradient.numpy() for gradient in tape.gradient(bound, logits)]
    assert bound.dtype == tf.float64
    for which, gradient in enumerate(gradients):
        assert np.isfinite(gradient).all() and gradient.any()
        for index in np.random.default_rng(4).choice(list(np.ndindex(*gradient.shape)), 5):
            bounds = []
            for step in (1e-4, -1e-4):
                moved = [rows.numpy() for rows in logits]
                moved[which][tuple(index)] += step
                bounds.append(model.expected(*(tf.nn.softmax(rows).numpy() for rows in moved)))
            difference = (bounds[0] - bounds[1]) / 2e-4
            assert gradient[tuple(index)] == pytest.approx(difference, rel=1e-4, abs=1e-3)
