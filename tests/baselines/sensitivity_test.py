"""Sensitivity: the gated network is the narrowed one; measurements are kept and gone on with."""

import numpy as np
import pytest
import small_runs
import tensorflow as tf

from tas_tf.baselines import gated, sensitivity
from tas_tf.models.inheritance import inherit_weights
from tas_tf.models.spec_compiler import build_model
from tas_tf.models.supernet import Supernet
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import losses

# None of its projections has a normalization: a derived network is the cut one, exactly.
BOTTLENECK = SearchSpace.resnet(20, 10, (8, 8, 1), block="bottleneck", ratios=(0.5, 0.75, 1.0))
BASIC = SearchSpace.resnet(14, 10, (8, 8, 1), ratios=(0.5, 1.0))


def network(space):
    return small_runs.randomized(build_model(space.unpruned()), np.random.default_rng(0))


def batch(space, size=32):
    random = np.random.default_rng(1)
    images = tf.constant(random.normal(size=(size, *space.input_shape)), tf.float32)
    return images, tf.constant(random.integers(0, space.num_classes, size), tf.int32)


def measured_of(space, known=None, record=lambda losses: None):
    model = gated.gated_network(network(space), space)
    return sensitivity.measure(model, space, [batch(space)], known or {}, record)


def cut(space, name):
    """The architecture that a measurement is of."""
    widths = [len(choice.candidates) - 1 for choice in space.choices]
    depths = [len(candidates) - 1 for candidates in space.depths]
    if name != "whole":
        part, candidate = name.split(": ")
        for index, choice in enumerate(space.choices):
            if choice.name == part:
                widths[index] = choice.candidates.index(int(candidate))
        for index, candidates in enumerate(space.depths):
            if part == f"stage{index + 1}":
                depths[index] = candidates.index(int(candidate))
    return space.architecture(widths, depths)


def loss_of_derived(space, architecture):
    """The loss of the derived network with the weights that it inherits, and batch statistics."""
    images, labels = batch(space)
    net = Supernet(space)
    net.start_from(network(space), images)
    model = build_model(architecture)
    inherit_weights(model, architecture, net)
    return float(tf.reduce_mean(losses.cross_entropy(labels, model(images, training=True))))


def test_measured_is_the_loss_of_the_derived_network():
    measured = measured_of(BOTTLENECK)
    assert len(measured) == 1 + sum(len(c.candidates) - 1 for c in BOTTLENECK.choices) + sum(
        len(candidates) - 1 for candidates in BOTTLENECK.depths
    )
    names = [*list(measured)[::7], *[name for name in measured if name.count("_") == 0]]
    assert len({cut(BOTTLENECK, name) for name in names}) > 8
    for name in names:
        expected = loss_of_derived(BOTTLENECK, cut(BOTTLENECK, name))
        assert measured[name] == pytest.approx(expected, rel=2e-3), name


@pytest.mark.slow
def test_inner_widths_and_depths_of_basic_blocks_likewise():
    """Where a stream is narrowed, the derived network normalizes its new projection."""
    measured = measured_of(BASIC)
    names = [
        name
        for name in measured
        if "conv1" in name or name.startswith("stage") * (":" in name and "_" not in name)
    ]
    assert len(names) == 6 + 3
    for name in names:
        expected = loss_of_derived(BASIC, cut(BASIC, name))
        assert measured[name] == pytest.approx(expected, rel=2e-3), name


def test_values_are_what_the_loss_gains():
    measured = measured_of(BASIC)
    values = sensitivity.values(BASIC, measured)
    for choice, row in zip(BASIC.choices, values.widths, strict=True):
        narrow, whole = row[: len(choice.candidates)]
        assert whole == 0
        assert narrow == measured["whole"] - measured[f"{choice.name}: {choice.candidates[0]}"]
    for stage, row in enumerate(values.depths, start=1):
        assert row.tolist() == [measured["whole"] - measured[f"stage{stage}: 1"], 0]


def test_measurements_go_on_where_they_were():
    records = []
    expected = measured_of(BASIC, record=lambda losses: records.append(dict(losses)))
    assert [len(record) for record in records] == [*range(1, len(expected) + 1)]
    more = []
    received = measured_of(BASIC, records[4], lambda losses: more.append(dict(losses)))
    assert len(more) == len(expected) - 5
    assert received == pytest.approx(expected, rel=1e-5)


def test_tied_widths_are_cut_together():
    space = SearchSpace.resnet(14, 10, (8, 8, 1), ratios=(0.5, 1.0), tie_streams=True)
    measured = measured_of(space)
    name = next(name for name in measured if name.startswith("stage2_block1_conv2"))
    assert measured[name] == pytest.approx(loss_of_derived(space, cut(space, name)), rel=2e-3)
