"""L0 regularization: hard-concrete gates on channels, trained with the weights to a budget.

Louizos, Welling and Kingma, "Learning Sparse Neural Networks through L0 Regularization", ICLR 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.baselines.gated import copy_by_name, gated_network, open_gates, unit_gates
from tas_tf.baselines.values import Values, near, of_rows, rather_whole, shares
from tas_tf.models.inheritance import order_channels
from tas_tf.spaces import cost, derivation
from tas_tf.spaces.cost import Budget
from tas_tf.spaces.expected_cost import CostModel, max_candidates
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import losses
from tas_tf.training.loop import (
    Batch,
    Loop,
    batch_share,
    correct,
    faults_after,
    gradients_of,
    values_of,
)

# The paper's: a concrete variable of this temperature is stretched to (LOW, HIGH), then clamped.
LOW, HIGH, TEMPERATURE = -0.1, 1.1, 2 / 3
# Where log alpha starts: a gate is then open with probability 0.97.
_START = 2.0


def sampled_gates(log_alpha: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Returns hard-concrete gates in [0, 1] (equations 10 and 11 of the paper).

    `s = sigmoid((log u - log(1 - u) + log alpha) / beta)`, `z = clamp(s (zeta - gamma) + gamma)`
    with beta = `TEMPERATURE`, gamma = `LOW`, zeta = `HIGH`.

    Args:
        log_alpha: (gates,).
        uniform: (gates,), drawn from (0, 1).
    """
    logistic = tf.math.log(uniform) - tf.math.log1p(-uniform)
    concrete = tf.sigmoid((logistic + log_alpha) / TEMPERATURE)
    return tf.clip_by_value(concrete * (HIGH - LOW) + LOW, 0.0, 1.0)


def open_probability(log_alpha: tf.Tensor) -> tf.Tensor:
    """Returns the probability that a gate is not zero; its sum is the expected L0 (equation 12).

    `P(z > 0) = sigmoid(log alpha - beta log(-gamma / zeta))`.

    Args:
        log_alpha: (gates,).
    """
    return tf.sigmoid(log_alpha - TEMPERATURE * math.log(-LOW / HIGH))


