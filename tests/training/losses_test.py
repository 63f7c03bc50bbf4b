"""The losses against the reference's numbers, and the paper's bands."""

import math
import re

import numpy as np
import pytest
import tensorflow as tf
from parity import check, fixtures, relative

from tas_tf.spaces.cost import KINDS, Budget
from tas_tf.training import losses

FILES = "losses_and_optimizers*.npz"


def test_distillation(reference_dir):
    for file, arrays in fixtures(reference_dir, FILES).items():
        keys = [key for key in arrays if key.startswith("kd_loss_")]
        assert keys
        for key in keys:
            alpha, temperature = map(float, re.fullmatch(r"kd_loss_a(.+)_T(.+)", key).groups())
            student = tf.constant(arrays["student_logits"])
            with tf.GradientTape() as tape:
                tape.watch(student)
                loss = tf.reduce_mean(
                    losses.distillation(
                        arrays["labels"], student, arrays["teacher_logits"], alpha, temperature
                    )
                )
            gradient = tape.gradient(loss, student)
            expected = arrays[key.replace("loss", "grad")]
            check(file, "distillation loss", relative(loss, arrays[key]), 1e-6)
            check(file, "distillation loss: gradient", relative(gradient, expected), 1e-5)


def test_distillation_without_a_teachers_weight_is_cross_entropy():
    logits = tf.random.stateless_normal([5, 3], [0, 0])
    labels = tf.constant([0, 1, 2, 1, 0])
    plain = losses.cross_entropy(labels, logits)
    np.testing.assert_allclose(
        plain, -tf.nn.log_softmax(logits).numpy()[np.arange(5), labels], rtol=1e-6
    )
    np.testing.assert_allclose(losses.distillation(labels, logits, -logits, 0.0), plain, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_teacher_may_have_another_precision(dtype):
    logits = tf.random.stateless_normal([5, 3], [0, 0], dtype=tf.float64)
    labels = tf.constant([0, 1, 2, 1, 0])
    taught = tf.cast(-logits, dtype)
    expected = losses.distillation(labels, logits, tf.cast(taught, tf.float64))
    np.testing.assert_array_equal(losses.distillation(labels, logits, taught), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_published_band(reference_dir, dtype):
    for file, arrays in fixtures(reference_dir, FILES).items():
        rows = arrays["cost_rows_expected_current_required_tolerance_loss"]
        signs = set(np.sign(rows[:, -1]))
        assert signs == {-1, 0, 1}
        for expected, current, required, tolerance, loss in rows:
            # The reference's tolerance is absolute: ours is a share of the unpruned network.
            unpruned = 40e6
            budget = Budget(
                KINDS["macs"], required * 1e6, int(unpruned), tolerance * 1e6 / unpruned
            )
            received = losses.cost_loss(
                tf.constant(expected * 1e6, dtype),
                tf.constant(current * 1e6, tf.float64),
                budget,
                band="published",
            )
            error = relative(float(received), loss)
            check(file, f"cost loss of the published code, {dtype}", error, 1e-6)


@pytest.mark.parametrize(
    ("current", "sign"),
    [(10e6, -1), (18.99e6, -1), (19e6, 0), (20e6, 0), (21e6, 0), (21.01e6, 1), (40e6, 1)],
)
def test_paper_band(current, sign):
    expected = tf.constant(13e6, tf.float64)
    budget = Budget(KINDS["macs"], 20e6, 40_000_000, 0.05)
    with tf.GradientTape() as tape:
        tape.watch(expected)
        loss = losses.cost_loss(expected, tf.constant(current, tf.float64), budget)
    assert float(loss) == pytest.approx(sign * math.log(13))
    assert float(tape.gradient(loss, expected)) == pytest.approx(sign / 13e6)
