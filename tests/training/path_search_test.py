"""The training of single paths, on real images of digits."""

import keras
import numpy as np
import pytest
import small_runs
import tensorflow as tf

from tas_tf.errors import ArchitectureError
from tas_tf.models.spec_compiler import build_model
from tas_tf.runtime.checkpoints import Checkpoints
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.search_space import SearchSpace


@pytest.fixture(scope="module")
def feed():
    """Epochs of a few steps."""
    return small_runs.shortened(small_runs.digits().training(64, 0, "weights"), 4)


def test_a_path_is_one_architecture_drawn_uniformly():
    net = small_runs.paths().supernet
    space = net.space
    widths, depths = [], []
    for step in range(600):
        draw = net.uniform_path(tf.constant([0, step]))
        widths.append(draw.indices.numpy()[:, 0])
        depths.append(draw.depth_weights.numpy())
        assert draw.indices.shape == (len(space.choices), 1)
    for c, choice in enumerate(space.choices):
        counts = np.bincount(np.array(widths)[:, c], minlength=len(choice.candidates))
        expected = 600 / len(choice.candidates)
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    for s, candidates in enumerate(space.depths):
        chosen = np.array(depths)[:, s]
        assert set(np.unique(chosen)) <= {0.0, 1.0}
        np.testing.assert_array_equal(chosen.sum(axis=1), 1)
        assert not chosen[:, len(candidates) :].any()


def test_it_learns(feed):
    whole = small_runs.digits().training(64, 0, "weights")
    history = small_runs.paths().fit(whole, 3)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_the_teacher_is_followed_and_does_not_move(feed):
    keras.utils.set_random_seed(1)
    teacher = build_model(small_runs.space().unpruned())
    before = [variable.numpy() for variable in teacher.variables]
    taught = small_runs.paths(teacher=teacher)
    taught.fit(feed, 1)
    alone = small_runs.paths()
    alone.fit(feed, 1)
    for variable, value in zip(teacher.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    kernels = [loop.supernet.stem.kernel.numpy() for loop in (taught, alone)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


def test_a_teacher_of_other_classes_is_refused():
    other = build_model(SearchSpace.resnet(8, 7, (8, 8, 1)).unpruned())
    with pytest.raises(ArchitectureError, match="teacher: expected .* 10 classes.* 7 classes"):
        small_runs.paths(teacher=other)


def test_a_search_that_was_cut_off_goes_on_as_if_it_was_not(feed, tmp_path):
    undisturbed = small_runs.paths()
    undisturbed.fit(feed, 3)
    directory = RunDirectory(str(tmp_path))
    first = small_runs.paths()
    with pytest.raises(small_runs.Killed):
        first.fit(feed, 3, [small_runs.KillAt(2)], Checkpoints(directory, **first.state()))
    second = small_runs.paths(initial=9)
    checkpoints = Checkpoints(directory, **second.state())
    assert checkpoints.restore()
    second.fit(feed, 3, checkpoints=checkpoints)
    for one, other in zip(*map(small_runs.values, (second, undisturbed)), strict=True):
        np.testing.assert_array_equal(one, other)