class L0Training(Loop):
    """Training of a network's weights and of gates on its channels, to a budget.

    The expected number of open gates is the expected width. Between two candidates it stands for a
    mixture of them, whose expected cost is that of the search (docs/method.md 5), and the penalty
    is the search's cost loss (docs/method.md 6): in place of the paper's constant weight for each
    gate, it meets a budget of any kind. Widths with one candidate have no gates. Depths have none.

    Args:
        network: The trained unpruned network, as `spec_compiler.build_model` makes it.
        space: The search space.
        seed: Seed of the gates; a sample is a function of (seed, step).
    """

    title = "gates"

    def __init__(self, network: keras.Model, space: SearchSpace, seed: int = 0):
        super().__init__()
        self.space = space
        self.seed = seed
        self.model = gated_network(network, space)
        self._open = open_gates(self.model)
        self._gates = {
            gate: int(self._open[gate].shape[0])
            for gate, choice in zip(unit_gates(space).values(), space.unit_choices, strict=True)
            if len(space.choices[choice].candidates) > 1
        }
        size = sum(self._gates.values())
        self.log_alpha = keras.Variable(np.full(size, _START, np.float32), name="log_alpha")

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        gate_optimizer: keras.optimizers.Optimizer,
        budgets: Sequence[Budget],
        cost_weight: float = 2.0,
        learning_rate: Callable[[int], float] | None = None,
    ) -> None:
        """Sets what varies between trainings.

        Args:
            optimizer: Moves the weights.
            gate_optimizer: Moves log alpha.
            budgets: The budgets.
            cost_weight: Weight of the cost loss.
            learning_rate: Learning rate of the weights by step.
        """
        self.optimizer, self.gate_optimizer = optimizer, gate_optimizer
        self.budgets = budgets
        self.cost_weight = cost_weight
        self.learning_rate = learning_rate
        self._cost_models = [CostModel(self.space, budget.kind) for budget in budgets]
        optimizer.build(self.model.trainable_variables)
        gate_optimizer.build([self.log_alpha])

    def train_step(self, batch: Batch, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step of weights and gates; returns shares of loss, accuracy and cost loss."""
        images, labels = batch
        weights = self.model.trainable_variables
        moved = [*weights, self.log_alpha]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values_of(moved))
            logits = self.model([images, self._sample(step)], training=True)
            share = batch_share(logits)
            loss = tf.reduce_sum(losses.cross_entropy(labels, logits)) * share
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            cost_term = tf.cast(self._cost_term() / replicas, loss.dtype)
            total = loss + self.cost_weight * cost_term
        *of_weights, of_gates = gradients_of(tape, total, moved)
        self.optimizer.apply(of_weights, weights)
        self.gate_optimizer.apply([of_gates], [self.log_alpha])
        faults = faults_after(total, moved, self.title)
        accuracy = correct(labels, logits) * share
        return {"loss": loss, "accuracy": accuracy, "cost_loss": cost_term, **faults}

    def _sample(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns sampled gates (channels,) by name; those of no width are open."""
        seed = tf.stack([tf.constant(self.seed, tf.int64), step])
        smallest = np.finfo(np.float32).eps
        uniform = tf.random.stateless_uniform(
            self.log_alpha.shape, seed, smallest, 1 - smallest, alg="philox"
        )
        return {**self._open, **self._split(sampled_gates(self.log_alpha.value, uniform))}

    def _split(self, values: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(self._gates, tf.split(values, [*self._gates.values()]), strict=True))

    def _expected_widths(self) -> list[tf.Tensor]:
        """Returns for every choice the expected number of open gates, a mean where it is shared."""
        probability = self._split(open_probability(self.log_alpha.value))
        expected: list[list[tf.Tensor]] = [[] for _ in self.space.choices]
        units = unit_gates(self.space).values()
        for gate, choice in zip(units, self.space.unit_choices, strict=True):
            counts = probability.get(gate, self._open[gate])
            expected[choice].append(tf.reduce_sum(tf.cast(counts, tf.float64)))
        return [tf.reduce_mean(tf.stack(counts)) for counts in expected]

    def _cost_term(self) -> tf.Tensor:
        """Returns the sum of `L_cost` over the budgets, in float64."""
        expected = [model.expected(*self._mixtures(), tf.math.log) for model in self._cost_models]
        pairs = zip(expected, self.budgets, strict=True)
        return tf.add_n([losses.cost_loss(value, value, budget) for value, budget in pairs])

    def _mixtures(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns probabilities of widths (choices, n) and of depths (stages, m), all whole."""
        longest = max_candidates(self.space)
        rows = [
            tf.pad(mixture(choice.candidates, width), [[0, longest - len(choice.candidates)]])
            for choice, width in zip(self.space.choices, self._expected_widths(), strict=True)
        ]
        last = [len(depths) - 1 for depths in self.space.depths]
        return tf.stack(rows), tf.one_hot(last, max(last) + 1, dtype=tf.float64)

    def values(self) -> Values:
        """Values that fall with the distance of a width from the expected number of open gates.

        Depths stay whole unless widths alone cannot meet the budget.
        """
        candidates = [choice.candidates for choice in self.space.choices]
        points = [
            float(width) / row[-1]
            for width, row in zip(self._expected_widths(), candidates, strict=True)
        ]
        return of_rows(near(shares(candidates), points), rather_whole(shares(self.space.depths)))

    def told(self) -> str:
        """Returns where the gates have ended beside the budgets."""
        readings = self.readings()
        names = [budget.kind.name for budget in self.budgets]
        return "the gates ended at an expected " + " and ".join(
            f"{readings[f'expected_{name}_ratio']:.1%} of the {cost.name_of(name)}"
            for name in names
        )

    def give_weights(self, network: keras.Model) -> None:
        """Gives a network the trained weights, channels that are most often open first."""
        copy_by_name(self.model, network)
        probability = self._split(open_probability(self.log_alpha.value))
        importance = {
            layer: probability[gate].numpy()
            for layer, gate in unit_gates(self.space).items()
            if gate in probability
        }
        order_channels(network, self.space.unpruned(), importance)

    def readings(self) -> dict[str, float]:
        """Returns costs against the budget, and the learning rate."""
        logs = {"learning_rate": float(self.optimizer.learning_rate.numpy())}
        widths, depths = (table.numpy() for table in self._mixtures())
        nearest = derivation.argmax(self.space, *self.values())
        for model, budget in zip(self._cost_models, self.budgets, strict=True):
            name = budget.kind.name
            logs[f"expected_{name}_ratio"] = model.expected(widths, depths) / budget.unpruned
            logs[f"argmax_{name}_ratio"] = cost.cost(nearest, budget.kind) / budget.unpruned
        return logs

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds."""
        return {
            **super().state(),
            "model": self.model,
            "log_alpha": [self.log_alpha],
            "optimizer": self.optimizer,
            "gate_optimizer": self.gate_optimizer,
        }


def mixture(candidates: Sequence[int], width: tf.Tensor) -> tf.Tensor:
    """Returns the probabilities of candidates (n,) whose mean is a width: of its two neighbours.

    Args:
        candidates: Candidate widths, ascending.
        width: A scalar, float64; beyond the candidates it counts as the nearest.
    """
    steps = np.array(candidates, np.float64)
    # How much of each step from a candidate to the next lies below the width.
    below = tf.clip_by_value((width - steps[:-1]) / np.diff(steps), 0.0, 1.0)
    one, zero = tf.ones(1, tf.float64), tf.zeros(1, tf.float64)
    return tf.concat([one, below], 0) - tf.concat([below, zero], 0)
