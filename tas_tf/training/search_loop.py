"""Search: what every way to search has in common, see `ArchitectureSearch` and `PathSearch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tas_tf.layers.sampling import Draw
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.supernet import Supernet
from tas_tf.training.loop import Batch, Loop, batch_share, correct, faults_after, gradients_of


class Search(Loop):
    """A search of a supernet; a subclass gives what a loop needs.

    Args:
        net: The supernet.
        seed: Seed of the draws; a draw is a function of (seed, step).
    """

    def __init__(self, net: Supernet, seed: int = 0):
        super().__init__()
        self.supernet = net
        self.seed = seed

    def move_weights(
        self,
        batch: Batch,
        draw: Draw,
        losses: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
        half: str,
    ) -> dict[str, tf.Tensor]:
        """Moves the weights by the gradient of a drawn part of the supernet.

        Args:
            batch: Images (batch, height, width, channels) and labels (batch,) of this replica.
            draw: What is drawn.
            losses: From images, labels and logits (batch, classes) to losses (batch,).
            half: What errors call this part of a step.

        Returns:
            Shares of loss and accuracy, and whether all was finite, as `train_step` returns them.
        """
        images, labels = batch
        variables = self.supernet.weight_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            logits = self.supernet(images, draw, mode=Mode.WEIGHTS)
            share = batch_share(logits)
            loss = tf.reduce_sum(losses(images, labels, logits)) * share
        self.optimizer.apply(gradients_of(tape, loss, variables), variables)
        faults = faults_after(loss, variables, half)
        return {"loss": loss, "accuracy": correct(labels, logits) * share, **faults}

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds."""
        return {
            **super().state(),
            # One list: tf.train.Checkpoint does not find layers in the lists of a layer.
            "supernet": self.supernet.variables,
            "optimizer": self.optimizer,
        }
