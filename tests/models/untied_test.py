"""Untied additions: costs, supernet and what is built, with a projection where widths differ."""

import itertools

import keras
import numpy as np
import pytest
import random_models
import small_models
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers
from masking import TOLERANCE, counted, prepared, random_architecture
from model_parts import classified, image, unit

import tas_tf
from tas_tf.errors import ArchitectureError, SpecError
from tas_tf.layers.sampling import Draw
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.model_spaces import untied
from tas_tf.models.narrowing import narrow
from tas_tf.models.projections import Projection
from tas_tf.models.reading import read
from tas_tf.models.spec_compiler import build_model
from tas_tf.models.supernet import Supernet
from tas_tf.spaces import derivation
from tas_tf.spaces.cost import cost, parse_targets
from tas_tf.spaces.expected_terms import cost_model
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.space_terms import cost_of

KINDS = ("macs", "parameters", "memory")


def residual(blocks=2):
    i = image()
    x = unit(i, 6)
    for number in range(1, blocks + 1):
        x = layers.Add(name=f"add{number}")([x, unit(unit(x, 8), 6)])
    return classified(i, x)


def vectors():
    i = x = keras.Input((7,))
    for number in range(2):
        y = layers.Dense(5, activation="relu")(x)
        x = x + layers.Dense(7)(y) if number else layers.Dense(7)(y)
    return keras.Model(i, layers.Dense(3)(x))


def nested():
    i = image()
    x = layers.Add(name="outer")([unit(i, 6), unit(unit(i, 4), 6)])
    x = layers.Add()([x, layers.Conv2D(6, 3, padding="same", name="within")(x)])
    body = keras.Model(i, x, name="body")
    outside = image()
    return keras.Model(outside, layers.Dense(3)(layers.Flatten()(body(outside))))


def check(model, seed=0, **options):
    """Checks that costs, supernet and built models agree, at random widths and branches."""
    inputs = prepared(model, seed)
    space = tas_tf.SearchSpace.from_model(
        model, tie_additions=False, leave_out_branches=True, **options
    )
    net = tas_tf.Supernet(space)
    net.gives_logits = False
    rng = np.random.default_rng(seed)
    for architecture in [space.unpruned(), *(random_architecture(space, rng) for _ in range(3))]:
        output = np.asarray(net(inputs, net.fixed_draw(architecture)))
        for source in (net, model):
            small = tas_tf.build_model(architecture, start_from=source)
            expected = np.asarray(small(inputs, training=False))
            assert np.abs(output - expected).max() < TOLERANCE * np.abs(expected).max()
        for kind in KINDS:
            indices = [*itertools.chain(*space.indices(architecture))]
            assert cost_of(space, kind).value(indices) == cost(architecture, kind)
            assert read(small).cost(kind=kind) == cost(architecture, kind)
        assert (cost(architecture), cost(architecture, "parameters")) == counted(small)
        assert not any(isinstance(layer, Projection) for layer in small.layers)


@pytest.mark.parametrize("make", [residual, vectors, nested])
def test_costs_supernet_and_what_is_built_agree(make):
    check(make())


@pytest.mark.parametrize(
    "name", ["residual", "inverted_residual", "operations", "squeeze_and_excitation", "transformer"]
)
def test_small_models(name):
    model = small_models.ALL[name]()
    try:
        untied(model)
    except SpecError as error:
        assert "tie_additions" in str(error)
        return
    check(model)


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(plan=random_models.plans(), seed=st.integers(0, 9))
def test_random_models(plan, seed):
    model = random_models.build(plan)
    try:
        untied(model)
    except SpecError:
        return
    check(model, seed, ratios=(0.25, 0.5, 1.0))


def test_the_whole_network_has_no_projection_and_costs_what_it_did():
    model = residual()
    space = tas_tf.SearchSpace.from_model(model, tie_additions=False)
    whole = tas_tf.build_model(space.unpruned(), start_from=model)
    assert [layer.name for layer in whole.layers] == [layer.name for layer in model.layers]
    for kind in KINDS:
        assert cost(space.unpruned(), kind) == read(model).cost(kind=kind)
    widths = {choice.name: choice.candidates for choice in space.choices}
    tied = tas_tf.SearchSpace.from_model(model)
    assert len(widths) == len(tied.choices) + 2
    assert "Projected, where the widths at both sides differ:\n  add1\n  add2" in space.summary()


