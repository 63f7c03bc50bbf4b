"""Batches from memory and from a stream: where they start, in which order, and what they cover."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from image_sets import IDENTITY, arrays, check_same, numbered, numbers_of, prepared

from tas_tf.data import batches, image_data, sources


@pytest.mark.parametrize(
    "held, kind",
    [
        ("memory", "none"),
        ("memory", "crop_flip"),
        pytest.param("stream", "none", marks=pytest.mark.slow),
        pytest.param("stream", "crop_flip", marks=pytest.mark.slow),
        ("stream", "resized_crop"),
    ],
    indirect=["held"],
)
def test_feed_can_start_at_any_step(numbered_dir, held, kind):
    images = numbered(numbered_dir, augmentation=kind, crop_padding=2)
    tf.random.set_seed(1)
    whole = arrays(image_data.paired(images, 32, seed=9).batches(0, 8))
    # A half has 120 images: three steps in an epoch, so these pieces begin and end inside epochs.
    again = numbered(numbered_dir, augmentation=kind, crop_padding=2)
    tf.random.set_seed(2)
    feed = image_data.paired(again, 32, seed=9)
    assert feed.steps_per_epoch == 3
    pieces = [arrays(feed.batches(*piece)) for piece in ((0, 2), (2, 2), (2, 7), (7, 8))]
    check_same(sum(pieces, []), whole)
    for batch in whole:
        assert [(a.shape, a.dtype) for a in batch] == [
            ((32, 8, 10, 3), np.float32),
            ((32,), np.int32),
        ] * 2
    other = arrays(image_data.paired(again, 32, seed=10).batches(0, 1))
    assert not np.array_equal(other[0][0], whole[0][0])


def test_every_epoch_is_a_new_order_of_the_part(numbered_dir, held):
    images = numbered(numbered_dir)
    feed = images.training(60, seed=4)
    epochs = numbers_of(feed.batches(0, 5 * feed.steps_per_epoch)).reshape(5, 240)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(240), (5, 1)))
    related = np.corrcoef([*epochs, np.arange(240)])
    assert np.abs(related - np.eye(6)).max() < 0.25


class _Counting(sources.ListedSource):
    """A large set of images of two pixels, which say the image's number."""

    shape = (1, 2, 1)

    def __init__(self, count):
        super().__init__({"train": np.arange(count)}, {"train": np.zeros(count, np.int32)})

    def identity(self):
        raise AssertionError("no test of batches needs it")

    def fault(self, split, place):
        return f"image {place}"

    def decode(self, key):
        return tf.cast(tf.reshape([key // 256, key % 256], self.shape), tf.uint8)


def test_orders_of_a_large_set_are_not_alike():
    count = 20_000
    reader = batches.MemoryReader(
        _Counting(count), "train", batches.Recipe((1, 2), "none", 0), np.arange(count)
    )
    feed = reader.shuffled(np.arange(count), count, tf.constant([0, 0], tf.int64), augment=False)
    orders = [images.reshape(count, 2) @ [256, 1] for images, _ in arrays(feed.batches(0, 3))]
    related = np.corrcoef([*orders, np.arange(count)])
    assert np.abs(related - np.eye(4)).max() < 0.03


def test_halves_have_streams_of_their_own(numbered_dir):
    images = numbered(numbered_dir)
    architecture = numbers_of(images.evaluation("architecture", 120))
    halves = np.setdiff1d(np.arange(240), architecture), architecture
    pairs = arrays(image_data.paired(images, 120, seed=0).batches(0, 1))
    one, other = (
        np.searchsorted(half, numbers_of(tf.data.Dataset.from_tensors((batch, 0))))
        for half, batch in zip(halves, pairs[0][::2], strict=True)
    )
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.3


def test_evaluation_covers_all_once_in_order(numbered_dir, held):
    images = numbered(numbered_dir, augmentation="crop_flip")
    np.testing.assert_array_equal(numbers_of(images.evaluation("test", 8)), np.arange(35))
    assert [len(y) for _, y in arrays(images.evaluation("test", 8))] == [8, 8, 8, 8, 3]
    labels = np.concatenate([y for _, y in arrays(images.evaluation("train", 7))])
    np.testing.assert_array_equal(labels, (np.sqrt(np.arange(240)) % 3).astype(int))


def test_feed_refuses_steps_out_of_order(numbered_dir):
    feed = numbered(numbered_dir).training(8, 0)
    with pytest.raises(ValueError, match="start <= stop"):
        feed.batches(3, 2)


@pytest.mark.parametrize(
    ("count", "augmentation", "expected"),
    [
        (200, "crop_flip", batches.MemoryReader),
        (201, "crop_flip", batches.StreamReader),
        (200, "resized_crop", batches.StreamReader),
    ],
)
def test_what_is_large_or_cropped_to_size_streams(monkeypatch, count, augmentation, expected):
    monkeypatch.setattr(batches, "MEMORY_LIMIT", 400)  # two bytes an image
    recipe = batches.Recipe((1, 2), augmentation, 1)
    reader = batches.open_reader(_Counting(count), "train", recipe, np.arange(count))
    assert type(reader) is expected


@pytest.fixture(scope="module")
def enlarged_dir(data_dir, tmp_path_factory):
    """A folder with 16 images of each of two classes of CIFAR-10, as JPEG, of several sizes."""
    folder = tmp_path_factory.mktemp("enlarged")
    for label, name in enumerate(("airplane", "automobile")):
        (folder / name).mkdir()
        images = tfds.builder("cifar10", data_dir=str(data_dir)).as_dataset(split="train[:12%]")
        images = images.filter(lambda example, label=label: example["label"] == label).take(16)
        for number, example in enumerate(images):
            size = (224 + 8 * number, 300)
            large = tf.cast(
                tf.clip_by_value(tf.image.resize(example["image"], size), 0, 255), "uint8"
            )
            tf.io.write_file(str(folder / name / f"{number:02}.jpg"), tf.io.encode_jpeg(large))
    return folder


def test_enlarged_images_stream_with_resized_crops(enlarged_dir):
    arguments = {"image_size": 224, "augmentation": "resized_crop", **IDENTITY}
    images = prepared(f"folder:{enlarged_dir}", **arguments)
    feed = images.training(8, seed=0)
    assert feed.steps_per_epoch == 3
    whole = arrays(feed.batches(0, 5))
    check_same(arrays(feed.batches(0, 2)) + arrays(feed.batches(2, 5)), whole)
    assert whole[0][0].shape == (8, 224, 224, 3)
    assert 0 <= whole[0][0].min() and 0.5 < whole[0][0].max() <= 1
    ((evaluated, labels),) = arrays(images.evaluation("test", 8))
    assert evaluated.shape == (3, 224, 224, 3) and labels.dtype == np.int32
    plain = arrays(images.training(8, seed=0, augment=False).batches(0, 1))[0]
    np.testing.assert_array_equal(plain[1], whole[0][1])
    assert not np.array_equal(plain[0], whole[0][0])


@pytest.mark.slow
def test_cifar10_streams_with_resized_crops(data_dir):
    arguments = {"image_size": (224, 224), "augmentation": "resized_crop", **IDENTITY}
    images = prepared("cifar10", str(data_dir), **arguments)
    feed = images.training(16, seed=0, part="weights")
    first, second = arrays(feed.batches(0, 2)), arrays(feed.batches(1, 2))
    check_same(second, first[1:])
    assert first[0][0].shape == (16, 224, 224, 3)
