"""The supernet of a model that was read: the function of what is built, and of our own supernet."""

import keras
import numpy as np
import pytest
import random_models
import small_models
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers
from masking import TOLERANCE, prepared, random_architecture
from model_parts import classified, image, unit

import tas_tf
from tas_tf.errors import SpecError
from tas_tf.layers.sampling import STRATEGIES, Draw
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.derived import without_softmax
from tas_tf.models.spec_compiler import build_model
from tas_tf.models.supernet import Supernet
from tas_tf.spaces.search_space import SearchSpace


def supernet_of(model, **options):
    space = tas_tf.SearchSpace.from_model(model, leave_out_branches=True)
    net = tas_tf.Supernet(space, **options)
    net.gives_logits = False
    return net


def worst(received, expected):
    keras.tree.assert_same_structure(received, expected)
    errors = []
    for one, other in zip(*map(keras.tree.flatten, (received, expected)), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert np.isfinite(other).all()
        errors.append(np.abs(one - other).max() / np.abs(other).max())
    return max(errors)


def check_derived(model, seed=0, **options):
    """Checks that what is built from the supernet, or from the model, computes what it does."""
    inputs = prepared(model, seed)
    try:
        net = supernet_of(model, **options)
    except SpecError as error:
        assert "channels to search" in str(error)
        return
    rng = np.random.default_rng(seed)
    for _ in range(2):
        architecture = random_architecture(net.space, rng)
        output = net(inputs, net.fixed_draw(architecture))
        for source in (net, model):
            small = tas_tf.build_model(architecture, start_from=source)
            assert worst(output, small(inputs, training=False)) < TOLERANCE


@pytest.mark.parametrize("name", small_models.ALL)
def test_small_models(name):
    check_derived(small_models.ALL[name]())


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(plan=random_models.plans(), seed=st.integers(0, 9))
def test_random_models(plan, seed):
    check_derived(random_models.build(plan), seed, normalization="shared")


def test_the_whole_model_is_one_of_its_networks():
    model = small_models.dense_blocks()
    inputs = prepared(model)
    net = supernet_of(model)
    output = net(inputs, net.fixed_draw(net.space.unpruned()))
    assert worst(output, model(inputs, training=False)) < 1e-6


def moved(net):
    """Gives the candidates of a supernet weights and statistics of their own."""
    rng = np.random.default_rng(7)
    for variable in net.weight_variables + net.average_variables:
        variable.assign(variable * (1 + 0.2 * rng.uniform(size=variable.shape)))


@pytest.mark.parametrize("normalization", ["private", "shared"])
def test_candidates_have_normalizations_of_their_own(normalization):
    model = small_models.inverted_residual()
    inputs = prepared(model)
    net = supernet_of(model, normalization=normalization)
    moved(net)
    rng = np.random.default_rng(0)
    for _ in range(3):
        architecture = random_architecture(net.space, rng)
        small = tas_tf.build_model(architecture, start_from=net)
        output = net(inputs, net.fixed_draw(architecture))
        assert worst(output, small(inputs, training=False)) < TOLERANCE
    assert worst(model(inputs, training=False), small(inputs, training=False)) > 10 * TOLERANCE


def copied(net, ours, space):
    """Gives our own supernet the weights of the other, a drawn pair of every choice to both."""
    names = {choice.name: c for c, choice in enumerate(net.space.choices)}
    for choice in space.choices:
        assert net.space.choices[names[choice.name]].candidates == choice.candidates
    rng = np.random.default_rng(3)
    indices, weights = [], []
    for choice in space.choices:
        indices.append(rng.permutation(len(choice.candidates))[:2])
        weights.append([0.3, 0.7])
    order = [[c.name for c in space.choices].index(choice.name) for choice in net.space.choices]
    both = []
    for rows in (range(len(indices)), order):
        both.append(
            Draw(
                tf.constant(np.array([indices[r] for r in rows], np.int32)),
                tf.constant(np.array([weights[r] for r in rows], np.float32)),
                tf.ones([len(space.depths), 1]),
            )
        )
    return both


@pytest.mark.parametrize("mode", [Mode.WEIGHTS, Mode.INFERENCE])
def test_it_computes_what_our_own_supernet_does(mode):
    """Of a ResNet with tied streams both are one network, drawn in pairs."""
    options = {"search": "width", "tie_streams": True, "ratios": (0.25, 0.5, 1.0)}
    # Of this family the projections of the built network are normalized, as in the supernet.
    space = SearchSpace.resnet(18, 5, (32, 32, 3), family="imagenet_resnet", **options)
    model = build_model(space.unpruned())
    inputs = prepared(model)
    for layer in model.layers:  # the most important channels come first, in ours
        if isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(np.linspace(2, 1, layer.gamma.shape[0]))
    ours = Supernet(space, aggregation="pad", shapes="static")
    ours.start_from(model, inputs)
    net = tas_tf.Supernet(tas_tf.SearchSpace.from_model(model, ratios=options["ratios"]))
    draw_ours, draw = copied(net, ours, space)
    assert worst(net(inputs, draw, mode=mode), ours(inputs, draw_ours, mode=mode)) < 1e-5
    if mode is Mode.WEIGHTS:  # the averages have moved alike
        mode = Mode.INFERENCE
        assert worst(net(inputs, draw, mode=mode), ours(inputs, draw_ours, mode=mode)) < 1e-4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_logits_and_weights_have_gradients(strategy):
    model = small_models.squeeze_and_excitation()
    inputs = prepared(model)
    net = supernet_of(model, strategy=strategy)
    variables = net.architecture_variables[:1] + net.weight_variables
    with tf.GradientTape() as tape:
        draw = net.draw(tf.constant(1.0), tf.constant([1, 2]))
        loss = tf.reduce_sum(tf.square(net(inputs, draw, mode=Mode.WEIGHTS)))
    for gradient in tape.gradient(loss, [variable.value for variable in variables]):
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_only_candidates_that_were_drawn_move_their_averages():
    model = small_models.residual()
    inputs = prepared(model)
    net = supernet_of(model)
    before = [variable.numpy() for variable in net.average_variables]
    net(
        inputs,
        net.fixed_draw(net.space.architecture([1] * len(net.space.choices), [1])),
        mode=Mode.WEIGHTS,
    )
    for variable, value in zip(net.average_variables, before, strict=True):
        changed = variable.numpy() != value
        assert changed[1].any() and not changed[[0, 2]].any()
    for mode in (Mode.ARCHITECTURE, Mode.INFERENCE):
        before = [variable.numpy() for variable in net.average_variables]
        net(inputs, net.fixed_draw(net.space.unpruned()), mode=mode)
        for variable, value in zip(net.average_variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("at_end", ["Dense", "Activation", "Softmax", "operation"])
def test_a_softmax_at_the_end_is_left_out_for_the_search_alone(at_end):
    i = image()
    x = layers.GlobalAveragePooling2D()(unit(i, 6))
    x = layers.Dense(4, activation="softmax" if at_end == "Dense" else None)(x)
    if at_end != "Dense":
        x = {
            "Activation": layers.Activation("softmax"),
            "Softmax": layers.Softmax(),
            "operation": keras.ops.softmax,
        }[at_end](x)
    model = keras.Model(i, x)
    inputs = prepared(model)
    net = tas_tf.Supernet(tas_tf.SearchSpace.from_model(model))
    draw = net.fixed_draw(net.space.unpruned())
    logits = net(inputs, draw)
    assert worst(tf.nn.softmax(logits), model(inputs)) < 1e-6
    assert np.abs(np.sum(logits, axis=1) - 1).max() > 1e-3
    small = tas_tf.build_model(net.space.unpruned(), start_from=net)
    np.testing.assert_allclose(np.sum(small(inputs), axis=1), 1, rtol=1e-5)
    net.gives_logits = False
    probabilities = net(inputs, draw)
    assert worst(probabilities, model(inputs)) < 1e-6
    assert worst(without_softmax(small)(inputs), logits) < 1e-5


def test_the_model_itself_never_changes():
    i = image()
    model = classified(i, layers.Dropout(0.5, seed=1)(unit(i, 6)))
    inputs = prepared(model)
    before = [variable.numpy() for variable in model.variables]
    net = supernet_of(model)
    draw = net.fixed_draw(net.space.unpruned())
    first, second = (np.asarray(net(inputs, draw, mode=Mode.WEIGHTS)) for _ in range(2))
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.5
    third, fourth = (np.asarray(net(inputs, draw, mode=Mode.WEIGHTS)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (third != fourth).any()  # its own state goes on
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_layers_that_do_not_train_stay_as_they_are():
    i = image()
    x = unit(i, 6, name="fixed")
    model = classified(i, unit(x, 5, name="free"))
    for layer in model.layers[:4]:
        layer.trainable = False
    inputs = prepared(model)
    for layer in model.layers[:4]:
        layer.trainable = False
    net = supernet_of(model)
    draw = net.fixed_draw(net.space.unpruned())
    shapes = {tuple(variable.shape) for variable in net.weight_variables}
    assert (3, 3, 3, 6) not in shapes and (3, 3, 6, 5) in shapes
    before = [variable.numpy() for variable in net.average_variables]
    net(inputs, draw, mode=Mode.WEIGHTS)
    changed = [
        (variable.numpy() != value).any()
        for variable, value in zip(net.average_variables, before, strict=True)
    ]
    assert changed == [False, False, True, True]


@pytest.mark.parametrize("option", ["strategy", "draws", "normalization"])
def test_unknown_values_of_options_are_named(option):
    with pytest.raises(SpecError, match=f"{option}: expected one of .* Received: 'three'"):
        supernet_of(small_models.residual(), **{option: "three"})
