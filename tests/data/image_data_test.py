"""Sources, splits and feeds of images."""

import hashlib
import json
import shutil

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tas_tf.data import augmentation, batches, image_data, sources, splitting, tfds_source
from tas_tf.errors import DataError, EndOfDataError

IDENTITY = {"mean": [0.0] * 3, "deviation": [1.0] * 3}


@pytest.fixture(params=["memory", "stream"])
def held(request, monkeypatch):
    """Runs a test twice: with sets in memory, and streaming."""
    if request.param == "stream":
        monkeypatch.setattr(batches, "MEMORY_LIMIT", 0)
    return request.param


@pytest.fixture(scope="module")
def numbered_dir(tmp_path_factory):
    """A TFDS folder with `numbered` in three files: 240 images whose first two pixels say which."""
    folder = tmp_path_factory.mktemp("tfds")
    _store(folder, "numbered", {"train": 240, "test": 35}, shards=3)
    return folder


def _store(folder, name, counts, shards=1, unlabelled=()):
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(8, 10, 3)),
            "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
        }
    )

    def examples(split, count):
        images = np.random.default_rng(count).integers(1, 255, (count, 8, 10, 3), np.uint8)
        images[:, 0, 0] = (np.arange(count) // 16)[:, np.newaxis]
        images[:, 0, 1] = (np.arange(count) % 16)[:, np.newaxis]
        labels = -np.ones(count) if split in unlabelled else np.sqrt(np.arange(count)) % 3
        slices = {"image": images, "label": labels.astype(np.int64)}
        return tf.data.Dataset.from_tensor_slices(slices)

    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=features,
        split_datasets={split: examples(split, count) for split, count in counts.items()},
        data_dir=str(folder),
        download_config=tfds.download.DownloadConfig(num_shards=shards),
        disable_shuffling=True,
    )


def _prepared(*args, seed=3, **kwargs):
    made = image_data.ImageData(*args, **kwargs)
    made.prepare(seed)
    return made


def _numbered(folder, **kwargs):
    return _prepared("numbered", str(folder), **{"augmentation": "none", **IDENTITY, **kwargs})


def _numbers(batches):
    """Reads back which images of `numbered` a dataset yields, in order."""
    pixels = [np.round(images[:, 0, :2, 0] * 255) for images, _ in batches.as_numpy_iterator()]
    return (np.concatenate(pixels) @ [16, 1]).astype(int)


def _arrays(batches):
    return [tf.nest.flatten(batch) for batch in batches.as_numpy_iterator()]


def _assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, wanted in zip(batches, expected, strict=True):
        for array, wanted_array in zip(batch, wanted, strict=True):
            np.testing.assert_array_equal(array, wanted_array)


# Splits


@hypothesis.given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=80),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 2**40),
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_stratified_draws_each_class_in_proportion(labels, share, seed):
    labels = np.array(labels)
    drawn, others = splitting.stratified(labels, np.arange(len(labels)), share, [seed])
    np.testing.assert_array_equal(np.sort(np.concatenate([drawn, others])), np.arange(len(labels)))
    assert len(drawn) == splitting.share_of(len(labels), share)
    for label in np.unique(labels):
        exact = np.sum(labels == label) * len(drawn) / len(labels)
        assert abs(np.sum(labels[drawn] == label) - exact) < 1


def test_halves_and_holdout_are_disjoint_and_cover_the_training_set(numbered_dir, held):
    images = _numbered(numbered_dir, holdout=0.25)
    read = {part: _numbers(images.evaluation(part, 32)) for part in ("train", "holdout")}
    read["architecture"] = _numbers(images.evaluation("architecture", 32))
    weights = images.training(90, seed=1, part="weights", augment=False)
    read["weights"] = np.sort(_numbers(weights.batches(0, 1)))
    for numbers in read.values():
        np.testing.assert_array_equal(numbers, np.unique(numbers))
    halves = np.concatenate([read["weights"], read["architecture"]])
    np.testing.assert_array_equal(np.sort(halves), read["train"])
    everything = np.sort(np.concatenate([read["train"], read["holdout"]]))
    np.testing.assert_array_equal(everything, np.arange(240))
    splits = images.record()["splits"]
    for part, numbers in read.items():
        fingerprint = hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()
        assert splits[part] == {"of": "train", "images": len(numbers), "fingerprint": fingerprint}


