"""A SavedModel of a network that was never trained: which files its signature takes."""

import io

import keras
import numpy as np
import pytest
import small_runs
import tensorflow as tf
from PIL import Image

from tas_tf.deployment.classifier import Classifier
from tas_tf.deployment.saved_model import write_saved_model


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """The signature of files of a network of 8x8 pixels, grey."""
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    classifier = Classifier(model, [0.5], [0.5], "abc", small_runs.digits().decoded)
    folder = tmp_path_factory.mktemp("served") / "saved_model"
    write_saved_model(classifier, str(folder), np.zeros((1, 8, 8, 1), np.uint8))
    return tf.saved_model.load(str(folder)).signatures["encoded"]


def _file(name, mode="RGB"):
    Image.new(mode, (9, 7)).save(file := io.BytesIO(), name)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
def test_png_of_every_mode_and_jpeg_are_taken(encoded, mode):
    files = [_file("PNG", mode), _file("JPEG")]
    assert encoded(image_bytes=tf.constant(files))["logits"].shape == (2, 3)


OTHERS = {name: _file(name) for name in ("BMP", "GIF", "WEBP", "TIFF", "PPM")}
OTHERS |= {"text": b"no image", "empty": b"", "cut off": b"\x89PNG"}


@pytest.mark.parametrize("file", OTHERS.values(), ids=OTHERS)
def test_other_files_are_refused_with_what_is_wanted(encoded, file):
    expected = "image_bytes: expected the contents of PNG or JPEG files"
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        encoded(image_bytes=tf.constant([_file("PNG"), file]))
