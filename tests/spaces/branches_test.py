"""Residual branches: which are found, what leaving one out costs, and what is left of the model."""

import keras
import numpy as np
import pytest
import small_models
from keras import layers, ops
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from model_parts import classified, image, unit

import tas_tf
from tas_tf.models.reading import read
from tas_tf.spaces.cost import cost
from tas_tf.spaces.model_space import ModelArchitecture


def plain():
    i = image()
    x = unit(i, 6, name="stem")
    x = layers.Add(name="first")([x, unit(unit(x, 4), 6)])
    return classified(i, layers.Add(name="second")([unit(unit(x, 5), 6), x]))


def as_an_operation():
    i = image()
    x = unit(i, 6)
    return classified(i, ops.add(x, unit(x, 6)))


def nested_model():
    inner = keras.Sequential([image(), *(layers.Conv2D(3, 3, padding="same") for _ in range(2))])
    i = image()
    return classified(i, unit(layers.Add(name="outer")([i, inner(i)]), 4))


def around_another():
    i = image()
    x = unit(i, 6)
    y = unit(x, 6)
    y = layers.Add(name="inner")([y, unit(y, 6)])
    return classified(i, layers.Add(name="around")([x, unit(y, 6)]))


def with_a_projection():
    i = image()
    x = unit(i, 6)
    return classified(i, layers.Add()([unit(x, 8, 1), unit(x, 8)]))


def read_elsewhere():
    i = image()
    x = unit(i, 6)
    y = unit(x, 6)
    return classified(i, layers.Concatenate()([layers.Add()([x, unit(y, 6)]), y]))


def shared_elsewhere():
    i = image()
    convolution = layers.Conv2D(3, 3, padding="same")
    return classified(i, unit(convolution(layers.Add()([i, convolution(i)])), 4))


def without_weights():
    i = image()
    x = unit(i, 6)
    return classified(i, layers.Add()([x, layers.ReLU()(x)]))


def of_other_shapes():
    i = image()
    x = unit(i, 6)
    return classified(
        i, layers.Add()([x, layers.GlobalAveragePooling2D(keepdims=True)(unit(x, 6))])
    )


def flat(model):
    """The layers of a model and of those that are nested in it."""
    for layer in model.layers:
        yield from flat(layer) if isinstance(layer, keras.Model) else [layer]


def an_output_too():
    i = image()
    x = unit(i, 6)
    y = unit(x, 6)
    return keras.Model(i, [classified(i, layers.Add()([x, y])).output, y])


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (plain, ["first", "second"]),
        (as_an_operation, ["add"]),
        (nested_model, ["outer"]),
        (around_another, ["inner"]),
        (with_a_projection, []),
        (read_elsewhere, []),
        (shared_elsewhere, []),
        (without_weights, []),
        (of_other_shapes, []),
        (an_output_too, []),
    ],
)
def test_a_branch_is_what_nothing_else_needs(model, names):
    found = [branch.name for branch in read(model()).branches]
    assert [name.rstrip("_0123456789") for name in found] == names


@pytest.mark.parametrize("make", [plain, as_an_operation, nested_model, around_another])
def test_without_a_branch_the_model_is_the_shortcut(make):
    model = make()
    space = tas_tf.SearchSpace.from_model(model, leave_out_branches=True)
    x = np.random.default_rng(0).normal(size=(3, *model.input_shape[1:])).astype(np.float32)
    for number, branch in enumerate(space.branches):
        kept = [int(b != number) for b in range(len(space.branches))]
        architecture = space.architecture([-1] * len(space.choices), kept)
        small = tas_tf.build_model(architecture, start_from=model)
        gone = {space.graph.calls[place].path.split("/")[-1] for place in branch.calls}
        names = {layer.name for layer in small.layers}
        assert not gone & names and branch.name.split("/")[-1] not in names
        assert sum(np.prod(v.shape) for v in small.trainable_weights) == cost(
            architecture, "parameters"
        )
        assert read(small).cost() == cost(architecture, "macs")
        # A branch that gives zeros is one that is not there.
        silent = keras.models.clone_model(model)
        silent.set_weights(model.get_weights())
        last = [layer for layer in flat(silent) if layer.name in gone and layer.weights]
        for layer in last:
            layer.set_weights([0 * w for w in layer.get_weights()])
        assert np.allclose(small(x), silent(x), atol=1e-5)


def test_groups_of_a_branch_fall_away_with_it():
    space = tas_tf.SearchSpace.from_model(plain(), leave_out_branches=True)
    assert space.depths == ((0, 1), (0, 1)) and space.depth_names == ("first", "second")
    without = space.architecture([0] * len(space.choices), (0, 1))
    gone = {choice.name for choice in space.choices} - {*without.widths}
    assert len(gone) == 1 and space.places == tuple(
        ((0, 1),) if choice.name in gone else ((1, 1),) if position else ()
        for position, choice in enumerate(space.choices)
    )
    assert without == space.architecture(
        [2 if choice.name in gone else 0 for choice in space.choices], (0, 1)
    )
    again = ModelArchitecture.from_json(without.to_json(), space)
    assert again == without and again.left_out == ("first",)
    # Whoever reads it need not know which branches were searched.
    assert (
        ModelArchitecture.from_json(
            without.to_json(), tas_tf.SearchSpace.from_model(space.model)
        ).widths
        == without.widths
    )


def test_depth_alone_can_be_searched():
    i = image()
    x = layers.Conv2D(3, 3, padding="same")(i)
    model = classified(i, layers.Add(name="sum")([i, x]))
    space = tas_tf.SearchSpace.from_model(model, leave_out_branches=True, frozen=[], ratios=(1.0,))
    assert space.branches and "May be left out, what is added at:\n  sum" in space.summary()


def scaled():
    i = image()
    x = unit(i, 6)
    for number in range(2):
        y = layers.Conv2D(6, 3, padding="same")(unit(x, 8))
        x = CustomScaleLayer(0.3, name=f"scaled{number}")([x, y])
    return classified(i, x)


def test_a_scaled_addition_is_one():
    model = scaled()
    inputs = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype("float32")
    space = tas_tf.SearchSpace.from_model(model, leave_out_branches=True, tie_additions=False)
    assert space.depth_names == ("scaled0", "scaled1") and len(space.graph.projections) == 2
    net = tas_tf.Supernet(space)
    for picks in ([0, 1, 2, 0, 1], [5, 3, 5, 2, 5]):
        for kept in ((1, 1), (0, 1)):
            architecture = space.architecture(picks, kept)
            small = tas_tf.build_model(architecture, start_from=model)
            output = net(inputs, net.fixed_draw(architecture))
            np.testing.assert_allclose(output, small(inputs), rtol=1e-4, atol=1e-5)
            assert read(small).cost() == cost(architecture, "macs")


def test_families_have_their_residual_blocks():
    # Blocks without a projection: of 16 blocks of ResNet-50 four have one.
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=10)
    assert len(read(model).branches) == 12
    assert not read(small_models.dense_blocks()).branches
