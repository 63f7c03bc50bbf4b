"""Feeds of data that are given in Python."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tas_tf.data.batches import Feed
from tas_tf.data.given import feed_of
from tas_tf.errors import DataError

X, Y = np.arange(20.0).reshape(10, 2), np.arange(10)


class Numbered(keras.utils.PyDataset):
    """Batches of four of ten examples."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


def labels(feed, start, stop):
    return [batch[1].numpy().tolist() for batch in feed.batches(start, stop)]


@pytest.mark.parametrize(
    "data", [tf.data.Dataset.from_tensor_slices((X, Y)).batch(4), Numbered()], ids=["tf", "keras"]
)
def test_datasets_of_batches_are_taken_in_their_order(data):
    feed = feed_of(data)
    assert feed.steps_per_epoch == 3
    epoch = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert labels(feed, 0, 7) == [*epoch, *epoch, epoch[0]]
    assert labels(feed, 4, 6) == epoch[1:]


def test_arrays_are_shuffled_anew_in_every_epoch_and_alike_by_seed():
    feed = feed_of((X, Y), batch_size=5, seed=1)
    assert feed.steps_per_epoch == 2
    first, second, third, fourth = labels(feed, 0, 4)
    assert sorted(first + second) == sorted(third + fourth) == list(range(10))
    assert (first, second) != (third, fourth)
    assert labels(feed_of((X, Y), 5, 1), 2, 4) == [third, fourth]
    assert labels(feed_of((X, Y), 5, 2), 0, 2) != [first, second]
    for x, y in feed.batches(0, 2):
        np.testing.assert_array_equal(x[:, 0], 2.0 * y.numpy())


def test_weights_of_examples_and_several_inputs_pass_through():
    feed = feed_of(({"a": X, "b": X}, Y, np.ones(10)), batch_size=10)
    ((inputs, wanted, weights),) = feed.batches(0, 1)
    assert sorted(inputs) == ["a", "b"] and len(wanted) == len(weights) == 10
    assert isinstance(feed_of(feed), Feed) and feed_of(feed) is feed


ENDLESS = tf.data.Dataset.from_tensors((X, Y)).repeat()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (ENDLESS, r"endless: say where an epoch ends by dataset\.take"),
        (ENDLESS.take(4).filter(lambda x, y: True), "of unknown length"),
        (ENDLESS.take(0), "It is empty"),
        (tf.data.Dataset.from_tensors(X), "or .x, y, weights of examples.. Received"),
        ((X,), "Received: 1 parts"),
        ((X, Y[:4]), r"arrays of equal length. Received: \[4, 10\]"),
        ((X[:3], Y[:3]), "at least 32 examples, one batch. Received: 3"),
        ("photos", "Received: str"),
    ],
)
def test_what_is_no_data_says_what_would_be(data, match):
    with pytest.raises(DataError, match=match):
        feed_of(data)
