"""Feeds of data that are given in Python: datasets of TensorFlow and Keras, and arrays."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.data.batches import Feed
from tas_tf.errors import DataError


def feed_of(data: Any, batch_size: int = 32, seed: int = 0) -> Feed:
    """Returns a feed of batches (x, y) or (x, y, weights of examples).

    Args:
        data: A `tf.data.Dataset` of batches whose number is known, a `keras.utils.PyDataset`, or
            arrays (x, y) or (x, y, weights), which are shuffled anew in every epoch. A feed stays
            as it is.
        batch_size: Examples of a batch of arrays; a last batch of fewer is left out.
        seed: Seed of their order.

    Raises:
        DataError: If it is something else, has no batches, or their number is not known.
    """
    if isinstance(data, Feed):
        return data
    if isinstance(data, (tuple, list)):
        return _of_arrays(tuple(data), batch_size, seed)
    if isinstance(data, keras.utils.PyDataset):
        data = _of_py_dataset(data)
    if not isinstance(data, tf.data.Dataset):
        raise DataError(
            "expected a tf.data.Dataset, a keras.utils.PyDataset or arrays (x, y). Received: "
            f"{type(data).__name__}"
        )
    _check_parts(data.element_spec)
    steps = int(data.cardinality())
    if steps <= 0:
        known = {
            tf.data.INFINITE_CARDINALITY: "endless: say where an epoch ends by dataset.take(steps)",
            tf.data.UNKNOWN_CARDINALITY: "of unknown length: say it by "
            "dataset.apply(tf.data.experimental.assert_cardinality(steps))",
        }
        found = known.get(steps, "empty")
        raise DataError(f"expected a dataset whose number of batches is known. It is {found}")

    def make(start: int, stop: int) -> tf.data.Dataset:
        return data.repeat().skip(start % steps).take(stop - start)

    return Feed(steps, make)


def _of_arrays(data: tuple[Any, ...], batch_size: int, seed: int) -> Feed:
    _check_parts(data)
    arrays = tf.nest.map_structure(np.asarray, data)
    counts = {len(array) for array in tf.nest.flatten(arrays)}
    if len(counts) != 1:
        raise DataError(f"expected arrays of equal length. Received: {sorted(counts)}")
    (count,) = counts
    steps = count // batch_size
    if not steps:
        raise DataError(f"expected at least {batch_size} examples, one batch. Received: {count}")
    examples = tf.data.Dataset.from_tensor_slices(arrays)

    def make(start: int, stop: int) -> tf.data.Dataset:
        shuffled = examples.shuffle(count, seed=seed, reshuffle_each_iteration=True)
        batches = shuffled.batch(batch_size, drop_remainder=True).repeat()
        return batches.skip(start).take(stop - start)

    return Feed(steps, make)


def _of_py_dataset(data: keras.utils.PyDataset) -> tf.data.Dataset:
    count = data.num_batches
    if count is None or not math.isfinite(count) or count < 1:
        raise DataError(f"expected a PyDataset whose number of batches is known. It is {count}")
    first = _as_tuple(data[0])
    signature = tf.nest.map_structure(
        lambda array: tf.TensorSpec((None, *np.shape(array)[1:]), np.asarray(array).dtype), first
    )

    def generate() -> Any:
        for index in range(count):
            yield _as_tuple(data[index])
        data.on_epoch_end()

    batches = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return batches.apply(tf.data.experimental.assert_cardinality(count))


def _as_tuple(batch: Any) -> tuple[Any, ...]:
    _check_parts(batch)
    return tuple(batch)


def _check_parts(batch: Any) -> None:
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        received = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else type(batch)
        raise DataError(
            f"expected batches (x, y) or (x, y, weights of examples). Received: {received}"
        )
