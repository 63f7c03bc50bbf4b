"""Narrowed models: the function of the masked one, the cost of the formula, the weights kept."""

import keras
import numpy as np
import pytest
import random_models
import small_models
from hypothesis import HealthCheck, given, settings
from keras import layers
from masking import check_model, counted, inputs_of, random_keep
from model_parts import classified, image, unit

from tas_tf.errors import ArchitectureError
from tas_tf.models.narrowing import importance, most_important, narrow
from tas_tf.models.reading import read
from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces.cost import cost
from tas_tf.spaces.search_space import SearchSpace


@pytest.mark.parametrize("name", small_models.ALL)
def test_small_models(name):
    check_model(small_models.ALL[name](), halved=False)


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(random_models.plans())
def test_random_models(plan):
    check_model(random_models.build(plan), halved=False, telling=False)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_our_own_networks(block):
    space = SearchSpace.resnet(8 if block == "basic" else 11, 5, (8, 8, 3), block=block)
    network = space.unpruned()
    graph, _ = check_model(build_model(network))
    for kind in ("macs", "parameters"):
        assert graph.cost(kind=kind) == cost(network, kind)


def test_a_mobile_network():
    model = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=10, classifier_activation=None
    )
    check_model(model, halved=False)


def chain():
    i = image()
    x = layers.Conv2D(5, 3, name="first")(i)
    x = layers.BatchNormalization(name="norm")(x)
    return classified(i, layers.Conv2D(4, 1, name="second")(x))


def test_weights_are_those_of_the_kept_channels_in_their_order():
    model = chain()
    small = narrow(model, read(model), {"first": [3, 1], "second": np.array([2])})
    first, second, norm = (model.get_layer(name) for name in ("first", "second", "norm"))
    np.testing.assert_array_equal(small.get_layer("first").kernel, first.kernel[..., 1:4:2])
    expected = [weight[1:4:2] for weight in norm.get_weights()]
    np.testing.assert_array_equal(small.get_layer("norm").get_weights(), expected)
    expected = second.kernel.numpy()[:, :, [1, 3]][..., [2]]
    np.testing.assert_array_equal(small.get_layer("second").kernel, expected)
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]


def test_importance_is_that_of_scales_and_of_kernels_where_there_are_none():
    model = chain()
    graph = read(model)
    model.get_layer("norm").gamma.assign([0.3, -2.0, 0.1, 1.0, -0.2])
    found = importance(model, graph)
    np.testing.assert_allclose(found["first"], [0.3, 2, 0.1, 1, 0.2])
    norms = np.abs(model.get_layer("second").kernel.numpy()).sum((0, 1, 2))
    np.testing.assert_allclose(found["second"], norms, rtol=1e-6)
    by_kernel = importance(model, graph, "kernel")
    norms = np.abs(model.get_layer("first").kernel.numpy()).sum((0, 1, 2))
    np.testing.assert_allclose(by_kernel["first"], norms, rtol=1e-6)
    keep = most_important(found, {"first": 3})
    assert keep["first"].tolist() == [0, 1, 3] and [*keep] == ["first"]


def test_importance_of_tied_channels_is_summed():
    model = small_models.residual()
    graph = read(model)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(-np.arange(1.0, layer.gamma.shape[0] + 1))
    (stream,) = (group.name for group in graph.groups if group.width == 6)
    np.testing.assert_allclose(importance(model, graph)[stream], 2 * np.arange(1, 7))


def test_transposed_kernels_have_their_channels_elsewhere():
    model = small_models.decoder()
    graph = read(model)
    (layer,) = (x for x in model.layers if isinstance(x, layers.Conv2DTranspose) and x.filters == 8)
    norms = np.abs(layer.kernel.numpy()).sum((0, 1, 3))
    np.testing.assert_allclose(importance(model, graph)[layer.name], norms, rtol=1e-6)


def test_a_narrowed_model_is_saved_and_loaded_and_narrowed_again(tmp_path):
    model = small_models.resnext()
    rng = np.random.default_rng(0)
    graph = read(model)
    small = narrow(model, graph, random_keep(graph, rng))
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    inputs = inputs_of(small, rng)
    np.testing.assert_allclose(loaded(inputs), small(inputs), rtol=1e-6)
    again = read(loaded)
    assert again.cost() == counted(small)[0]
    check_model(loaded, halved=False)


def test_structures_and_names_stay():
    model = small_models.nested_twice()
    small = narrow(model, read(model), {})
    assert [*small.input] == ["left", "right"] and {*small.output} == {"scores", "maps"}
    assert {"a", "b", "head_a"} & {layer.name for layer in small.layers} >= {"a", "b"}
    assert len({layer.name for layer in small.layers}) == len(small.layers)


def test_precision_stays():
    i = image()
    with_policy = layers.Conv2D(6, 3, dtype="mixed_bfloat16", name="half")(i)
    model = classified(i, layers.Conv2D(4, 1)(with_policy))
    small = narrow(model, read(model), {"half": [0, 5]})
    layer = small.get_layer("half")
    assert layer.dtype_policy.name == "mixed_bfloat16" and layer.kernel.dtype == "float32"


def test_batches_of_one_size_stay():
    i = layers.Input(batch_shape=(4, 6, 6, 3))
    model = classified(i, unit(i, 6))
    assert narrow(model, read(model), {}).input_shape == (4, 6, 6, 3)


@pytest.mark.parametrize("other", ["residual", "sequential", "inverted_residual"])
def test_another_model_is_refused(other):
    graph = read(small_models.dense_blocks())
    with pytest.raises(ArchitectureError, match="expected the model that the graph was read from"):
        narrow(small_models.ALL[other](), graph, {})
    with pytest.raises(ArchitectureError, match="expected the model that the graph was read from"):
        importance(small_models.ALL[other](), graph)


def test_a_group_that_is_not_there_is_refused():
    model = chain()
    with pytest.raises(ArchitectureError, match="among first, second. Received: 'third'"):
        narrow(model, read(model), {"third": [0]})
