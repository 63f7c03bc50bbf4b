"""Networks that are built anew: those of the papers, and searchable whole."""

import keras
import numpy as np
import pytest

import tas_tf
from tas_tf.models.built_networks import NETWORKS, densenet, mobilenetv2, vgg16
from tas_tf.models.reading import read


def kernels(model):
    """The shapes of all convolutions' kernels, in order."""
    named = [w for layer in model.layers for w in layer.weights if "kernel" in w.name]
    return [tuple(w.shape) for w in named if len(w.shape) == 4]


def test_mobilenetv2_has_the_layers_of_keras_applications():
    theirs = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3))
    ours = mobilenetv2((96, 96, 3), 1000)
    assert kernels(ours) == kernels(theirs) and ours.count_params() == theirs.count_params()
    assert read(ours).cost() == read(theirs).cost()


def test_vgg16_has_the_convolutions_of_keras_applications():
    theirs = keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 64, 3))
    ours = vgg16((64, 64, 3), 10)
    assert kernels(ours) == kernels(theirs)
    assert read(ours).cost() == read(theirs).cost() + 512 * 10


def test_densenet_is_that_of_the_paper():
    model = densenet((32, 32, 3), 10)
    # Table 2 of the paper: 0.2 million parameters; the layers of a block as section 3 has them.
    assert round(sum(np.prod(w.shape) for w in model.trainable_weights) / 1e6, 1) == 0.2
    wide = [(3, 3, 48, 12)] * 6
    channels = [24 + 12 * number for number in range(6)]
    of_blocks = []
    for start in (24, 48, 60):  # (24 + 72) / 2 = 48, (48 + 72) / 2 = 60
        narrow = [(1, 1, start + channel - 24, 48) for channel in channels]
        of_blocks.append([k for pair in zip(narrow, wide, strict=True) for k in pair])
    transitions = [[(1, 1, 96, 48)], [(1, 1, 120, 60)], []]
    expected = [(3, 3, 3, 24)]
    for block, transition in zip(of_blocks, transitions, strict=True):
        expected += block + transition
    assert kernels(model) == expected and len(expected) + 1 == 40
    assert model.get_layer("block3_out_relu").output.shape == (None, 8, 8, 132)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_of_it_is_searched(name):
    model = NETWORKS[name]((32, 32, 3), 10)
    assert model(np.zeros((2, 32, 32, 3), "float32")).shape == (2, 10)
    space = tas_tf.SearchSpace.from_model(model, leave_out_branches=True)
    assert set(space.graph.frozen.values()) == {"an input of the model", "an output of the model"}
    # VGG and DenseNet have a width for each convolution: nothing is tied.
    expected = {"vgg16": (13, 0), "mobilenetv2": (25, 10), "densenet": (39, 0)}
    assert (len(space.choices), len(space.branches)) == expected[name]
