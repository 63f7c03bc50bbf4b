"""All architectures of a small space, one by one: what a derivation is held against."""

import numpy as np
import pytest
import spaces

from tas_tf.spaces import budget_solver, derivation
from tas_tf.spaces.cost import cost
from tas_tf.spaces.derivation import derive
from tas_tf.spaces.search_space import SearchSpace


def derive_by_levels(*arguments, **options) -> derivation.Derivation:
    """Derives as from a space with too many costs for a table of all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget_solver, "MOST_COSTS", 0)
        return derive(*arguments, **options)


class Oracle:
    """Costs and log-probabilities of all architectures of a space."""

    def __init__(self, space: SearchSpace, logits, kinds=("macs",)):
        probabilities = spaces.probabilities(space, logits)
        self.costs, self.log_probabilities = [], []
        for widths, depths in spaces.all_indices(space):
            network = space.architecture(widths, depths)
            self.costs.append([cost(network, kind) for kind in kinds])
            probability = spaces.probability(widths, depths, probabilities)
            self.log_probabilities.append(np.log(probability))
        self.costs = np.array(self.costs)
        self.log_probabilities = np.array(self.log_probabilities)

    def best(self, budgets) -> float | None:
        """The best log-probability in all bands, None if nothing lies there."""
        inside = np.array(
            [all(b.contains(c) for b, c in zip(budgets, row, strict=True)) for row in self.costs]
        )
        return self.log_probabilities[inside].max() if inside.any() else None

    def nearest_below(self, budgets) -> tuple[int, float] | None:
        """The largest first cost within all budgets, and its best log-probability."""
        below = (self.costs <= [budget.amount for budget in budgets]).all(axis=1)
        if not below.any():
            return None
        nearest = self.costs[below, 0].max()
        return nearest, self.log_probabilities[below & (self.costs[:, 0] == nearest)].max()
