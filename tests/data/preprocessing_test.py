"""Preprocessing by name is that of keras.applications."""

import keras
import numpy as np
import pytest

from tas_tf.data.image_data import ImageData
from tas_tf.data.preprocessing import NAMED, named
from tas_tf.errors import DataError


@pytest.mark.parametrize("name", ["tf", "torch", "caffe"])
def test_it_is_what_keras_does(name):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("float64")
    expected = keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode=name)
    mean, deviation = named(name, 3)
    received = (pixels / 255 - mean) / deviation
    if name == "caffe":  # there channels change places too
        received = received[..., ::-1]
    np.testing.assert_allclose(received, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["none", "tf"])
def test_images_of_any_channels(name):
    data = ImageData("digits", preprocessing=name)
    data.prepare(0)
    images, _ = next(iter(data.evaluation("test", 50)))
    least, most = {"none": (0, 255), "tf": (-1, 1)}[name]
    assert images.numpy().min() == pytest.approx(least) and images.numpy().max() == pytest.approx(
        most
    )
    assert data.record()["mean"] == [NAMED[name][0][0]]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"preprocessing": "imagenet"}, "one of None, 'none', 'tf', 'torch', 'caffe' is needed"),
        ({"preprocessing": "tf", "mean": (0.5,)}, "either this name, or mean and deviation"),
    ],
)
def test_what_makes_no_sense_is_refused(options, match):
    with pytest.raises(DataError, match=match):
        ImageData("digits", **options)


def test_grey_images_have_no_statistics_of_colours():
    with pytest.raises(DataError, match="for images of 1 channels 'none' or 'tf' is needed"):
        ImageData("digits", preprocessing="torch").describe()
