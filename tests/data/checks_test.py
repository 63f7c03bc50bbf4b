"""What `ImageData` refuses of its arguments."""

import pytest

from tas_tf.data import image_data
from tas_tf.errors import DataError


@pytest.mark.parametrize(
    "argument, value",
    [
        ("dataset", ""),
        ("dataset", 10),
        ("data_dir", 3),
        ("download", "yes"),
        ("image_size", 0),
        ("image_size", "32"),
        ("image_size", (32, 32, 3)),
        ("mean", 0.5),
        ("mean", ["a"]),
        ("mean", [125.0]),
        ("deviation", [0.0]),
        ("augmentation", "flip"),
        ("crop_padding", -1),
        ("crop_padding", 1.5),
        ("evaluation_split", 1),
        ("holdout", 1.0),
        ("holdout", True),
    ],
)
def test_wrong_argument_is_named(argument, value):
    with pytest.raises(DataError, match=f"ImageData.{argument} = "):
        image_data.ImageData(**{"dataset": "digits", argument: value})
