"""Pieces of models as models of their own: of the whole network's layers, and narrowed alike."""

import keras
import numpy as np
import pytest
import small_models

import tas_tf
from tas_tf.errors import SpecError
from tas_tf.models.narrowing import narrow
from tas_tf.models.piece_models import PieceModels
from tas_tf.spaces.pieces import pieces_of


@pytest.mark.parametrize("name", sorted(small_models.ALL))
def test_pieces_have_the_weights_of_the_narrowed_network(name):
    try:
        space = tas_tf.SearchSpace.from_model(small_models.ALL[name](), ratios=(0.5, 1.0))
    except SpecError:
        pytest.skip("nothing to search")
    if any(None in s for call in space.graph.calls for s in call.input_shapes + call.output_shapes):
        pytest.skip("its sizes are not known")
    models = PieceModels(space)
    for network in (space.unpruned(), space.architecture([0] * len(space.choices))):
        widths = space.graph.partition.checked(network.widths)
        keep = {name: np.arange(width) for name, width in widths.items()}
        whole = narrow(space.model, space.graph, keep, None)
        paths = {}
        for placed in pieces_of(space.graph):
            model = models.build(placed, placed.at(widths))
            assert len(model.inputs) == 1
            for place in placed.places:
                call = space.graph.calls[place]
                if call.weights and call.first:
                    made = model.get_layer(f"call{place}")
                    paths[call.path] = [tuple(weight.shape) for weight in made.weights]
        # Layers of one name lie in several nested models: their paths tell them apart.
        expected = [tuple(w.shape) for layer in whole.layers for w in layer.weights]
        found = [shape for shapes in paths.values() for shape in shapes]
        assert sorted(found) == sorted(expected)


def test_what_several_tensors_are_read_from_is_the_largest():
    i = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(8, 1)(i)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Concatenate()([keras.layers.Multiply()([gate, x]), x])
    x = keras.layers.Dense(5)(keras.layers.Flatten()(x))
    space = tas_tf.SearchSpace.from_model(keras.Model(i, x), ratios=(0.5, 1.0))
    models = PieceModels(space)
    found = {placed.piece.calls[0]: placed for placed in pieces_of(space.graph)}
    multiplied = models.build(found["Multiply"], (6,))
    assert multiplied.input_shape == multiplied.output_shape == (None, 4, 4, 6)
    values = np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype("float32")
    expected = values * values[:, :1, :1]
    np.testing.assert_allclose(multiplied(values), expected, rtol=1e-6)
    narrow_widths = space.architecture([0] * len(space.choices)).widths
    joined = models.build(found["Concatenate"], found["Concatenate"].at(narrow_widths))
    assert joined.output_shape == (None, 4 * 4 * 2 * space.choices[0].candidates[0])  # flattened


def test_a_projection_is_measured_as_what_is_built():
    space = tas_tf.SearchSpace.from_model(small_models.residual(), tie_additions=False)
    (placed,) = (p for p in pieces_of(space.graph) if p.piece.calls == ("Projection",))
    model = PieceModels(space).build(placed, (4, 3))
    (layer,) = (layer for layer in model.layers if layer.weights)
    assert isinstance(layer, keras.layers.Conv2D) and layer.kernel.shape == (1, 1, 4, 3)