def test_split_is_a_function_of_the_seed():
    records = [_prepared("digits", seed=seed, holdout=0.1).record() for seed in (5, 5, 6)]
    assert records[0] == records[1]
    assert json.loads(json.dumps(records[0])) == records[0]
    for part in ("test", "holdout", "train", "weights", "architecture"):
        first, other = (record["splits"][part]["fingerprint"] for record in records[1:])
        assert first != other


def test_set_without_evaluation_split_keeps_a_stratified_tenth():
    digits = _prepared("digits", holdout=0.1)
    info = digits.describe()
    assert (info.evaluation_images, info.holdout_images, info.train_images) == (180, 162, 1455)
    read = [_arrays(digits.evaluation(part, 50)) for part in ("test", "holdout", "train")]
    counts = [np.bincount(np.concatenate([y for _, y in batches])) for batches in read]
    assert [of_part.sum() for of_part in counts] == [180, 162, 1455]
    assert (np.ptp(counts, axis=1) <= [2, 2, 9]).all()
    assert "tenth" in digits.record()["evaluation_split"]


def test_prepare_and_training_do_not_read_the_test_split(numbered_dir, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(numbered_dir, folder)
    for path in folder.glob("numbered/*/*-test*"):
        path.unlink()
    images = _numbered(folder)
    assert images.record()["splits"]["test"]["images"] == 35
    assert len(_numbers(image_data.paired(images, 8, 0).batches(0, 2).map(lambda w, a: w))) == 16
    with pytest.raises(
        DataError,
        match="numbered-test.tfrecord-00000-of-00003', record 0 of 12 .*: .*No such file",
    ):
        images.evaluation("test", 8)


def test_validation_stands_in_for_a_test_without_labels(tmp_path):
    counts = {"train": 40, "validation": 9, "test": 11}
    _store(tmp_path, "unlabelled", counts, unlabelled=("test",))
    images = _prepared("unlabelled", str(tmp_path))
    assert images.describe().evaluation_split == "validation"
    assert [len(y) for _, y in _arrays(images.evaluation("test", 5))] == [5, 4]
    images = _prepared("unlabelled", str(tmp_path), evaluation_split="test")
    with pytest.raises(DataError, match="'test' of 'unlabelled' has no labels"):
        images.evaluation("test", 5)


# Feeds


@pytest.mark.parametrize(
    "held, kind",
    [
        ("memory", "none"),
        ("memory", "crop_flip"),
        ("stream", "none"),
        ("stream", "crop_flip"),
        ("stream", "resized_crop"),
    ],
    indirect=["held"],
)
def test_feed_can_start_at_any_step(numbered_dir, held, kind):
    images = _numbered(numbered_dir, augmentation=kind, crop_padding=2)
    tf.random.set_seed(1)
    whole = _arrays(image_data.paired(images, 32, seed=9).batches(0, 8))
    # A half has 120 images: three steps in an epoch, so these pieces begin and end inside epochs.
    again = _numbered(numbered_dir, augmentation=kind, crop_padding=2)
    tf.random.set_seed(2)
    feed = image_data.paired(again, 32, seed=9)
    assert feed.steps_per_epoch == 3
    pieces = [_arrays(feed.batches(*piece)) for piece in ((0, 2), (2, 2), (2, 7), (7, 8))]
    _assert_same(sum(pieces, []), whole)
    for batch in whole:
        assert [(a.shape, a.dtype) for a in batch] == [
            ((32, 8, 10, 3), np.float32),
            ((32,), np.int32),
        ] * 2
    other = _arrays(image_data.paired(again, 32, seed=10).batches(0, 1))
    assert not np.array_equal(other[0][0], whole[0][0])


def test_every_epoch_is_a_new_order_of_the_part(numbered_dir, held):
    images = _numbered(numbered_dir)
    feed = images.training(60, seed=4)
    epochs = _numbers(feed.batches(0, 5 * feed.steps_per_epoch)).reshape(5, 240)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(240), (5, 1)))
    related = np.corrcoef([*epochs, np.arange(240)])
    assert np.abs(related - np.eye(6)).max() < 0.25


