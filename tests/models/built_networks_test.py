"""Networks that are built anew: those of the papers, and searchable whole."""

import keras
import numpy as np
import pytest

import tas_tf
from tas_tf.models.built_networks import NETWORKS, densenet, mobilenetv2, vgg16
from tas_tf.models.reading import read
from tas_tf.spaces.cost import cost
from tas_tf.spaces.search_space import SearchSpace


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


@pytest.mark.parametrize(
    "name", ["resnet20", pytest.param("resnet164", marks=pytest.mark.slow), "resnet18", "resnet50"]
)
def test_a_resnet_has_the_widths_of_its_own_space(name):
    """Untied, its groups are the choices of the stages; tied, those of `tie_streams`."""
    model = NETWORKS[name]((32, 32, 3), 10)
    depth = int(name.removeprefix("resnet"))
    family = "imagenet_resnet" if depth in (18, 50) else "cifar_resnet"
    for tie in (False, True):
        options = {"family": family, "search": "width", "tie_streams": tie, "ratios": (0.5, 1.0)}
        ours = SearchSpace.resnet(depth, 10, (32, 32, 3), **options)
        read_ = tas_tf.SearchSpace.from_model(model, tie_additions=tie, ratios=(0.5, 1.0))
        assert {c.name: c.candidates for c in read_.choices} == {
            c.name: c.candidates for c in ours.choices
        }
        for kind in ("macs", "parameters"):
            for index in (0, 1):
                picks = [index] * len(ours.choices)
                of_ours = ours.architecture(picks, [-1] * len(ours.depths))
                assert cost(read_.architecture(picks), kind) == cost(of_ours, kind)
        _check_streams(read_, ours)


def _check_streams(read_, ours):
    """The residual streams have the same shares of their channels, whatever the widths."""
    random = np.random.default_rng(0)
    for _ in range(5):
        picks = {c.name: int(random.integers(len(c.candidates))) for c in ours.choices}
        of_ours = ours.architecture([*picks.values()], [-1] * len(ours.depths))
        of_read = read_.architecture([picks[c.name] for c in read_.choices])
        assert sorted(read_.stream_shares(of_read)) == sorted(ours.stream_shares(of_ours))


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


# VGG and DenseNet have a width for each convolution: nothing is tied.
COUNTS = {
    "vgg16": (13, 0),
    "mobilenetv2": (25, 10),
    "densenet": (39, 0),
    "resnet20": (12, 7),
}


@pytest.mark.parametrize("name", COUNTS)
def test_all_of_it_is_searched(name):
    model = NETWORKS[name]((32, 32, 3), 10)
    assert model(np.zeros((2, 32, 32, 3), "float32")).shape == (2, 10)
    space = tas_tf.SearchSpace.from_model(model, leave_out_branches=True)
    assert set(space.graph.frozen.values()) == {"an input of the model", "an output of the model"}
    assert model.name == name
    assert (len(space.choices), len(space.branches)) == COUNTS[name]
