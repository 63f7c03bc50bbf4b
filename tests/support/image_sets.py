"""Image sets that tests of the data share: written as TFDS stores them, read back as arrays."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tas_tf.data import image_data

IDENTITY = {"mean": [0.0] * 3, "deviation": [1.0] * 3}


def store(folder, name, counts, shards=1, unlabelled=(), classes=3):
    """Stores a TFDS set, images of each split numbered by their first two pixels.

    `classes` is how many of the three get images.
    """
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
        labels = -np.ones(count) if split in unlabelled else np.sqrt(np.arange(count)) % classes
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


def prepared(*args, seed=3, **kwargs):
    """An ImageData that is prepared."""
    made = image_data.ImageData(*args, **kwargs)
    made.prepare(seed)
    return made


def numbered(folder, **kwargs):
    """The set `numbered` of a folder, prepared, with pixels as they are."""
    return prepared("numbered", str(folder), **{"augmentation": "none", **IDENTITY, **kwargs})


def numbers_of(batches):
    """Reads back which images of `numbered` a dataset yields, in order."""
    pixels = [np.round(images[:, 0, :2, 0] * 255) for images, _ in batches.as_numpy_iterator()]
    return (np.concatenate(pixels) @ [16, 1]).astype(int)


def arrays(batches):
    """The arrays of every batch."""
    return [tf.nest.flatten(batch) for batch in batches.as_numpy_iterator()]


def check_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, wanted in zip(batches, expected, strict=True):
        for array, wanted_array in zip(batch, wanted, strict=True):
            np.testing.assert_array_equal(array, wanted_array)


def check_normalised(images):
    total = squares = pixels = 0
    for batch, _ in images.evaluation("train", 1000).as_numpy_iterator():
        values = batch.reshape(-1, batch.shape[-1]).astype(np.float64)
        total, squares = total + values.sum(axis=0), squares + (values**2).sum(axis=0)
        pixels += len(values)
    np.testing.assert_allclose(total / pixels, 0, atol=1e-5)
    np.testing.assert_allclose(squares / pixels, 1, atol=1e-5)
    raw = (values[:1000] * images.deviation + images.mean) * 255
    np.testing.assert_allclose(raw, np.round(raw), atol=1e-3)
