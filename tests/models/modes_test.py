"""Every fast way of computing a supernet is the plain one: shapes, XLA, precisions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from plain import PlainSupernet

from tas_tf.layers import mixing
from tas_tf.layers.sampling import Draw, Path, step_seed
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.supernet import Supernet
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.architecture_search import ArchitectureSearch
from tas_tf.training.optimizers import SGD, Adam


def space(depth=14, family="cifar_resnet", block="basic"):
    size = 9 if family == "cifar_resnet" else 33
    return SearchSpace.resnet(
        depth, 5, (size, size - 1, 3), family=family, block=block, ratios=(0.2, 0.5, 0.75, 1.0)
    )


CASES = {
    "basic": {},
    "bottleneck": {"depth": 20, "block": "bottleneck"},
    "imagenet": {"depth": 18, "family": "imagenet_resnet"},
}


def randomized(net, seed=0):
    """Gives scales, offsets and averages values that no two candidates share."""
    random = np.random.default_rng(seed)
    for unit in net.units + net.projections:
        for vectors, low in ((unit.scale, 0.5), (unit.offset, -1.0), (unit.moving_variance, 0.5)):
            vectors.assign(random.uniform(low, 1.5, vectors.shape) * unit.channel_mask)
    return net


def twin(net, **options):
    """Another supernet of the same space and variables."""
    other = Supernet(net.space, aggregation=net.stem.aggregation.name, **options)
    for mine, theirs in zip(other.variables, net.variables, strict=True):
        mine.assign(tf.cast(theirs, mine.dtype))
    return other


def results(net, temperature, seed, jit_compile=False):
    """Returns logits, gradients of weights and logits, and the averages after a step."""
    images = tf.random.stateless_normal([6, *net.space.input_shape], [seed, 1])
    labels = tf.constant([0, 1, 2, 3, 4, 0])
    weights = [v.value for v in net.weight_variables]
    architecture = [v.value for v in net.architecture_variables]

    @tf.function(autograph=False, jit_compile=jit_compile)
    def run():
        with tf.GradientTape() as tape:
            draw = net.draw(tf.constant(temperature), step_seed(seed, tf.constant(0), 0))
            logits = net(images, draw, mode=Mode.WEIGHTS)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return logits, tape.gradient(
            loss, weights + architecture, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    logits, gradients = run()
    return [logits, *map(tf.convert_to_tensor, gradients), *net.average_variables]


def path_results(net, draw):
    """Returns logits and gradients of weights on four paths, and the averages behind them."""
    images = tf.random.stateless_normal([6, *net.space.input_shape], [0, 1])
    weights = [v.value for v in net.weight_variables]

    @tf.function(autograph=False)
    def run(seed):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            logits = net(images, draw(*net.uniform_path(seed)), mode=Mode.WEIGHTS)
            loss = tf.reduce_sum(tf.square(logits))
        zero = tf.UnconnectedGradients.ZERO
        return [logits, *map(tf.convert_to_tensor, tape.gradient(loss, weights, None, zero))]

    values = [value for n in range(4) for value in run(tf.constant([0, n]))]
    return [*values, *net.average_variables]


def check_equal(received, expected, tolerance):
    largest = max(np.abs(value.numpy()).max() for value in expected)
    for mine, theirs in zip(received, expected, strict=True):
        scale = max(np.abs(theirs.numpy()).max(), 1e-3 * largest)
        np.testing.assert_allclose(mine.numpy() / scale, theirs.numpy() / scale, atol=tolerance)


SLOW = pytest.mark.slow  # each traces three supernets with their gradients: 10 to 20 s


@pytest.mark.parametrize(
    "case, aggregation, temperature",
    [
        pytest.param("basic", "interpolate", 5.0, marks=SLOW),
        pytest.param("basic", "interpolate", 0.01, marks=SLOW),
        pytest.param("basic", "pad", 0.01, marks=SLOW),
        pytest.param("bottleneck", "interpolate", 5.0, marks=SLOW),
        pytest.param("bottleneck", "interpolate", 0.01, marks=SLOW),
        pytest.param("bottleneck", "pad", 5.0, marks=SLOW),
        pytest.param("imagenet", "interpolate", 0.01, marks=SLOW),
        pytest.param("imagenet", "pad", 5.0, marks=SLOW),
    ],
)
def test_drawn_shapes_are_the_plain_formulation(case, aggregation, temperature):
    # At the low temperature weights of drawn candidates and depths vanish.
    keras.utils.set_random_seed(1)
    searched = space(**CASES[case])
    plain = randomized(PlainSupernet(searched, aggregation=aggregation, dtype="float64"))
    drawn = twin(plain, shapes="drawn", dtype="float64")
    static = twin(plain, shapes="static", dtype="float64")
    assert (plain.shapes, drawn.shapes, static.shapes) == ("static", "drawn", "static")
    expected = results(plain, temperature, seed=0)
    check_equal(results(drawn, temperature, seed=0), expected, 1e-7)
    check_equal(results(static, temperature, seed=0), expected, 1e-7)


@SLOW
def test_depths_of_weight_zero_keep_the_gradient_of_a_straight_through_estimator():
    keras.utils.set_random_seed(1)
    options = {"strategy": "straight_through", "dtype": "float64"}
    plain = randomized(PlainSupernet(space(), **options))
    drawn = twin(plain, shapes="drawn", **options)
    for seed in range(2):
        check_equal(results(drawn, 5.0, seed), results(plain, 5.0, seed), 1e-7)


@SLOW
@pytest.mark.parametrize("strategy", ["two", "softmax"])
def test_maps_mixed_entry_by_entry_are_the_plain_formulation(strategy, monkeypatch):
    monkeypatch.setattr(mixing, "TAPPED", 1)
    keras.utils.set_random_seed(1)
    options = {"strategy": strategy, "dtype": "float64"}
    plain = randomized(PlainSupernet(space(), **options))
    drawn = twin(plain, shapes="drawn", **options)
    check_equal(results(drawn, 5.0, seed=0), results(plain, 5.0, seed=0), 1e-7)


@pytest.mark.parametrize(
    "case, aggregation, shapes, normalization",
    [
        ("basic", "pad", "drawn", "private"),
        pytest.param("basic", "interpolate", "drawn", "shared", marks=SLOW),
        pytest.param("basic", "interpolate", "static", "private", marks=SLOW),
        pytest.param("bottleneck", "pad", "drawn", "private", marks=SLOW),
        pytest.param("imagenet", "pad", "static", "shared", marks=SLOW),
        pytest.param("imagenet", "interpolate", "drawn", "private", marks=SLOW),
    ],
)
def test_a_path_is_computed_alone(case, aggregation, shapes, normalization):
    keras.utils.set_random_seed(1)
    options = {"streams": "derived", "normalization": normalization, "dtype": "float64"}
    net = Supernet(space(**CASES[case]), aggregation=aggregation, shapes=shapes, **options)
    for unit in net.units + net.projections:
        unit.scale.assign(tf.random.stateless_uniform(unit.scale.shape, [1, 1], dtype="float64"))
    other = twin(net, shapes=shapes, **options)
    check_equal(path_results(net, Path), path_results(other, Draw), 1e-7)


@SLOW
def test_static_shapes_compile_by_xla():
    keras.utils.set_random_seed(2)
    net = randomized(Supernet(space(), shapes="static"))
    other = twin(net, shapes="static")
    check_equal(results(other, 5.0, 3, jit_compile=True), results(net, 5.0, 3), 2e-3)


@SLOW
def test_bfloat16_stays_near_float32():
    keras.utils.set_random_seed(3)
    exact = randomized(Supernet(space()))
    coarse = twin(exact, dtype="mixed_bfloat16")
    assert {variable.dtype for variable in coarse.variables} == {"float32"}
    received, expected = results(coarse, 5.0, 4), results(exact, 5.0, 4)
    assert received[0].dtype == tf.float32
    check_equal(received[:1], expected[:1], 0.1)
    mine, theirs = (
        np.concatenate([value.numpy().ravel() for value in values[1:]])
        for values in (received, expected)
    )
    assert np.dot(mine, theirs) / (np.linalg.norm(mine) * np.linalg.norm(theirs)) > 0.98


def test_what_weighs_nothing_is_not_looked_at():
    # A depth of weight zero: its blocks' averages stay, and no gradient reaches them.
    keras.utils.set_random_seed(4)
    net = randomized(Supernet(space()))
    whole = net.draw(tf.constant(5.0), tf.constant([0, 0]))
    depth = np.zeros(whole.depth_weights.shape, "float32")
    depth[:, 0] = 1
    before = [variable.numpy() for variable in net.average_variables]
    images = tf.random.stateless_normal([4, *net.space.input_shape], [0, 0])
    cut = Draw(whole.indices, whole.weights, tf.constant(depth))
    net(images, cut, mode=Mode.ARCHITECTURE)
    net(images, cut, mode=Mode.WEIGHTS)
    moved = {
        variable.path: not np.array_equal(variable.numpy(), old)
        for variable, old in zip(net.average_variables, before, strict=True)
    }
    assert any(moved.values())
    for path, has_moved in moved.items():
        assert has_moved == ("block2" not in path), path


def graph_size(depth):
    """Operations of a search step."""
    space = SearchSpace.resnet(depth, num_classes=10)
    search = ArchitectureSearch(Supernet(space, shapes="drawn"))
    search.compile(SGD(0.01), Adam(1e-3), target=0.5)
    search.begin_epoch(0, 1)
    half = tf.zeros([4, *space.input_shape]), tf.zeros([4], tf.int32)
    step = tf.function(lambda number: search.train_step((half, half), number), autograph=False)
    return len(step.get_concrete_function(tf.constant(0, tf.int64)).graph.get_operations())


def test_the_graph_grows_by_few_operations_a_unit():
    # It takes memory and the time of the first step, 20 KB an operation: half of what the step of
    # a ResNet-56 took in all, when a unit had 500.
    assert graph_size(14) - graph_size(8) < 6 * 300
