"""The reading of Keras models: what is one group, what is frozen and why, what is refused."""

import keras
import numpy as np
import pytest
import small_models
from keras import layers
from masking import check_model, counted, inputs_of
from model_parts import Scaled, Unwritten, classified, image, unit

from tas_tf.errors import ModelError
from tas_tf.models.narrowing import narrow
from tas_tf.models.reading import read
from tas_tf.spaces.calls import Opaque
from tas_tf.spaces.operations import per_channel, register


def owners(graph):
    """Widths of all groups, by the kinds of names that do not depend on what ran before."""
    return sorted((group.width, len(group.owners)) for group in graph.groups)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("sequential", [(6, 1), (7, 1)]),
        ("residual", [(4, 1), (6, 2)]),
        ("inverted_residual", [(4, 2), (12, 1)]),
        ("squeeze_and_excitation", [(4, 1), (8, 2)]),
        ("resnext", [(4, 1), (4, 2), (6, 1), (12, 2)]),
        ("every_channel_a_group", [(6, 2)]),
        ("decoder", [(5, 1), (6, 1), (8, 1)]),
        ("nested_twice", [(6, 1), (7, 1), (8, 1)]),
        ("shared_layers", [(6, 2)]),
        ("attention_map", [(8, 1)]),
        ("flat_and_back", [(2, 1), (6, 1), (7, 1)]),
        ("group_normalization", [(2, 1), (5, 1), (6, 1)]),
        ("maxout", [(6, 3)]),
        ("segments", [(6, 2), (7, 1), (10, 2)]),
        ("transformer", [(12, 1)]),
        ("words", [(6, 1), (7, 1)]),
        ("pad_channels", []),
    ],
)
def test_groups(name, groups):
    assert owners(read(small_models.ALL[name]())) == groups


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("slices", "(GetItem): it takes a part, perhaps of the channels"),
        ("constants_per_channel", "(Multiply): a constant for each channel"),
        ("attention_map", ": one channel for all"),
        ("mean_map", "(Mean): it reduces across channels"),
        ("function", "(Lambda): not understood"),
        ("transformer", "(MultiHeadAttention): not understood"),
        ("recurrent", "(LSTM): not understood"),
        ("unregistered", "(Scaled): not understood"),
        ("channels_as_places", "(Dense): its channels are not along the last axis"),
        ("all_axes_normalized", "it normalizes along other axes than the last"),
        ("softmax_inside", "an activation across channels (softmax)"),
        ("shuffle", "its channels can only be kept together"),
        ("pad_channels", "(Pad): it changes the number of channels"),
    ],
)
def test_reasons(name, reason):
    graph = read(small_models.ALL[name]())
    reasons = [*graph.frozen.values(), *(call.reason for call in graph.calls)]
    assert any(reason in found for found in reasons), reasons


def test_what_is_not_counted_is_named():
    graph = read(small_models.transformer())
    (path,) = graph.uncounted
    assert path.startswith("multi_head_attention")
    assert read(small_models.slices()).uncounted == ()


def test_reading_leaves_the_model_as_it_is():
    model = small_models.nested_twice()
    inputs = inputs_of(model, np.random.default_rng(0))
    config, before = model.get_config(), model(inputs)
    narrow(model, read(model), {})
    assert model.get_config() == config
    for name, output in model(inputs).items():
        np.testing.assert_array_equal(output, before[name])


def test_sizes_are_given_where_the_model_leaves_them_open():
    i = layers.Input((None, None, 3), name="photo")
    model = classified(i, unit(unit(i, 6), 8, strides=2))
    with pytest.raises(ModelError, match="photo: .*input_shape=\\(height, width, channels\\)"):
        read(model)
    for wrong in ((8, 8, 1), (8, 8), [(8, 8, 3), (8, 8, 3)], (None, 8, 3)):
        with pytest.raises(ModelError, match="Received"):
            read(model, wrong)
    assert read(model, (8, 4, 3)).cost() == 9 * (3 * 6 * 32 + 6 * 8 * 8) + 8 * 5
    check_model(model, size=(9, 7, 3))


def test_sizes_that_are_open_stay_open():
    i = layers.Input((None, None, 3))
    x = layers.Reshape((-1, 6))(unit(i, 6))
    x = keras.ops.reshape(layers.Dense(8, activation="relu")(x), (-1, 2, 32, 8))
    model = classified(i, unit(x, 5))
    check_model(model, size=(8, 8, 3))
    graph = read(model, (8, 8, 3))
    small = narrow(model, graph, {name: [0] for name in graph.partition.widths})
    assert small.input_shape == (None, None, None, 3)
    assert small(np.zeros((2, 4, 16, 3), "float32")).shape == (2, 5)


def test_sizes_of_several_inputs_are_given():
    left, right = (layers.Input((None, 4), name=name) for name in ("left", "right"))
    x = layers.Concatenate(axis=1)([layers.Conv1D(6, 3)(left), layers.Conv1D(6, 3)(right)])
    model = classified([left, right], layers.GlobalAveragePooling1D()(x))
    graph = read(model, [(7, 4), (9, 4)])
    assert graph.cost() == 3 * 4 * 6 * (5 + 7) + 6 * 5
    assert graph.input_shapes == ((7, 4), (9, 4))


def test_sizes_that_a_layer_does_not_take_are_refused():
    i = layers.Input((None, None, 3))
    x = layers.Conv2D(4, 5, name="wide")(i)
    with pytest.raises(ModelError, match="wide does not take inputs of shapes"):
        read(classified(i, x), (4, 4, 3))


def test_frozen_layers_keep_what_is_counted():
    model = small_models.residual()
    model.layers[1].trainable = False
    graph = read(model)
    assert (graph.cost(), graph.cost(kind="parameters")) == counted(model)
    assert not narrow(model, graph, {}).layers[1].trainable


class Taught(Scaled):
    pass


class Pairs(layers.Layer):
    """Multiplies each channel of the first half by its partner in the second."""

    def call(self, x):
        a, b = keras.ops.split(x, 2, axis=-1)
        return a * b


def pairs(call, channels):
    first, second = call.reads().reshape(2, -1)
    channels.tie(first, second)
    return [first.reshape(1, 1, -1)]


def crossed(call, channels):
    raise Opaque("it crosses channels")


def test_a_layer_is_taught():
    i = image()
    model = classified(i, unit(Taught()(unit(i, 6)), 7))
    assert owners(read(model)) == [(7, 1)]
    register(Taught, per_channel)
    graph, _ = check_model(model)
    assert owners(graph) == [(6, 1), (7, 1)]


def test_a_layer_is_taught_by_a_rule_of_its_own():
    i = image()
    model = classified(i, unit(Pairs()(unit(i, 12)), 7))
    register(Pairs, crossed)
    assert any("(Pairs): it crosses channels" in reason for reason in read(model).frozen.values())
    register(Pairs, pairs)
    graph, _ = check_model(model)
    assert owners(graph) == [(6, 1), (7, 1)]


def test_a_layer_that_cannot_be_made_anew_is_refused():
    i = image()
    x = Unwritten(len, name="odd")(unit(i, 6))
    with pytest.raises(ModelError, match="odd \\(Unwritten\\): expected a layer that can be made"):
        read(classified(i, x))


def test_a_layer_named_as_one_of_keras_is_not_taken_for_it():
    mine = type("Dense", (Scaled,), {"__module__": "mine"})
    i = image()
    graph = read(classified(i, mine(name="odd")(unit(i, 6))))
    assert "read by odd (Dense): not understood" in graph.frozen.values()
