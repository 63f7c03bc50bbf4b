"""PathSearch: the search by measurement (docs/method.md 13).

Single paths of the supernet are trained; then the losses of some paths are measured, a separable
model is fitted to them, and the derivation finds the best sum within the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tas_tf.errors import SpecError
from tas_tf.layers import sampling
from tas_tf.models.interpreter import ModelSupernet
from tas_tf.models.supernet import Supernet
from tas_tf.spaces import cost, derivation
from tas_tf.training import losses
from tas_tf.training.loop import Batch
from tas_tf.training.search_loop import Search
from tas_tf.training.supervised import check_fits


class PathSearch(Search):
    """The training of single paths, each drawn uniformly from the whole space.

    One step draws one candidate of every choice and one depth of every stage, and moves the weights
    on a batch of the weight half: by the teacher's outputs where there is a teacher, else by the
    labels.

    Args:
        net: The supernet, of either kind of space.
        teacher: The trained unpruned network, or None.
        seed: Seed of the paths; a path is a function of (seed, step).

    Raises:
        ArchitectureError: If the teacher's input or classes are others.
        SpecError: If a model has several outputs.
    """

    def __init__(
        self, net: Supernet | ModelSupernet, teacher: keras.Model | None = None, seed: int = 0
    ):
        super().__init__(net, seed)
        if isinstance(net, ModelSupernet) and net.space.graph.output_shapes[1:]:
            raise SpecError(
                f"{net.space.graph.name}: a search by measurement expects a model of one output. "
                f"Received: {len(net.space.graph.output_shapes)} outputs"
            )
        if teacher is not None:
            space = net.space
            check_fits(teacher, space.input_shape, space.num_classes, "teacher")
            teacher.trainable = False
        self.teacher = teacher

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        budgets: Sequence[cost.Budget],
        learning_rate: Callable[[int], float] | None = None,
    ) -> None:
        """Sets what varies between searches.

        Args:
            optimizer: Moves the weights.
            budgets: The budgets, as `cost.parse_targets` returns them.
            learning_rate: Learning rate by step; None leaves it to the optimizer.

        Raises:
            BudgetError: If no architecture of the space can meet a budget.
        """
        self.budgets = budgets
        derivation.check_reachable(self.supernet.space, budgets)
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        optimizer.build(self.supernet.weight_variables)

    def train_step(self, batch: Batch, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step of the weights."""
        draw = self.supernet.uniform_path(sampling.step_seed(self.seed, step, 0))
        return self.move_weights(batch, draw, self._losses, "the training of paths")

    def _losses(self, images: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if self.teacher is None:
            return losses.cross_entropy(labels, logits)
        with tf.name_scope("teacher"):
            taught = tf.stop_gradient(self.teacher(images, training=False))
        return losses.distillation(labels, logits, taught, alpha=1.0, temperature=1.0)

    def readings(self) -> dict[str, float]:
        """Returns the learning rate."""
        return {"learning_rate": float(self.optimizer.learning_rate.numpy())}