class _Counting(sources.ListedSource):
    """A large set of images of two pixels, which say the image's number."""

    shape = (1, 2, 1)

    def __init__(self, count):
        super().__init__({"train": np.arange(count)}, {"train": np.zeros(count, np.int32)})

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
    orders = [images.reshape(count, 2) @ [256, 1] for images, _ in _arrays(feed.batches(0, 3))]
    related = np.corrcoef([*orders, np.arange(count)])
    assert np.abs(related - np.eye(4)).max() < 0.03


def test_shuffle_block_of_a_stream_may_be_smaller_than_the_set(numbered_dir, monkeypatch):
    monkeypatch.setattr(batches, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(tfds_source, "SHUFFLE_BYTES", 10_000)
    feed = _numbered(numbered_dir).training(24, seed=4)
    numbers = _numbers(feed.batches(0, 20))
    np.testing.assert_array_equal(np.sort(numbers[:240]), np.arange(240))
    assert not np.array_equal(numbers[:240], numbers[240:])
    np.testing.assert_array_equal(_numbers(feed.batches(7, 13)), numbers[7 * 24 : 13 * 24])


def test_halves_have_streams_of_their_own(numbered_dir):
    images = _numbered(numbered_dir)
    pairs = _arrays(image_data.paired(images, 120, seed=0).batches(0, 1))
    weights, architecture = (
        np.searchsorted(places, _numbers(tf.data.Dataset.from_tensors((batch, 0))))
        for (_, places), batch in zip(
            map(images.parts.places, ("weights", "architecture")), pairs[0][::2], strict=True
        )
    )
    assert abs(np.corrcoef(weights, architecture)[0, 1]) < 0.3


def test_evaluation_covers_all_once_in_order(numbered_dir, held):
    images = _numbered(numbered_dir, augmentation="crop_flip")
    np.testing.assert_array_equal(_numbers(images.evaluation("test", 8)), np.arange(35))
    assert [len(y) for _, y in _arrays(images.evaluation("test", 8))] == [8, 8, 8, 8, 3]
    labels = np.concatenate([y for _, y in _arrays(images.evaluation("train", 7))])
    np.testing.assert_array_equal(labels, (np.sqrt(np.arange(240)) % 3).astype(int))


def test_feed_refuses_steps_out_of_order(numbered_dir):
    feed = _numbered(numbered_dir).training(8, 0)
    with pytest.raises(ValueError, match="start <= stop"):
        feed.batches(3, 2)


def test_a_batch_larger_than_the_part_is_refused(numbered_dir):
    with pytest.raises(DataError, match="batch of 121 .* weight half .* 120 images"):
        image_data.paired(_numbered(numbered_dir), 121, 0)


def test_before_prepare_there_is_no_feed(numbered_dir):
    images = image_data.ImageData("numbered", str(numbered_dir))
    with pytest.raises(RuntimeError, match="prepare"):
        images.training(8, 0)


# Augmentation and normalisation


@pytest.mark.parametrize("kind, flips", [("crop", False), ("crop_flip", True)])
def test_crops_are_shifted_originals(numbered_dir, held, kind, flips):
    images = _numbered(numbered_dir, augmentation=kind, crop_padding=1)
    originals = _arrays(images.training(240, 0, augment=False).batches(0, 1))[0]
    augmented = _arrays(images.training(240, 0).batches(0, 1))[0]
    np.testing.assert_array_equal(augmented[1], originals[1])
    padded = np.pad(originals[0], [(0, 0), (1, 1), (1, 1), (0, 0)])
    found = [_window(*pair) for pair in zip(padded, augmented[0], strict=True)]
    windows = {(top, left, flip) for top in range(3) for left in range(3) for flip in (0, flips)}
    assert set(found) == windows


def _window(padded, image):
    """Finds where in a padded original an image was cut, and whether it is mirrored."""
    height, width = image.shape[:2]
    for top in range(padded.shape[0] - height + 1):
        for left in range(padded.shape[1] - width + 1):
            window = padded[top : top + height, left : left + width]
            for flip in (False, True):
                if np.array_equal(window[:, ::-1] if flip else window, image):
                    return top, left, flip
    raise AssertionError("not a window of the original")


def test_random_resized_crops_are_parts_of_the_image():
    # The red of a pixel says its column, the green its row.
    columns, rows = np.meshgrid(np.arange(250), np.arange(200))
    image = tf.constant(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))
    crop = tf.function(lambda seed: augmentation.random_resized_crop(image, (64, 64), seed))
    areas, mirrored = [], []
    for number in range(100):
        part = crop(tf.constant([number, 0], tf.int64)).numpy().astype(int)
        assert part.shape == (64, 64, 3)
        steps = np.diff(part[0, :, 0])
        assert (steps >= 0).all() or (steps <= 0).all()
        assert (np.diff(part[:, 0, 1]) >= 0).all()
        mirrored.append(steps.sum() < 0)
        areas.append(np.ptp(part[..., 0]) * np.ptp(part[..., 1]) / (250 * 200))
    assert 0.06 < min(areas) < 0.15 and 0.8 < max(areas) <= 1
    assert 30 < sum(mirrored) < 70


