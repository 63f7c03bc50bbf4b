"""An aligned network has widths that a device likes, and is the same function."""

import keras
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import randomized
from spaces import odd_architectures
from spec_compiler_test import counted

from tas_tf import alignment
from tas_tf.architecture import Architecture
from tas_tf.cost import cost
from tas_tf.spec_compiler import build_model

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
    wide = alignment.aligned(model, architecture, grain)
    expected = logits(model, seed)
    np.testing.assert_allclose(logits(wide, seed), expected, atol=1e-6 * np.abs(expected).max())
    convolutions = [layer for layer in wide.layers if isinstance(layer, keras.layers.Conv2D)]
    assert all(layer.filters % grain == 0 for layer in convolutions)
    assert [layer.name for layer in wide.layers] == [layer.name for layer in model.layers]
    assert counted(wide)[0] == alignment.aligned_macs(architecture, grain)
    assert counted(model)[0] == cost(architecture) == alignment.aligned_macs(architecture, 1)


def test_shortcuts_stand_as_the_true_widths_have_them():
    model = randomized(build_model(SAME_WHEN_ALIGNED), np.random.default_rng(0))
    wide = alignment.aligned(model, SAME_WHEN_ALIGNED, 16)
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
    wide = alignment.aligned(model, SAME_WHEN_ALIGNED, 8)
    maps = [layer.output for layer in wide.layers if layer.name.endswith("_add")]
    images = np.random.default_rng(1).normal(size=(2, 6, 5, 3)).astype("float32")
    true_widths = [block[-1] for stage in SAME_WHEN_ALIGNED.stages for block in stage]
    for value, width in zip(keras.Model(wide.inputs, maps)(images), true_widths, strict=True):
        assert np.all(value.numpy()[..., width:] == 0)
        assert np.any(value.numpy()[..., :width] != 0)
    for value, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, now)


def test_a_grain_of_one_is_the_network_bit_for_bit():
    model = randomized(build_model(SAME_WHEN_ALIGNED), np.random.default_rng(0))
    np.testing.assert_array_equal(
        logits(alignment.aligned(model, SAME_WHEN_ALIGNED, 1)), logits(model)
    )
