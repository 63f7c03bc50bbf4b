"""The losses: cross-entropy, distillation, and the cost of an architecture."""

from __future__ import annotations

import tensorflow as tf

from tas_tf.spaces.cost import Budget

COST_BANDS = ("paper", "published")


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of every example.

    Args:
        labels: (batch,) int.
        logits: (batch, classes).

    Returns:
        (batch,).
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def distillation(
    labels: tf.Tensor,
    logits: tf.Tensor,
    teacher_logits: tf.Tensor,
    alpha: float = 0.9,
    temperature: float = 4.0,
) -> tf.Tensor:
    """Returns `(1 - a) * CE + a * T^2 * KL(softmax(teacher / T) || softmax(student / T))`.

    Args:
        labels: (batch,) int.
        logits: (batch, classes), the student's.
        teacher_logits: (batch, classes), in any precision: the student's is taken.
        alpha: Weight a of the teacher.
        temperature: Temperature T.

    Returns:
        (batch,).
    """
    teacher = tf.nn.log_softmax(tf.cast(teacher_logits, logits.dtype) / temperature)
    student = tf.nn.log_softmax(logits / temperature)
    divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
    return (1 - alpha) * cross_entropy(labels, logits) + alpha * temperature**2 * divergence


def cost_loss(
    expected: tf.Tensor, current: tf.Tensor, budget: Budget, band: str = "paper"
) -> tf.Tensor:
    """Returns `L_cost` before its weight: `log E`, `-log E` or 0 (docs/method.md 6).

    `paper`: down if `F > (1 + t) R`, up if `F < (1 - t) R`. `published`: down as soon as `F > R`,
    up if `F < R - t * (cost of the unpruned network)`.

    Args:
        expected: Expected cost E, a scalar with a gradient.
        current: Cost F of the argmax architecture.
        budget: The budget R and its tolerance t.
        band: `paper` or `published`.
    """
    if band == "paper":
        lower, upper = budget.floor, (1 + budget.tolerance) * budget.amount
    else:
        lower, upper = budget.amount - budget.tolerance * budget.unpruned, budget.amount
    direction = tf.cast(current > upper, expected.dtype) - tf.cast(current < lower, expected.dtype)
    return direction * tf.math.log(expected / 1e6)