def test_centre_crop_keeps_the_middle():
    columns, rows = np.meshgrid(np.arange(250), np.arange(128))
    image = tf.constant(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))
    # The short side, 128, is what 112 asks for: nothing is resized.
    part = augmentation.centre_crop(image, (112, 112)).numpy()
    np.testing.assert_array_equal(part, image[8:120, 69:181])


def _assert_normalised(images):
    total = squares = pixels = 0
    for batch, _ in images.evaluation("train", 1000).as_numpy_iterator():
        values = batch.reshape(-1, batch.shape[-1]).astype(np.float64)
        total, squares = total + values.sum(axis=0), squares + (values**2).sum(axis=0)
        pixels += len(values)
    np.testing.assert_allclose(total / pixels, 0, atol=1e-5)
    np.testing.assert_allclose(squares / pixels, 1, atol=1e-5)
    raw = (values[:1000] * images.deviation + images.mean) * 255
    np.testing.assert_allclose(raw, np.round(raw), atol=1e-3)


def test_mean_and_deviation_are_computed_where_absent(held):
    digits = image_data.ImageData("digits", holdout=0.1)
    assert digits.describe().mean is None and digits.describe().deviation is None
    digits.prepare(0)
    _assert_normalised(digits)
    assert digits.record()["mean"] == list(digits.describe().mean) == list(digits.mean)


def test_given_mean_and_deviation_are_used(numbered_dir):
    pixels = _arrays(_numbered(numbered_dir).evaluation("test", 35))[0][0]
    given = {"mean": [0.1, 0.2, 0.3], "deviation": [0.5, 0.25, 1]}
    normalised = _arrays(_numbered(numbered_dir, **given).evaluation("test", 35))[0][0]
    expected = (pixels - given["mean"]) / given["deviation"]
    np.testing.assert_allclose(normalised, expected, atol=1e-6)


def test_mean_and_deviation_follow_the_split():
    digits = _prepared("digits", holdout=0.3, seed=0)
    first = digits.mean
    digits.prepare(1)
    assert digits.mean != first
    assert digits.mean == _prepared("digits", holdout=0.3, seed=1).mean


