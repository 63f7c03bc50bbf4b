"""The draw of a random network within a budget's band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tas_tf.baselines.values import Values, of_rows
from tas_tf.spaces.cost import Budget, cost
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace

# Networks that are drawn before random values take their place: a second or two.
DRAWS = 1_000


def draw(
    space: SearchSpace | ModelSpace, budgets: Sequence[Budget], seed: int
) -> tuple[Values, str]:
    """Values of a random network of the space.

    Every width and every depth is drawn uniformly and independently until a network lies in all
    bands: such networks are distributed as the space's own are, given the band. Where that
    takes too many draws, every candidate gets a value from N(0, 1), and the derivation finds the
    network: that is not uniform.

    Args:
        space: The search space.
        budgets: The budgets.
        seed: Seed; the same seed gives the same network.

    Returns:
        The values, and how the network was drawn.
    """
    random = np.random.default_rng(seed)
    sizes = [[len(c.candidates) for c in space.choices], [len(d) for d in space.depths]]
    for number in range(1, DRAWS + 1):
        widths, depths = ([int(k) for k in random.integers(row)] for row in sizes)
        architecture = space.architecture(widths, depths)
        if all(budget.contains(cost(architecture, budget.kind)) for budget in budgets):
            # Only this network has the sum 0: others lose by every candidate that differs.
            rows = [
                [np.eye(n)[k] - 1 for n, k in zip(several, indices, strict=True)]
                for several, indices in zip(sizes, (widths, depths), strict=True)
            ]
            return of_rows(*rows), f"uniformly, draw {number:,} is the first in the band"
    rows = [[random.normal(size=n) for n in row] for row in sizes]
    return of_rows(*rows), f"by random values, as {DRAWS:,} uniform draws were not in the band"