def test_expected_costs_are_means_over_all_architectures():
    space = tas_tf.SearchSpace.from_model(residual(), tie_additions=False, ratios=(0.5, 1.0))
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(len(space.choices), 2)), np.zeros((0, 2))
    rows, none = derivation.probabilities(space, *logits)
    found = {kind: 0.0 for kind in KINDS}
    peaks = []
    for picks in itertools.product((0, 1), repeat=len(space.choices)):
        weight = np.prod([row[k] for row, k in zip(rows, picks, strict=True)])
        architecture = space.architecture(picks)
        for kind in KINDS:
            found[kind] += weight * cost(architecture, kind)
        one_hot = np.eye(2)[[*picks]], none
        peaks.append(cost(architecture, "memory"))
        assert cost_model(space, "memory").expected(*one_hot, total=np.max) == peaks[-1]
    for kind in KINDS[:2]:
        assert cost_model(space, kind).expected(rows, none) == pytest.approx(found[kind], rel=1e-12)
    assert found["memory"] <= cost_model(space, "memory").expected(rows, none) <= 1.05 * max(peaks)


def test_a_budget_is_kept():
    space = tas_tf.SearchSpace.from_model(residual(3), tie_additions=False)
    logits = np.random.default_rng(0).normal(size=(len(space.choices), 8)), np.zeros((0, 2))
    budgets = parse_targets(["macs: 0.5", "memory: 0.7"], space, tolerance=0.2)
    derived = derivation.derive(space, *logits, budgets)
    assert derived.in_band
    assert all(budget.contains(cost(derived.architecture, budget.kind)) for budget in budgets)


def test_an_addition_stays_tied_where_its_sides_are_tied_elsewhere():
    i = image()
    x = unit(i, 6)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Add(name="tied")([x, y])
    x = layers.Add(name="free")([x, unit(unit(x, 8), 6)])
    model = untied(classified(i, x))
    found = [layer.addition for layer in model.layers if isinstance(layer, Projection)]
    assert found == ["free"]
    again = untied(model)
    assert again is model
    with pytest.raises(SpecError, match="tie_additions: expected a model that has residual"):
        untied(small_models.dense_blocks())


def test_equally_many_channels_are_the_same_ones():
    model = untied(residual())
    graph = read(model)
    (before, after), *_ = graph.projections.values()
    with pytest.raises(ArchitectureError, match="the same channels at both sides"):
        narrow(model, graph, {before: [0, 1], after: [1, 2]})


def test_sizes_may_be_open():
    i = keras.Input((None, None, 3))
    x = unit(i, 6)
    x = layers.Add(name="add")([x, unit(x, 6)])
    model = keras.Model(i, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    space = tas_tf.SearchSpace.from_model(model, tie_additions=False, input_shape=(8, 8, 3))
    small = tas_tf.build_model(space.architecture([0, 5]), start_from=model)
    assert small.input_shape == (None, None, None, 3) and small.get_layer("add_projection")


def test_it_is_saved_and_loaded_as_what_it_was(tmp_path):
    model = residual()
    inputs = prepared(model)
    space = tas_tf.SearchSpace.from_model(model, tie_additions=False)
    space.model.save(tmp_path / "base.keras")
    loaded = keras.saving.load_model(tmp_path / "base.keras", safe_mode=True)
    again = tas_tf.SearchSpace.from_model(loaded)
    assert again.graph.fingerprint == space.graph.fingerprint
    assert again.graph.projections == space.graph.projections
    np.testing.assert_allclose(loaded(inputs), model(inputs), rtol=1e-5, atol=1e-6)


def test_it_computes_what_our_own_supernet_does():
    """Of a ResNet both are one network of faithful streams, drawn in pairs."""
    options = {"search": "width", "ratios": (0.25, 0.5, 1.0)}
    space = SearchSpace.resnet(18, 5, (32, 32, 3), family="imagenet_resnet", **options)
    model = build_model(space.unpruned())
    inputs = prepared(model)
    for layer in model.layers:  # the most important channels come first, in ours
        if isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(np.linspace(2, 1, layer.gamma.shape[0]))
    ours = Supernet(space, aggregation="pad", shapes="static", streams="derived")
    ours.start_from(model, inputs)
    net = tas_tf.Supernet(
        tas_tf.SearchSpace.from_model(model, tie_additions=False, ratios=options["ratios"])
    )
    names = [choice.name for choice in space.choices]
    rng = np.random.default_rng(3)
    indices = np.array([rng.permutation(3)[:2] for _ in names], np.int32)
    order = [names.index(choice.name) for choice in net.space.choices]
    outputs = []
    for supernet, rows in ((ours, [*range(len(names))]), (net, order)):
        weights = tf.constant([[0.3, 0.7]] * len(rows))
        draw = Draw(tf.constant(indices[rows]), weights, tf.ones([len(space.depths), 1]))
        outputs.append(np.asarray(supernet(inputs, draw, mode=Mode.INFERENCE)))
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-4 * np.abs(outputs[0]).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "EfficientNetB0", "ConvNeXtTiny"])
def test_families(name):
    size = 64 if name != "ConvNeXtTiny" else 32
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )
    check(model)
