"""The two optimizers against the reference's trajectories, and the learning rate's schedule."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity import absolute, check, fixtures, relative

from tas_tf.training.optimizers import SGD, Adam
from tas_tf.training.schedules import warm_cosine

FILES = "losses_and_optimizers*.npz"


def trajectory(optimizer, start, gradients, rates=None):
    """Returns the weights after every step."""
    variable = keras.Variable(start)
    optimizer.build([variable])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [variable]))
    weights = []
    for index, gradient in enumerate(gradients):
        if rates is not None:
            optimizer.learning_rate.assign(rates[index])
        step(tf.constant(gradient, tf.float32))
        weights.append(variable.numpy())
    return np.array(weights)


def test_sgd(reference_dir):
    for file, arrays in fixtures(reference_dir, FILES).items():
        weights = trajectory(SGD(), arrays["sgd_w0"], arrays["sgd_grads"], arrays["sgd_lrs"])
        error = absolute(weights, arrays["sgd_trajectory"])
        check(file, "12 steps of SGD, absolute", error, 1e-6)


def test_adam(reference_dir):
    for file, arrays in fixtures(reference_dir, FILES).items():
        weights = trajectory(Adam(), arrays["adam_w0"], arrays["sgd_grads"])
        error = absolute(weights, arrays["adam_trajectory"])
        check(file, "12 steps of Adam, absolute", error, 1e-6)


def test_the_reference_learning_rates_are_our_cosine(reference_dir):
    for file, arrays in fixtures(reference_dir, FILES).items():
        expected = arrays["sgd_lrs"]
        schedule = warm_cosine(0.1, len(expected))
        rates = [schedule(n) for n in range(len(expected))]
        check(file, "learning rates", relative(rates, expected), 1e-6)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_l2_acts_where_the_gradient_is_zero(optimizer):
    decayed = trajectory(optimizer(l2=0.1), [1.0, -2.0, 0.0], np.zeros([5, 3]))
    assert np.all(np.diff(np.abs(decayed[:, :2]), axis=0) < 0)
    # What is zero stays zero: this keeps the padding of searched units what it is.
    assert not decayed[:, 2].any()
    untouched = trajectory(optimizer(l2=0.0), [1.0, -2.0, 0.0], np.zeros([5, 3]))
    np.testing.assert_array_equal(untouched, [[1, -2, 0]] * 5)


def test_the_velocity_holds_no_learning_rate():
    # After a rate of zero, momentum is as large as if the rate had been there all along.
    gradients = np.ones([2, 1])
    weights = trajectory(SGD(l2=0.0), [0.0], gradients, [0.0, 1.0])
    assert weights.ravel() == pytest.approx([0, -(1 + 0.9 * 1.9)])


def test_learning_rate():
    schedule = warm_cosine(0.1, 100, warmup_steps=20)
    rates = np.array([schedule(step) for step in range(101)])
    np.testing.assert_allclose(rates[:21], np.arange(21) / 20 * 0.1, atol=1e-12)
    assert rates.argmax() == 20
    assert np.all(np.diff(rates[20:]) < 0)
    assert schedule(60) == pytest.approx(0.05)
    assert schedule(40) == pytest.approx(0.1 * (1 + math.sqrt(0.5)) / 2)
    assert rates[100] == pytest.approx(0)
    assert 0 < rates[99] < 1e-4
    assert schedule(200) == pytest.approx(0)
    assert warm_cosine(0.1, 100)(0) == pytest.approx(0.1)
