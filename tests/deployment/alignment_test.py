"""An aligned network has widths that a device likes, and is the same function."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import counted
from small_runs import classifier, randomized
from spaces import odd_architectures
from tensorflow.core.protobuf import saved_model_pb2

from tas_tf.deployment import alignment, artifacts, runners
from tas_tf.errors import SpecError
from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import cost

# Blocks whose two widths differ, and are the same once they are multiples of 4, 8 or 16.
SAME_WHEN_ALIGNED = Architecture(
    family="cifar_resnet",
    block="basic",
    input_shape=(6, 5, 3),
    num_classes=5,
    stem_width=5,
    stages=(((3, 7), (2, 7)), ((5, 6),), ((9, 11), (6, 10))),
)


def logits(model, seed=0):
    random = np.random.default_rng(seed)
    images = random.normal(size=(3, *model.input_shape[1:])).astype("float32")
    return model(images, training=False).numpy()


@settings(max_examples=10, deadline=None)
@given(odd_architectures(), st.sampled_from([2, 3, 4, 8, 16]), st.integers(0, 1000))
def test_an_aligned_network_is_the_true_one(architecture, grain, seed):
    model = randomized(build_model(architecture), np.random.default_rng(seed))
    wide = alignment.align_widths(model, architecture, grain)
    expected = logits(model, seed)
    np.testing.assert_allclose(logits(wide, seed), expected, atol=1e-6 * np.abs(expected).max())
    convolutions = [layer for layer in wide.layers if isinstance(layer, keras.layers.Conv2D)]
    assert all(layer.filters % grain == 0 for layer in convolutions)
    assert [layer.name for layer in wide.layers] == [layer.name for layer in model.layers]
    assert counted(wide)[0] == alignment.aligned_macs(architecture, grain)
    assert counted(model)[0] == cost(architecture) == alignment.aligned_macs(architecture, 1)


def test_shortcuts_stand_as_the_true_widths_have_them():
    model = randomized(build_model(SAME_WHEN_ALIGNED), np.random.default_rng(0))
    wide = alignment.align_widths(model, SAME_WHEN_ALIGNED, 16)
    names = [layer.name for layer in wide.layers if layer.name.endswith("_projection")]
    assert names == [
        f"stage{stage}_block{block}_projection" for stage, block in ((1, 1), (2, 1), (3, 1), (3, 2))
    ]
    assert {wide.get_layer(name).filters for name in names} == {16}
    expected = logits(model)
    np.testing.assert_allclose(logits(wide), expected, atol=1e-6 * np.abs(expected).max())


def test_further_channels_are_zero_and_the_others_are_as_they_were():
    model = randomized(build_model(SAME_WHEN_ALIGNED), np.random.default_rng(0))
    before = model.get_weights()
    wide = alignment.align_widths(model, SAME_WHEN_ALIGNED, 8)
    maps = [layer.output for layer in wide.layers if layer.name.endswith("_add")]
    images = np.random.default_rng(1).normal(size=(2, 6, 5, 3)).astype("float32")
    true_widths = [block[-1] for stage in SAME_WHEN_ALIGNED.stages for block in stage]
    for value, width in zip(keras.Model(wide.input, maps)(images), true_widths, strict=True):
        assert np.all(value.numpy()[..., width:] == 0)
        assert np.any(value.numpy()[..., :width] != 0)
    for value, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, now)


def test_a_grain_of_one_is_the_network_bit_for_bit():
    model = randomized(build_model(SAME_WHEN_ALIGNED), np.random.default_rng(0))
    np.testing.assert_array_equal(
        logits(alignment.align_widths(model, SAME_WHEN_ALIGNED, 1)), logits(model)
    )


@pytest.mark.parametrize("align, expected", [("8", 8), (16, 16), ("auto", "auto"), (" 1 ", 1)])
def test_what_align_may_say(align, expected):
    assert alignment.parse_align(align) == expected


@pytest.mark.parametrize("align", ["0", -8, "65", "eight", "", True, 2.5])
def test_what_it_may_not_say(align):
    with pytest.raises(SpecError, match="align: expected a whole number from 1 to 64"):
        alignment.parse_align(align)


def test_int8_is_the_same():
    """Every int8 number; scales come of a calibration in float32, sums of which end differently."""
    model = randomized(build_model(SAME_WHEN_ALIGNED), np.random.default_rng(0))
    samples = runners.random_images(model, 16)
    found = [
        runners.runner(network, "litert_int8", samples=samples)(samples[:1])
        for network in (model, alignment.align_widths(model, SAME_WHEN_ALIGNED, 8))
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)  # a step of int8 is 4e-3


def test_auto_takes_what_was_measured_to_be_clearly_fastest():
    model = randomized(build_model(SAME_WHEN_ALIGNED), np.random.default_rng(0))
    grain, measured = alignment.fastest(model, SAME_WHEN_ALIGNED, "saved_model", seconds=0.1)
    medians = measured["median_ms"]
    assert list(medians) == [str(grain) for grain in alignment.GRAINS]
    fastest = min(medians.values())
    assert fastest > 0
    assert grain == 1 if fastest > 0.95 * medians["1"] else medians[str(grain)] == fastest


@pytest.mark.parametrize(("eight", "grain"), [(0.93, 8), (0.97, 1), (1.2, 1)])
def test_auto_leaves_the_widths_where_zeros_gain_little(monkeypatch, eight, grain):
    def timed(calls, seconds):
        return {name: runners.Times(0, eight if name == 8 else 1.0, 0, 0, 0) for name in calls}

    monkeypatch.setattr(runners, "time_calls", timed)
    model = build_model(SAME_WHEN_ALIGNED)
    assert alignment.fastest(model, SAME_WHEN_ALIGNED, "keras")[0] == grain


def test_auto_times_equal_widths_once():
    unpruned = SAME_WHEN_ALIGNED.replace(stem_width=16, stages=(((16, 16),),) * 3)
    grain, measured = alignment.fastest(build_model(unpruned), unpruned, "keras", seconds=0.1)
    assert (grain, list(measured["median_ms"])) == (1, ["1"])


def kernels(path):
    """The shapes of a SavedModel's constants."""
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    nodes = [node for function in functions for node in function.node_def if node.op == "Const"]
    return {tuple(tf.make_ndarray(node.attr["value"].tensor).shape) for node in nodes}


@pytest.mark.parametrize("align", [8, "auto"])
def test_an_aligned_artifact_is_the_network_and_says_what_it_is(tmp_path, align):
    model = randomized(build_model(SAME_WHEN_ALIGNED), np.random.default_rng(0))
    export = artifacts.Export(
        classifier=classifier(model),
        architecture=SAME_WHEN_ALIGNED,
        data=None,
        seed=0,
        qat_epochs=0,
        align=align,
    )
    images = np.random.default_rng(1).integers(0, 256, (4, 6, 5, 3)).astype(np.uint8)
    entry = export.make("saved_model", str(tmp_path / "saved_model"), images)
    assert entry["check"]["class_agreement"] == 1
    said = entry["alignment"]
    grain = said["grain"]
    assert entry["settings"] == {"align": align} and (grain == 8 or align == "auto")
    assert said["true_macs"] == cost(SAME_WHEN_ALIGNED)
    assert said["padded_macs"] == alignment.aligned_macs(SAME_WHEN_ALIGNED, grain)
    assert (said["measured"] is None) == (align == 8)
    stem = (3, 3, 3, -(-5 // grain) * grain)
    assert stem in kernels(tmp_path / "saved_model/saved_model.pb")
