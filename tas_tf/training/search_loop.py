"""Search: what every way to search has in common, see `ArchitectureSearch` and `PathSearch`."""

from __future__ import annotations

from typing import Any

from tas_tf.models.supernet import Supernet
from tas_tf.training.loop import Loop


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

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds."""
        return {
            **super().state(),
            # One list: tf.train.Checkpoint does not find layers in the lists of a layer.
            "supernet": self.supernet.variables,
            "optimizer": self.optimizer,
        }
