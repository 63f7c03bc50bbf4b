"""Sets of TFDS: the names that they go by, their order, and records that are damaged."""

import shutil
import socket

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from image_sets import arrays, numbered, numbers_of

from tas_tf.data import batches, image_data, tfds_source
from tas_tf.errors import DataError, EndOfDataError


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    # The list of community sets comes from a bucket, by TensorFlow's own sockets.
    monkeypatch.setattr(tfds.core.community, "community_register", refuse)


@pytest.mark.parametrize(
    "name, message",
    [
        ("cifar01", "unknown data set 'cifar01'.*did you mean .*'cifar10'"),
        ("nothing of the kind", "unknown data set"),
        ("huggingface:mnist", "unknown data set"),
        ("user:cifar10", "unknown data set"),
        ("mnist:9.9.9", "cannot open 'mnist:9.9.9'"),
        ("cifar100", "'cifar100' is not prepared: .*cifar100.*`download`.*tfds build"),
        ("imagenet2012", "not prepared"),
        ("glue", "not one of labelled images.*sentence"),
    ],
)
def test_name_that_cannot_be_used(tmp_path, no_network, name, message):
    with pytest.raises(DataError, match=message):
        image_data.ImageData(name, str(tmp_path)).describe()
    assert not list(tmp_path.iterdir())


def test_unprepared_set_that_may_be_downloaded_is_described(tmp_path, no_network):
    info = image_data.ImageData("cifar100", str(tmp_path), download=True).describe()
    assert info.num_classes == 100 and info.input_shape == (32, 32, 3)
    assert info.train_images is None and info.evaluation_split is None
    assert not list(tmp_path.iterdir())


def test_shuffle_block_of_a_stream_may_be_smaller_than_the_set(numbered_dir, monkeypatch):
    monkeypatch.setattr(batches, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(tfds_source, "SHUFFLE_BYTES", 10_000)
    feed = numbered(numbered_dir).training(24, seed=4)
    numbers = numbers_of(feed.batches(0, 20))
    np.testing.assert_array_equal(np.sort(numbers[:240]), np.arange(240))
    assert not np.array_equal(numbers[:240], numbers[240:])
    np.testing.assert_array_equal(numbers_of(feed.batches(7, 13)), numbers[7 * 24 : 13 * 24])


@pytest.fixture
def damaged_dir(numbered_dir, tmp_path):
    """A copy of `numbered`, that a test may damage; 80 training images in each of three files."""
    return shutil.copytree(numbered_dir, tmp_path / "tfds")


def _file(folder, number=1):
    (path,) = folder.rglob(f"numbered-train.tfrecord-0000{number}-of-00003")
    return path


def _flip(path, record):
    """Flips a bit within a record; it is found by its length, as TFRecord files say it."""
    content, start = bytearray(path.read_bytes()), 0
    for _ in range(record):
        start += 16 + int.from_bytes(content[start : start + 8], "little")
    content[start + 20] ^= 1
    path.write_bytes(content)


def _cut(path, record):
    content, end = path.read_bytes(), 0
    for _ in range(record):
        end += 16 + int.from_bytes(content[end : end + 8], "little")
    path.write_bytes(content[:end])


def _spoil_image(path, record):
    """Rewrites a file whose record holds no image, with checksums that fit."""
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    example = tf.train.Example.FromString(records[record])
    example.features.feature["image"].bytes_list.value[0] = b"no image"
    records[record] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in records:
            writer.write(content)


_DAMAGES = [
    (_flip, r"record 7 of 80 cannot be read: corrupted record", 73),
    (_cut, r"record 7 of 80 is missing: the file ends after 7 records", 73),
    (_spoil_image, r"record 7 of 80 cannot be read: .*", 1),
]


@pytest.mark.parametrize(("damage", "message", "lost"), _DAMAGES)
def test_damaged_record_is_named(damaged_dir, held, damage, message, lost):
    damage(_file(damaged_dir), 7)
    place = rf"numbered-train.tfrecord-00001-of-00003', {message}"
    images = image_data.ImageData("numbered", str(damaged_dir), augmentation="none")
    with pytest.raises(DataError, match=place):
        images.prepare(3)
        list(images.evaluation("train", 32))  # where it streams, it is not read before


@pytest.mark.parametrize(("damage", "message", "lost"), _DAMAGES)
def test_record_that_is_damaged_while_it_streams_is_named(
    damaged_dir, monkeypatch, damage, message, lost
):
    monkeypatch.setattr(batches, "MEMORY_LIMIT", 0)
    images = numbered(damaged_dir)
    damage(_file(damaged_dir), 7)
    with pytest.raises(DataError, match=f"00001-of-00003', {message}"), images.explained():
        if len(arrays(images.training(60, 1).batches(0, 4))) < 4:
            raise EndOfDataError("as the loop says")


@pytest.mark.parametrize(("damage", "message", "lost"), _DAMAGES)
def test_damaged_records_are_skipped_where_that_is_asked_for(
    damaged_dir, held, damage, message, lost
):
    damage(_file(damaged_dir), 7)
    with pytest.raises(
        DataError, match=f"{lost} of 240 .* more than ImageData.skip_corrupt = 0.001"
    ):
        numbered(damaged_dir, skip_corrupt=0.001)
    images = numbered(damaged_dir, skip_corrupt=0.4)
    assert len(images.record()["skipped"]["train"]) == lost
    expected = [*range(87), *range(87 + lost, 240)]
    np.testing.assert_array_equal(numbers_of(images.evaluation("train", 32)), expected)
    steps = images.training(20, 1).steps_per_epoch
    assert steps == len(expected) // 20
    read = numbers_of(images.training(20, 1, augment=False).batches(0, steps))
    assert len(set(read)) == 20 * steps and set(read) <= set(expected)
