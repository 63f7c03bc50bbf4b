"""The expected cost of a space as terms, on arrays and tensors alike (docs/method.md 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tas_tf.errors import SpecError
from tas_tf.spaces.cost import CostKind, cost, kind_of
from tas_tf.spaces.expected_cost import SHARPNESS, CostModel
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.space_terms import choices_of, moments_of_space, sum_of
from tas_tf.spaces.terms import Stack


class ExpectedTerms:
    """The expected cost of a model that was read; widths and branches are drawn independently.

    Args:
        space: The search space.
        kind: The kind of cost, or the name of one of `cost.KINDS`.
    """

    def __init__(self, space: ModelSpace, kind: str | CostKind = "macs"):
        self.space, self.kind = space, kind_of(kind)
        terms = sum_of(space, self.kind, choices_of(space))
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


class ExpectedPeak:
    """A bound of the expected peak memory of a model that was read (docs/method.md 12).

    Args:
        space: The search space.
        kind: The kind of cost, or its name.
    """

    def __init__(self, space: ModelSpace, kind: str | CostKind = "memory"):
        self.space, self.kind = space, kind_of(kind)
        self._scale = SHARPNESS / cost(space.unpruned(), self.kind)
        moments = moments_of_space(space)
        names = list(space.depth_names)
        self._constants = np.array([[float(m.size.constant)] for m in moments])
        self._branches = np.zeros((len(moments), len(names) + 1))
        for row, moment in zip(self._branches, moments, strict=True):
            row[names.index(moment.branch) if moment.branch else -1] = 1
        self._sizes = {
            c: np.outer([m.size.multiples.get(choice.name, 0) for m in moments], choice.candidates)
            for c, choice in enumerate(space.choices)
            if any(choice.name in moment.size.multiples for moment in moments)
        }

    def expected(
        self,
        width_probabilities: Any,
        depth_probabilities: Any,
        log: Callable[[Any], Any] = np.log,
        total: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Returns the log-sum-exp bound of the peak; with a maximum as `total` the exact peak.

        Args:
            width_probabilities: (choices, max candidates) float64, zeros where absent; one-hot for
                the exact peak.
            depth_probabilities: (branches, 2) float64, of being left out and of being there.
            log: Logarithm of that kind of array.
            total: A maximum, for the exact peak.
        """
        first, always = self._branches[:, :-1], self._branches[:, -1:]
        count = first.shape[1]
        built = always + first @ depth_probabilities[:count, -1:] if count else always
        result = self._constants if total else np.exp(self._scale * self._constants)
        for c, sizes in self._sizes.items():
            probabilities = width_probabilities[c][: sizes.shape[1]][:, None]
            if total:
                result = result + sizes @ probabilities
            else:
                result = result * (np.exp(self._scale * sizes) @ probabilities)
        if total:
            return total(result * built)
        return log((np.ones((1, len(built))) @ (result * built))[0, 0]) / self._scale


Expected = CostModel | ExpectedTerms | ExpectedPeak


def cost_model(
    space: SearchSpace | ModelSpace, kind: str | CostKind, formula: str = "built"
) -> Expected:
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
    return ExpectedPeak(space, kind) if kind_of(kind).peak else ExpectedTerms(space, kind)


def _selectors(stack: Stack, widths: int, depths: int) -> list[list[np.ndarray]]:
    """Returns for every axis of the tables (terms, widths) and (terms, depths): what it is of."""
    whole = np.eye(widths + depths)
    return [np.split(whole[column], [widths], axis=1) for column in stack.scopes.T]
