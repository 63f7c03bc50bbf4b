"""A data set as a run sees it: what is read when, normalized, named and refused."""

import shutil

import numpy as np
import pytest
from image_sets import arrays, check_normalised, numbered, numbers_of, prepared, store

from tas_tf.data import image_data
from tas_tf.errors import DataError


def test_prepare_and_training_do_not_read_the_test_split(numbered_dir, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(numbered_dir, folder)
    for path in folder.glob("numbered/*/*-test*"):
        path.unlink()
    images = numbered(folder)
    assert images.record()["splits"]["test"]["images"] == 35
    assert len(numbers_of(image_data.paired(images, 8, 0).batches(0, 2).map(lambda w, a: w))) == 16
    with pytest.raises(
        DataError,
        match="numbered-test.tfrecord-00000-of-00003', record 0 of 12 .*: .*No such file",
    ):
        images.evaluation("test", 8)


def test_validation_stands_in_for_a_test_without_labels(tmp_path):
    counts = {"train": 40, "validation": 9, "test": 11}
    store(tmp_path, "unlabelled", counts, unlabelled=("test",))
    images = prepared("unlabelled", str(tmp_path))
    assert images.describe().evaluation_split == "validation"
    assert [len(y) for _, y in arrays(images.evaluation("test", 5))] == [5, 4]
    images = prepared("unlabelled", str(tmp_path), evaluation_split="test")
    with pytest.raises(DataError, match="'test' of 'unlabelled' has no labels"):
        images.evaluation("test", 5)


def test_a_batch_larger_than_the_part_is_refused(numbered_dir):
    with pytest.raises(DataError, match="batch of 121 .* weight half .* 120 images"):
        image_data.paired(numbered(numbered_dir), 121, 0)


def test_before_prepare_there_is_no_feed(numbered_dir):
    images = image_data.ImageData("numbered", str(numbered_dir))
    with pytest.raises(RuntimeError, match="prepare"):
        images.training(8, 0)


def test_mean_and_deviation_are_computed_where_absent(held):
    digits = image_data.ImageData("digits", holdout=0.1)
    assert digits.describe().mean is None and digits.describe().deviation is None
    digits.prepare(0)
    check_normalised(digits)
    assert digits.record()["mean"] == list(digits.describe().mean) == list(digits.mean)


def test_given_mean_and_deviation_are_used(numbered_dir):
    pixels = arrays(numbered(numbered_dir).evaluation("test", 35))[0][0]
    given = {"mean": [0.1, 0.2, 0.3], "deviation": [0.5, 0.25, 1]}
    normalised = arrays(numbered(numbered_dir, **given).evaluation("test", 35))[0][0]
    expected = (pixels - given["mean"]) / given["deviation"]
    np.testing.assert_allclose(normalised, expected, atol=1e-6)


def test_mean_and_deviation_follow_the_split():
    digits = prepared("digits", holdout=0.3, seed=0)
    first = digits.mean
    digits.prepare(1)
    assert digits.mean != first
    assert digits.mean == prepared("digits", holdout=0.3, seed=1).mean


@pytest.mark.slow
def test_cifar10_is_described_normalised_and_fed(data_dir):
    images = prepared("cifar10", str(data_dir), holdout=0.1)
    info = images.describe()
    assert info.input_shape == (32, 32, 3)
    assert info.label_names[3] == "cat" and info.num_classes == 10
    assert (info.train_images, info.holdout_images, info.evaluation_images) == (45000, 5000, 10000)
    check_normalised(images)
    feed = image_data.paired(images, 256, 0)
    assert feed.steps_per_epoch == 87
    ((x, y, _, labels),) = arrays(feed.batches(500, 501))
    assert x.shape == (256, 32, 32, 3) and set(y) == set(labels) == set(range(10))
    assert sum(len(y) for _, y in arrays(images.evaluation("test", 3000))) == 10000


@pytest.mark.parametrize(
    "argument, value, message",
    [
        ("mean", [0.5, 0.5], "3 numbers, one for each channel"),
        ("evaluation_split", "validation", "one of 'test'"),
        ("evaluation_split", "train", "one of 'test'"),
    ],
)
def test_argument_that_does_not_fit_the_set(numbered_dir, argument, value, message):
    with pytest.raises(DataError, match=message):
        image_data.ImageData("numbered", str(numbered_dir), **{argument: value}).describe()


def test_parts_have_names(numbered_dir):
    images = numbered(numbered_dir)
    with pytest.raises(DataError, match="part = 'test'"):
        images.training(8, 0, "test")
    with pytest.raises(DataError, match="split = 'weights'"):
        images.evaluation("weights", 8)
    with pytest.raises(DataError, match="has no holdout: holdout is 0"):
        images.evaluation("holdout", 8)
