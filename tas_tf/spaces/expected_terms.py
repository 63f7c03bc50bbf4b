"""The expected cost of a space as terms, on arrays and tensors alike (docs/method.md 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tas_tf.errors import SpecError
from tas_tf.spaces.cost import CostKind, kind_of
from tas_tf.spaces.expected_cost import CostModel
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.space_terms import choices_of, products_of
from tas_tf.spaces.terms import Stack


class ExpectedTerms:
    """The expected cost of a model that was read; widths and branches are drawn independently.

    Args:
        space: The search space.
        kind: The kind of cost, or the name of one of `cost.KINDS`.
    """

    def __init__(self, space: ModelSpace, kind: str | CostKind = "macs"):
        self.space, self.kind = space, kind_of(kind)
        terms = products_of(space, self.kind.name, choices_of(space))
        self._constant = float(terms.constant)
        sizes = len(space.choices), len(space.depths)
        self._parts = [(stack.tables, _selectors(stack, *sizes)) for stack in terms.stacks]
        self._most = max(terms.sizes)

    def expected(
        self,
        width_probabilities: Any,
        depth_probabilities: Any,
        log: Callable[[Any], Any] = np.log,
        total: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Returns `c + sum_f sum_x T_f[x] prod_(i in f) p_i[x_i]`, by linearity and independence.

        Args:
            width_probabilities: (choices, max candidates) float64, zeros where absent.
            depth_probabilities: (branches, 2) float64, of being left out and of being there.
            log: Not needed for a sum.
            total: Likewise.
        """
        del log, total
        result = self._constant
        widths, depths = (
            table @ np.eye(table.shape[1], self._most)
            for table in (width_probabilities, depth_probabilities)
        )
        for tables, selectors in self._parts:
            values = tables
            for axis in reversed(range(len(selectors))):
                of_widths, of_depths = selectors[axis]
                rows = of_widths @ widths + of_depths @ depths  # (terms, candidates)
                rows = rows[(slice(None), *[None] * (axis - 1), slice(None), None)]
                values = (values[:, None] @ rows if axis == 0 else values @ rows)[..., 0]
            ones = np.ones((1, len(tables)))
            result = result + (ones @ values)[0, 0]
        return result


def cost_model(
    space: SearchSpace | ModelSpace, kind: str | CostKind, formula: str = "built"
) -> CostModel | ExpectedTerms:
    """Returns the expected cost of a space.

    Args:
        space: The search space.
        kind: The kind of cost, or the name of one of `cost.KINDS`.
        formula: One of `expected_cost.FORMULAS`; of a model that was read, `built`.

    Raises:
        SpecError: If a model that was read shall have a published formula.
    """
    if isinstance(space, SearchSpace):
        return CostModel(space, kind, formula)
    if formula != "built":
        raise SpecError("the published formulas are of ResNets", field="cost_formula")
    return ExpectedTerms(space, kind)


def _selectors(stack: Stack, widths: int, depths: int) -> list[list[np.ndarray]]:
    """Returns for every axis of the tables (terms, widths) and (terms, depths): what it is of."""
    whole = np.eye(widths + depths)
    return [np.split(whole[column], [widths], axis=1) for column in stack.scopes.T]
