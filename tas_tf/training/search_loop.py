"""Search: what every way to search has in common, see `ArchitectureSearch` and `PathSearch`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tas_tf.layers.sampling import Draw
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.interpreter import ModelSupernet
from tas_tf.models.supernet import Supernet
from tas_tf.training.loop import Loop, batch_share, faults_after, gradients_of
from tas_tf.training.objective import CLASSIFICATION


class Search(Loop):
    """A search of a supernet; a subclass gives what a loop needs.

    Args:
        net: The supernet.
        seed: Seed of the draws; a draw is a function of (seed, step).
    """

    def __init__(self, net: Supernet | ModelSupernet, seed: int = 0):
        super().__init__()
        self.supernet: Any = net
        self.seed = seed
        self.objective = CLASSIFICATION

    def move_weights(
        self,
        batch: Sequence[tf.Tensor],
        draw: Draw,
        losses: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor] | None,
        half: str,
    ) -> dict[str, tf.Tensor]:
        """Moves the weights by the gradient of a drawn part of the supernet.

        Args:
            batch: Images (batch, height, width, channels) and labels (batch,) of this replica, and
                weights (batch,) where examples have such.
            draw: What is drawn.
            losses: From images, labels and logits (batch, classes) to losses (batch,), in place of
                those of the objective.
            half: What errors call this part of a step.

        Returns:
            Shares of loss and accuracy, and whether all was finite, as `train_step` returns them.
        """
        images, labels, *of_examples = batch
        variables = self.supernet.weight_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            logits = self.supernet(images, draw, mode=Mode.WEIGHTS)
            share = batch_share(logits)
            if losses is None:
                loss = self.objective.sum_of_losses(labels, logits, of_examples) * share
            else:
                loss = tf.reduce_sum(losses(images, labels, logits)) * share
        self.optimizer.apply(gradients_of(tape, loss, variables), variables)
        faults = faults_after(loss, variables, half)
        return {"loss": loss, **self.objective.shown(labels, logits, share), **faults}

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds."""
        return {
            **super().state(),
            # One list: tf.train.Checkpoint does not find layers in the lists of a layer.
            "supernet": self.supernet.variables,
            "optimizer": self.optimizer,
        }
