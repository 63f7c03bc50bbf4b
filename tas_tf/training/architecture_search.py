"""ArchitectureSearch: the step that alternates weights and architecture (docs/method.md 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.data.batches import Feed
from tas_tf.data.given import feed_of
from tas_tf.errors import DataError, SpecError
from tas_tf.layers import sampling
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models import candidates
from tas_tf.models.interpreter import ModelSupernet
from tas_tf.models.supernet import Supernet
from tas_tf.runtime.checkpoints import Checkpoints
from tas_tf.spaces import cost, derivation
from tas_tf.spaces.derivation import Derivation
from tas_tf.spaces.expected_terms import Expected, cost_model
from tas_tf.spaces.latency_table import LatencyTable, kinds
from tas_tf.training import losses
from tas_tf.training.loop import (
    Batch,
    batch_share,
    fault,
    faults_after,
    gradients_of,
)
from tas_tf.training.objective import items_of, objective_of
from tas_tf.training.schedules import cosine_temperature
from tas_tf.training.search_loop import Search

# Formulas of the expected cost E and of the cost F of the argmax architecture, and the band for F:
# what is really built and the paper's band, or those of the published code.
COST_FORMULAS = {
    "built": ("built", "built", "paper"),
    "published": ("published_expected", "published_estimate", "published"),
}

# Above this relative entropy a search has hardly told its candidates apart.
UNDECIDED = 0.9

WEIGHTS_HALF = "the half of the weights"
ARCHITECTURE_HALF = "the half of the architecture"


class ArchitectureSearch(Search):
    """The search by gradients.

    One step: draw, and move the weights on a batch of the weight half; draw again, and move the
    logits on a batch of the architecture half, by cross-entropy `+ lambda * L_cost`.

    Args:
        net: The supernet.
        seed: Seed of the draws; a draw is a function of (seed, step).
    """

    def __init__(self, net: Supernet | ModelSupernet, seed: int = 0):
        super().__init__(net, seed)
        self.temperature = tf.Variable(1.0, trainable=False, name="temperature")

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        arch_optimizer: keras.optimizers.Optimizer,
        target: cost.Target | Sequence[cost.Target] = 0.5,
        temperature: Callable[[int, int], float] | None = None,
        cost_weight: float = 2.0,
        tolerance: float = 0.05,
        weight_warmup_epochs: int = 0,
        learning_rate: Callable[[int], float] | None = None,
        cost_formula: str = "built",
        latency: LatencyTable | None = None,
        loss: Any = None,
        metrics: Sequence[Any] = (),
    ) -> None:
        """Sets what varies between searches.

        Args:
            optimizer: Moves the weights.
            arch_optimizer: Moves the logits.
            target: Budget or budgets, see `cost.parse_targets`; or what that returned.
            temperature: Function of (epoch, epochs); by default `cosine_temperature()`.
            cost_weight: Weight lambda of the cost loss.
            tolerance: Relative width t of the budget's band.
            weight_warmup_epochs: Epochs in which only the weights move.
            learning_rate: Learning rate of the weights by step; None leaves it to the optimizer.
            cost_formula: `built` (what is really built, and the paper's band), or `published`: the
                published code's formulas and band, of MACs only, for comparison (docs/method.md 5).
            latency: The table of a budget of latency.
            loss: Loss of the model's own outputs, see `objective_of`; None: that of logits.
            metrics: What else is shown, see `objective_of`.

        Raises:
            BudgetError: If no architecture of the space can meet the target.
        """
        if cost_formula not in COST_FORMULAS:
            raise SpecError(
                f"cost_formula: expected one of {list(COST_FORMULAS)}. Received: {cost_formula!r}"
            )
        self._aim_at(loss, metrics)
        space = self.supernet.space
        self.budgets = cost.parse_targets(target, space, tolerance, kinds(latency))
        derivation.check_reachable(space, self.budgets)
        if cost_formula == "published" and any(b.kind.name != "macs" for b in self.budgets):
            raise SpecError(
                "the published formulas are of MACs; so must `target` be", field="cost_formula"
            )
        *formulas, self.cost_band = COST_FORMULAS[cost_formula]
        self._expected_models, self._current_models = (
            [cost_model(space, budget.kind, formula) for budget in self.budgets]
            for formula in formulas
        )
        self.temperature_schedule = temperature or cosine_temperature()
        self.cost_weight = cost_weight
        self.weight_warmup_epochs = weight_warmup_epochs
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.arch_optimizer = arch_optimizer
        optimizer.build(self.supernet.weight_variables)
        arch_optimizer.build(self.supernet.architecture_variables)

    def _aim_at(self, loss: Any, metrics: Sequence[Any]) -> None:
        """Sets what the network is trained for."""
        self.objective = objective_of(loss, metrics)
        if isinstance(self.supernet, ModelSupernet):
            _check_outputs(self.supernet.space.model.output, loss)
            self.supernet.gives_logits = loss is None

    # What is given as two halves is a feed of pairs to all others.
    def fit(  # type: ignore[override]
        self,
        weights: Any,
        architecture: Any = None,
        epochs: int = 1,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        checkpoints: Checkpoints | None = None,
        batch_size: int = 32,
    ) -> list[dict[str, float]]:
        """Searches until `epochs` epochs are done, see `Loop.fit`.

        Args:
            weights: What the weights are trained on, see `data.given.feed_of`. An epoch is its.
            architecture: What the logits are trained on, other examples of the same kind. None
                means that `weights` is a feed of pairs of batches, as `data.paired` makes them.
            epochs: Number of epochs in all.
            callbacks: Keras callbacks.
            checkpoints: Where checkpoints are saved.
            batch_size: Examples of a batch where arrays are given.

        Returns:
            The logs of every epoch.
        """
        feed = weights
        if architecture is not None:
            halves = [feed_of(half, batch_size, self.seed) for half in (weights, architecture)]
            feed = halves[0].zip(halves[1])
        elif not isinstance(feed, Feed):
            raise DataError("expected data of the architecture half beside that of the weights")
        return super().fit(feed, epochs, callbacks, checkpoints)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Sets the temperature, and whether the logits move."""
        self.temperature.assign(self.temperature_schedule(epoch, epochs))
        self.phase = "search" if epoch >= self.weight_warmup_epochs else "warmup"

    def train_step(self, batch: tuple[Batch, Batch], step: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step of the weights and one of the logits."""
        weight_batch, architecture_batch = batch
        with tf.name_scope("weights_half"):
            draw = self.supernet.draw(self.temperature, sampling.step_seed(self.seed, step, 0))
            logs = self.move_weights(weight_batch, draw, None, WEIGHTS_HALF)
        if self.phase == "search":
            with tf.name_scope("architecture_half"):
                more, before = self._architecture_step(*architecture_batch, step=step)
            logs |= more
            # Logits are finite before they move. A loss that is not then comes from the weights.
            for name, value in fault(WEIGHTS_HALF, before).items():
                logs[name] = tf.maximum(logs[name], value)
        return logs

    def _architecture_step(
        self, images: Any, labels: Any, *weights: tf.Tensor, step: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Returns what `train_step` does, and a scalar that is finite if all before the move is."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        variables = self.supernet.architecture_variables
        # Only the logits are watched: no gradient of a kernel is computed in this half.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            draw = self.supernet.draw(self.temperature, sampling.step_seed(self.seed, step, 1))
            logits = self.supernet(images, draw, mode=Mode.ARCHITECTURE)
            share = batch_share(logits)
            loss = self.objective.sum_of_losses(labels, logits, weights) * share
            # Every replica adds its part of the cost term: the parts add up to the term.
            cost_term = self._cost_term() / replicas
            total = loss + tf.cast(self.cost_weight * cost_term, loss.dtype)
        gradients = gradients_of(tape, total, variables)
        self.arch_optimizer.apply(gradients, variables)
        shown = self.objective.shown(labels, logits, share)
        logs = {
            "architecture_loss": loss,
            **{f"architecture_{name}": value for name, value in shown.items()},
            "cost_loss": cost_term,
            **faults_after(loss, variables, ARCHITECTURE_HALF),
        }
        return logs, tf.add_n([loss, *map(tf.reduce_sum, gradients)])

    def _cost_term(self) -> tf.Tensor:
        """Returns the sum of `L_cost` over the budgets, in float64 (docs/method.md 6)."""
        widths, depths = self.supernet.probabilities()
        most_probable = [
            tf.one_hot(tf.argmax(p, axis=1), p.shape[1], dtype=p.dtype) for p in (widths, depths)
        ]
        return tf.add_n(
            [
                losses.cost_loss(
                    model.expected(widths, depths, tf.math.log),
                    self._current(current, most_probable),
                    budget,
                    self.cost_band,
                )
                for model, current, budget in zip(
                    self._expected_models, self._current_models, self.budgets, strict=True
                )
            ]
        )

    def _current(self, model: Expected, one_hot: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the exact cost of the argmax architecture."""
        total = tf.reduce_max if model.kind.peak else None
        widths, depths = one_hot
        return model.expected(widths, depths, tf.math.log, total)

    def readings(self) -> dict[str, float]:
        """Returns costs against the budget, entropies, temperature and learning rate."""
        space = self.supernet.space
        widths, depths = (p.numpy() for p in self.supernet.probabilities())
        logs = {
            "temperature": float(self.temperature.numpy()),
            "learning_rate": float(self.optimizer.learning_rate.numpy()),
        }
        argmax = derivation.argmax(space, *self.logits())
        for model, budget in zip(self._expected_models, self.budgets, strict=True):
            expected = float(model.expected(widths, depths))
            name = budget.kind.name
            logs[f"expected_{name}_ratio"] = expected / budget.unpruned
            logs[f"argmax_{name}_ratio"] = cost.cost(argmax, budget.kind) / budget.unpruned
        logs |= self.entropies()
        return logs

    def entropies(self) -> dict[str, float]:
        """Returns the mean relative entropy of widths and of depths that are really searched."""
        space = self.supernet.space
        sizes = {
            "width_entropy": [len(choice.candidates) for choice in space.choices],
            "depth_entropy": [len(depths) for depths in space.depths],
        }
        logs = {}
        for (name, counts), p in zip(sizes.items(), self.supernet.probabilities(), strict=True):
            searched = np.array(counts) > 1
            if searched.any():
                rows = candidates.entropy(p.numpy(), counts)
                logs[name] = float(rows[searched].mean())
        return logs

    def shape(self) -> dict[str, list[int]]:
        """Returns the most probable width of every choice and depth of every stage."""
        space = self.supernet.space
        widths, depths = derivation.most_probable(space, *self.logits())
        return {
            "argmax_widths": [
                choice.candidates[index]
                for choice, index in zip(space.choices, widths, strict=True)
            ],
            "argmax_depths": [
                candidates[index] for candidates, index in zip(space.depths, depths, strict=True)
            ],
        }

    def distributions(self) -> dict[str, tuple[tuple[int, ...], np.ndarray]]:
        """Returns the probabilities of every unit's widths and every stage's depths."""
        space = self.supernet.space
        names = [f"widths/{choice.name}" for choice in space.choices]
        names += [f"depths/{name}" for name in space.depth_names]
        candidates = [*(choice.candidates for choice in space.choices), *space.depths]
        rows = [row for p in self.supernet.probabilities() for row in p.numpy()]
        return dict(zip(names, zip(candidates, rows, strict=True), strict=True))

    def logits(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the logits of widths (choices, n) and depths (stages, m)."""
        return tuple(variable.numpy() for variable in self.supernet.architecture_variables)

    def derive(self) -> Any:
        """Returns the most probable architecture within the budget."""
        return self.derivation().architecture

    def derivation(self) -> Derivation:
        """Returns it with its costs and probability, beside the plain argmax."""
        return derivation.derive(self.supernet.space, *self.logits(), self.budgets)

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds."""
        return {**super().state(), "arch_optimizer": self.arch_optimizer}


def _check_outputs(output: Any, loss: Any) -> None:
    """Checks that every output of a model has its loss."""
    several = isinstance(output, (list, tuple, dict)) and len(output) > 1
    expected = [key for key, _ in items_of(output)] if several else None
    received = {key for key, _ in items_of(loss)} if isinstance(loss, (list, tuple, dict)) else None
    if received != (expected and {*expected}):
        wanted = "one for the only output" if expected is None else f"one for each of {expected}"
        raise SpecError(f"loss: expected {wanted}. Received: {loss!r}")
