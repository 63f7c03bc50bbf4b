"""The method's two optimizers (docs/method.md 7).

Both add the L2 term to the gradient (Keras' `weight_decay` is decoupled). The velocity of SGD does
not include the learning rate; that of `keras.optimizers.SGD` does, which gives another trajectory
under a schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import keras
import tensorflow as tf

LearningRate: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule


class SGD(keras.optimizers.Optimizer):
    """Nesterov: `g <- g + l2 * w; v <- momentum * v + g; w <- w - lr * (g + momentum * v)`.

    Args:
        learning_rate: Learning rate, or its schedule.
        momentum: Momentum.
        l2: Weight of the L2 term; it acts on every variable.
    """

    def __init__(self, learning_rate: LearningRate = 0.1, momentum: float = 0.9, l2: float = 5e-4):
        super().__init__(learning_rate=learning_rate, name="sgd")
        self.momentum = momentum
        self.l2 = l2

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the velocities."""
        if not self.built:
            super().build(variables)
            self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Applies one gradient."""
        velocity = self.velocities[self._get_variable_index(variable)]
        # One pass of the device over gradient, variable and velocity.
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=velocity.value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype) + self.l2 * variable,
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=True,
        )


class Adam(keras.optimizers.Optimizer):
    """Adam with the L2 term in the gradient: `w <- w - lr * m_hat / (sqrt(v_hat) + epsilon)`.

    Args:
        learning_rate: Learning rate, or its schedule.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        l2: Weight of the L2 term.
        epsilon: Added to the root of the second moment.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        beta_1: float = 0.5,
        beta_2: float = 0.999,
        l2: float = 1e-3,
        epsilon: float = 1e-8,
    ):
        super().__init__(learning_rate=learning_rate, name="adam")
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.l2 = l2
        self.epsilon = epsilon

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the moments."""
        if not self.built:
            super().build(variables)
            self.first = self.add_optimizer_variables(variables, "first_moment")
            self.second = self.add_optimizer_variables(variables, "second_moment")

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Applies one gradient."""
        index = self._get_variable_index(variable)
        first, second = self.first[index], self.second[index]
        gradient = tf.cast(gradient, variable.dtype) + self.l2 * variable
        m = self.beta_1 * first + (1 - self.beta_1) * gradient
        v = self.beta_2 * second + (1 - self.beta_2) * tf.square(gradient)
        self.assign(first, m)
        self.assign(second, v)
        step = tf.cast(self.iterations + 1, variable.dtype)
        m_hat = m / (1 - self.beta_1**step)
        v_hat = v / (1 - self.beta_2**step)
        rate = tf.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, rate * m_hat / (tf.sqrt(v_hat) + self.epsilon))
