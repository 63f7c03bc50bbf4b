"""The page of the models of keras.applications: all of them, as they are; and a layer is taught."""

import re

import applications
import keras
import pytest
from documents import blocks

import tas_tf

PAGE = applications.PAGE.read_text()
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if re.match(r"\| [A-Z]", line)]


def test_every_model_has_a_row():
    assert [cells[0] for cells in ROWS] == applications.names()


@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV2",
        *(
            pytest.param(cells[0], marks=pytest.mark.slow)
            for cells in ROWS
            if cells[0] != "MobileNetV2"
        ),
    ],
)
def test_a_row_says_what_is_there(name):
    assert applications.row(name) in ROWS
    keras.utils.clear_session()


def test_the_layer_that_is_taught_is_searched():
    (code,) = blocks("docs/applications.md", "python")
    known: dict = {}
    exec(code, known)
    i = keras.Input((8, 8, 3))
    x = known["Scale"](name="mine")(keras.layers.Conv2D(8, 3, name="searched")(i))
    x = keras.layers.GlobalAveragePooling2D()(x)
    space = tas_tf.SearchSpace.from_model(keras.Model(i, keras.layers.Dense(3)(x)))
    assert [choice.name for choice in space.choices] == ["searched"]
    small = tas_tf.build_model(space.architecture([0]), start_from=space.model)
    assert small.get_layer("mine").factor.shape == (space.choices[0].candidates[0],)
