"""The walk through Keras' private graph: these tests pin what it relies on."""

import keras
import numpy as np
import pytest
import small_models
from keras import layers, ops
from masking import inputs_of

from tas_tf.errors import ModelError
from tas_tf.models.traversal import graph_of, input_names, readers, remade, traverse

# Nested models called twice, dictionaries, operations, shared layers, several outputs of a layer.
MODELS = ["sequential", "nested_twice", "operations", "shared_at_two_sizes", "transformer"]


def called(visit):
    return visit.operation(*visit.args, **visit.kwargs)


@pytest.mark.parametrize("name", MODELS)
def test_a_walk_with_tensors_is_the_model(name):
    model = small_models.ALL[name]()
    inputs = inputs_of(model, np.random.default_rng(0))
    outputs = traverse(model, keras.tree.flatten(inputs), called)
    for received, expected in zip(outputs, keras.tree.flatten(model(inputs)), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-6)


def test_every_call_comes_once_with_its_path_and_tensors():
    model, visits = small_models.nested_twice(), []

    def visit(visited):
        visits.append(visited)
        return visited.outputs

    traverse(model, model.inputs, visit)
    paths = [visited.path for visited in visits]
    assert paths.count("tower/a") == paths.count("tower/b") == 2 and paths[-1] in ("maps", "scores")
    assert len(paths) == 2 * 4 + 6
    for visited in visits:
        given = keras.tree.flatten((visited.args, visited.kwargs))
        tensors = [value for value in given if isinstance(value, keras.KerasTensor)]
        assert [x.shape[-1] for x in tensors] == [x.shape[-1] for x in visited.inputs]


def test_a_walk_leaves_the_model_as_it_is():
    model = small_models.nested_twice()
    before = model.get_config()
    traverse(model, model.inputs, lambda visited: visited.outputs)
    assert model.get_config() == before


def test_arguments_by_name_and_states_are_passed():
    i = layers.Input((5, 3))
    sequence, *states = layers.LSTM(4, return_sequences=True, return_state=True)(i)
    model = keras.Model(i, layers.LSTM(4)(sequence, initial_state=states) * 2)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    (received,) = traverse(model, [x], called)
    np.testing.assert_allclose(received, model(x), rtol=1e-6)


def test_names_of_inputs():
    assert input_names(small_models.nested_twice()) == ["left", "right"]
    model = keras.Sequential([layers.Input((3,), name="x"), layers.Dense(2)])
    assert input_names(graph_of(model)) == ["x"]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


class Overridden(keras.Model):
    """A functional model whose `call` does something else."""

    def call(self, x):
        return 2 * super().call(x)


class Trained(keras.Model):
    """A functional model that only trains in a way of its own."""

    def train_step(self, data):
        return super().train_step(data)


def overridden():
    i = layers.Input((3,))
    return Overridden(i, layers.Dense(2)(i), name="other")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Subclassed, "Subclassed.*make it from keras.Model\\(inputs, outputs\\)"),
        (overridden, "other \\(Overridden\\): expected a model that has a graph"),
        (lambda: keras.Sequential([layers.Dense(3)]), "expected a model whose input is known"),
        (lambda: layers.Dense(3), "expected a keras.Model. Received: Dense"),
    ],
)
def test_models_without_a_graph_are_refused(model, message):
    with pytest.raises(ModelError, match=message):
        graph_of(model())


def test_a_model_that_trains_in_its_own_way_has_a_graph():
    i = layers.Input((3,))
    model = Trained(i, layers.Dense(2)(Trained(i, layers.Dense(4)(i))(i)))
    visits = []
    traverse(model, model.inputs, lambda visited: visits.append(visited) or visited.outputs)
    assert [type(visited.operation) for visited in visits] == [layers.Dense, layers.Dense]


def test_a_nested_model_without_a_graph_is_one_layer():
    i = layers.Input((3,))
    model = keras.Model(i, layers.Dense(2)(Subclassed()(i)))
    visits = []
    traverse(model, model.inputs, lambda visited: visits.append(visited) or visited.outputs)
    assert [type(visited.operation) for visited in visits] == [Subclassed, layers.Dense]


def operation(function, *args):
    """The operation that a function of `keras.ops` makes."""
    x, found = layers.Input((6, 6, 3)), []
    model = keras.Model(x, function(x, *args))
    traverse(model, model.inputs, lambda visited: found.append(visited) or visited.outputs)
    return found[0].operation


def squared(x):
    return x * x


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Conv2D(4, 3, strides=2, activation="relu", kernel_regularizer="l2"),
        lambda: layers.Dense(4, activation=squared),
        lambda: layers.Lambda(lambda x, factor: factor * x, arguments={"factor": 3}),
        lambda: operation(ops.leaky_relu, 0.1),
        lambda: layers.Dense(4, dtype="mixed_bfloat16", trainable=False),
    ],
    ids=["Conv2D", "activation", "Lambda", "operation", "policy"],
)
def test_operations_are_made_anew(layer):
    first = layer()
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    expected = first(x)
    again = remade(first, "again", {})
    again(x)
    if isinstance(first, keras.layers.Layer):
        again.set_weights(first.get_weights())
        assert (again.dtype_policy, again.trainable) == (first.dtype_policy, first.trainable)
    np.testing.assert_array_equal(again(x), expected)
    assert again is not first and again.name == "again"


def test_fields_are_changed():
    assert remade(layers.Conv2D(4, 3, name="a"), "b", {"filters": 2}).filters == 2


def test_readers_of_inputs_and_of_what_calls_write():
    i = layers.Input((4,))
    inner = keras.Sequential([layers.Input((4,)), layers.Dense(4, name="inner")])
    x = inner(i)
    total = layers.Add(name="sum")([x, i])
    model = keras.Model(i, [total, layers.ReLU(name="relu")(layers.Multiply(name="own")([x, x]))])
    found = [[operation and operation.name for operation in each] for each in readers(model)]
    of_input, *of_calls = [sorted(each, key=str) for each in found]
    assert of_input == ["inner", "sum"]
    expected = [[None], [None], ["own", "own", "sum"], ["relu"]]
    assert sorted(of_calls, key=str) == sorted(expected, key=str)
