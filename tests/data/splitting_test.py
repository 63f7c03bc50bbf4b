"""Splits of a training set: in proportion, disjoint, and a function of the seed."""

import hashlib
import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
from image_sets import arrays, numbered, numbers_of, prepared

from tas_tf.data import splitting


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
    images = numbered(numbered_dir, holdout=0.25)
    read = {part: numbers_of(images.evaluation(part, 32)) for part in ("train", "holdout")}
    read["architecture"] = numbers_of(images.evaluation("architecture", 32))
    weights = images.training(90, seed=1, part="weights", augment=False)
    read["weights"] = np.sort(numbers_of(weights.batches(0, 1)))
    for numbers in read.values():
        np.testing.assert_array_equal(numbers, np.unique(numbers))
    halves = np.concatenate([read["weights"], read["architecture"]])
    np.testing.assert_array_equal(np.sort(halves), read["train"])
    everything = np.sort(np.concatenate([read["train"], read["holdout"]]))
    np.testing.assert_array_equal(everything, np.arange(240))
    splits = images.record()["splits"]
    for part, numbers in read.items():
        named = images.identity.digest.encode() + numbers.astype("<i8").tobytes()
        fingerprint = hashlib.sha256(named).hexdigest()
        assert splits[part] == {"of": "train", "images": len(numbers), "fingerprint": fingerprint}


def test_split_is_a_function_of_the_seed():
    records = [prepared("digits", seed=seed, holdout=0.1).record() for seed in (5, 5, 6)]
    assert records[0] == records[1]
    assert json.loads(json.dumps(records[0])) == records[0]
    for part in ("test", "holdout", "train", "weights", "architecture"):
        first, other = (record["splits"][part]["fingerprint"] for record in records[1:])
        assert first != other


def test_set_without_evaluation_split_keeps_a_stratified_tenth():
    digits = prepared("digits", holdout=0.1)
    info = digits.describe()
    assert (info.evaluation_images, info.holdout_images, info.train_images) == (180, 162, 1455)
    read = [arrays(digits.evaluation(part, 50)) for part in ("test", "holdout", "train")]
    counts = [np.bincount(np.concatenate([y for _, y in batches])) for batches in read]
    assert [of_part.sum() for of_part in counts] == [180, 162, 1455]
    assert (np.ptp(counts, axis=1) <= [2, 2, 9]).all()
    assert "tenth" in digits.record()["evaluation_split"]