# CIFAR-10, and its images enlarged


def test_cifar10_is_described_normalised_and_fed(data_dir):
    images = _prepared("cifar10", str(data_dir), holdout=0.1)
    info = images.describe()
    assert info.input_shape == (32, 32, 3)
    assert info.label_names[3] == "cat" and info.num_classes == 10
    assert (info.train_images, info.holdout_images, info.evaluation_images) == (45000, 5000, 10000)
    _assert_normalised(images)
    feed = image_data.paired(images, 256, 0)
    assert feed.steps_per_epoch == 87
    ((x, y, _, labels),) = _arrays(feed.batches(500, 501))
    assert x.shape == (256, 32, 32, 3) and set(y) == set(labels) == set(range(10))
    assert sum(len(y) for _, y in _arrays(images.evaluation("test", 3000))) == 10000


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
    images = _prepared(f"folder:{enlarged_dir}", **arguments)
    assert isinstance(images._reader("train"), batches.StreamReader)
    feed = images.training(8, seed=0)
    assert feed.steps_per_epoch == 3
    whole = _arrays(feed.batches(0, 5))
    _assert_same(_arrays(feed.batches(0, 2)) + _arrays(feed.batches(2, 5)), whole)
    assert whole[0][0].shape == (8, 224, 224, 3)
    assert 0 <= whole[0][0].min() and 0.5 < whole[0][0].max() <= 1
    ((evaluated, labels),) = _arrays(images.evaluation("test", 8))
    assert evaluated.shape == (3, 224, 224, 3) and labels.dtype == np.int32
    plain = _arrays(images.training(8, seed=0, augment=False).batches(0, 1))[0]
    np.testing.assert_array_equal(plain[1], whole[0][1])
    assert not np.array_equal(plain[0], whole[0][0])


def test_cifar10_streams_with_resized_crops(data_dir):
    arguments = {"image_size": (224, 224), "augmentation": "resized_crop", **IDENTITY}
    images = _prepared("cifar10", str(data_dir), **arguments)
    feed = images.training(16, seed=0, part="weights")
    first, second = _arrays(feed.batches(0, 2)), _arrays(feed.batches(1, 2))
    _assert_same(second, first[1:])
    assert first[0][0].shape == (16, 224, 224, 3)


# Arguments


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
    images = _numbered(numbered_dir)
    with pytest.raises(DataError, match="part = 'test'"):
        images.training(8, 0, "test")
    with pytest.raises(DataError, match="split = 'weights'"):
        images.evaluation("weights", 8)
    with pytest.raises(DataError, match="has no holdout: holdout is 0"):
        images.evaluation("holdout", 8)


# Damaged records


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
    images = _numbered(damaged_dir)
    damage(_file(damaged_dir), 7)
    with pytest.raises(DataError, match=f"00001-of-00003', {message}"), images.explained():
        if len(_arrays(images.training(60, 1).batches(0, 4))) < 4:
            raise EndOfDataError("as the loop says")


@pytest.mark.parametrize(("damage", "message", "lost"), _DAMAGES)
def test_damaged_records_are_skipped_where_that_is_asked_for(
    damaged_dir, held, damage, message, lost
):
    damage(_file(damaged_dir), 7)
    with pytest.raises(
        DataError, match=f"{lost} of 240 .* more than ImageData.skip_corrupt = 0.001"
    ):
        _numbered(damaged_dir, skip_corrupt=0.001)
    images = _numbered(damaged_dir, skip_corrupt=0.4)
    assert len(images.record()["skipped"]["train"]) == lost
    expected = [*range(87), *range(87 + lost, 240)]
    np.testing.assert_array_equal(_numbers(images.evaluation("train", 32)), expected)
    steps = images.training(20, 1).steps_per_epoch
    assert steps == len(expected) // 20
    read = _numbers(images.training(20, 1, augment=False).batches(0, steps))
    assert len(set(read)) == 20 * steps and set(read) <= set(expected)
