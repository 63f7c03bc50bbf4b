"""Channels: which are one class, which classes are one group, and how many of them there are."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tas_tf.errors import ArchitectureError
from tas_tf.spaces.channels import Channels, channel_axis


def two_segments():
    """A sum of the channels of a and b, one behind the other, with those of c; a is read twice."""
    channels = Channels()
    a, b, c = (channels.new((5, 5, n), name) for n, name in ((2, "a"), (3, "b"), (5, "c")))
    joined = np.concatenate([a, b], axis=-1)
    channels.tie(joined, c)
    again = np.concatenate([joined, a], axis=-1)
    return channels.partition([a, b, c, joined, again]), again


def test_a_sum_splits_a_layer_into_segments():
    partition, again = two_segments()
    assert partition.widths == {"a": 2, "b": 3}
    assert [group.owners for group in partition.groups] == [("a", "c"), ("b", "c")]
    form = partition.form(again)
    assert (form.constant, form.multiples) == (0, {"a": 2, "b": 1})
    assert form.at({"a": 1, "b": 3}) == 5
    kept = partition.kept({"a": [1], "b": [0, 2]})
    assert kept[again].tolist() == [[[False, True, True, False, True, False, True]]]


def test_further_groups_of_a_layer_have_names():
    channels = Channels()
    a = channels.new((6,), "a")
    partition = channels.partition([a, a[:2]])
    assert [(group.name, group.width) for group in partition.groups] == [("a", 2), ("a:2", 4)]


def test_frozen_channels_are_in_no_group():
    channels = Channels()
    a, b = channels.new((4,), "a"), channels.new((4,), "b")
    channels.freeze(a[:1], "seen from outside")
    channels.tie(a, b)
    partition = channels.partition([a, b])
    assert partition.widths == {"a": 3} and not partition.kept({"a": [0]})[2:4].any()
    assert partition.kept({"a": [1]})[[0, 2, 4, 6]].all()
    assert partition.frozen == dict.fromkeys("ab", "seen from outside")
    assert partition.form(a).constant == 1


def test_single_channels_are_frozen():
    channels = Channels()
    one, tied = channels.new((3, 3, 1), "one"), channels.new((4,), "tied")
    channels.tie(tied, tied[:1])
    partition = channels.partition([one, tied])
    assert partition.groups == () and set(partition.frozen) == {"one", "tied"}


def test_what_was_tried_is_forgotten():
    channels = Channels()
    a = channels.new((4,), "a")
    mark = channels.mark()
    channels.tie(a, channels.new((4,), "tried")[:1])
    channels.freeze(a, "tried")
    channels.go_back(mark)
    partition = channels.partition([a])
    assert partition.owners == ("a",) * 4 and partition.widths == {"a": 4}


def test_blocks_of_channels_are_tied():
    channels = Channels()
    ids = channels.new((6,), "a")
    blocks = channels.along_one_axis(ids.reshape(2, 3))
    assert blocks.shape == (1, 3) and channel_axis(blocks) == 1
    assert channels.partition([ids, blocks]).widths == {"a": 3}
    # Of what came from one axis nothing is tied.
    flat = np.broadcast_to(channels.new((2, 2, 5), "b"), (2, 2, 5)).reshape(20)
    assert channels.along_one_axis(flat.reshape(4, 5)).tolist() == [[6, 7, 8, 9, 10]]
    assert channels.partition([ids, flat]).widths == {"a": 3, "b": 5}


@pytest.mark.parametrize("keep", [{"c": [0]}, {"a": []}, {"a": [2]}, {"a": [-1]}, {"a": [0, 0]}])
def test_wrong_positions_are_refused(keep):
    partition, _ = two_segments()
    with pytest.raises(ArchitectureError, match="expected"):
        partition.kept(keep)
    with pytest.raises(ArchitectureError, match="from 0 to 1.*Received: \\[True, False\\]"):
        partition.kept({"a": [True, False]})


@pytest.mark.parametrize("widths", [{"c": 1}, {"a": 0}, {"a": 3}])
def test_wrong_widths_are_refused(widths):
    partition, _ = two_segments()
    assert partition.checked({"a": 1}) == {"a": 1, "b": 3}
    with pytest.raises(ArchitectureError, match="expected a"):
        partition.checked(widths)


ids = st.integers(0, 11)


@given(
    st.lists(st.tuples(ids, ids), max_size=12),
    st.lists(st.lists(ids, min_size=1, max_size=12), max_size=4),
    st.sets(ids, max_size=2),
)
def test_partitions_are_those_of_the_definition(ties, arrays, frozen):
    channels = Channels()
    channels.new((12,), "all")
    for a, b in ties:
        channels.tie(np.array([a]), np.array([b]))
    channels.freeze(np.array(sorted(frozen), int), "so")
    partition = channels.partition([np.array(array) for array in arrays])
    classes = [{i} for i in range(12)]
    for a, b in ties:
        joined = classes[a] | classes[b]
        for i in joined:
            classes[i] = joined
    expected = collections.defaultdict(set)
    for members in classes:
        if not members & frozen:
            key = tuple(sum(i in members for i in array) for array in arrays)
            expected[key].add(frozenset(members))
    received = [
        {frozenset(np.flatnonzero(partition.class_of == c).tolist()) for c in group.classes}
        for group in partition.groups
    ]
    assert sorted(map(sorted, map(lambda s: map(sorted, s), received))) == sorted(
        sorted(map(sorted, found)) for found in expected.values() if len(found) > 1
    )
    for array in arrays:
        form = partition.form(np.array(array))
        keep = {group.name: [0] for group in partition.groups}
        assert form.at(partition.widths) == len(array)
        assert form.at(dict.fromkeys(keep, 1)) == partition.kept(keep)[array].sum()
