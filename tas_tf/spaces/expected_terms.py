"""The expected cost of a space as terms, on arrays and tensors alike (docs/method.md 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tas_tf.errors import SpecError
from tas_tf.spaces.branches import Condition
from tas_tf.spaces.channels import Form
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
        self._branches = np.zeros((len(moments), len(names) + 1))
        for row, moment in zip(self._branches, moments, strict=True):
            row[names.index(moment.branch) if moment.branch else -1] = 1
        self._always = _sizes(space, [m.size for m in moments])
        conditions = dict.fromkeys(key for moment in moments for key in moment.sometimes)
        self._sometimes = [
            (
                _gate(space, key),
                *_sizes(space, [m.sometimes.get(key, Form(0, {})) for m in moments]),
            )
            for key in conditions
        ]
        self._most = _sizes(space, [Form.sum_of([m.size, *m.sometimes.values()]) for m in moments])

    def expected(
        self,
        width_probabilities: Any,
        depth_probabilities: Any,
        log: Callable[[Any], Any] = np.log,
        total: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Returns the log-sum-exp bound of the peak; with a maximum as `total` the exact peak.

        To the bound what is alive under conditions is always alive.

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
        constants, sizes_of = self._most
        columns = {
            c: width_probabilities[c][: sizes.shape[1]][:, None] for c, sizes in sizes_of.items()
        }
        if total:
            return total(built * self._peaks(columns, depth_probabilities))
        result = np.exp(self._scale * constants)
        for c, sizes in sizes_of.items():
            result = result * (np.exp(self._scale * sizes) @ columns[c])
        return log((np.ones((1, len(built))) @ (result * built))[0, 0]) / self._scale

    def _peaks(self, columns: Mapping[int, Any], depth_probabilities: Any) -> Any:
        """Returns the bytes (moments, 1) of one network."""
        result = 0.0
        parts: list[tuple[Any, np.ndarray, Mapping[int, np.ndarray]]] = [(1.0, *self._always)]
        for gate, *sometimes in self._sometimes:
            parts.append((gate(columns, depth_probabilities), *sometimes))
        for share, constants, of_choices in parts:
            result = result + share * constants
            for c, sizes in of_choices.items():
                result = result + share * (sizes @ columns[c])
        return result


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


def _sizes(space: ModelSpace, forms: Sequence[Form]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Returns constants (n, 1) of forms, and for choices that count their parts (n, candidates)."""
    of_choices = {
        c: np.outer([form.multiples.get(choice.name, 0) for form in forms], choice.candidates)
        for c, choice in enumerate(space.choices)
        if any(choice.name in form.multiples for form in forms)
    }
    return np.array([[float(form.constant)] for form in forms]), of_choices


def _gate(space: ModelSpace, condition: Condition) -> Callable[[Mapping[int, Any], Any], Any]:
    """Returns what tells of one network, as probabilities, whether a condition holds."""
    if isinstance(condition, str):
        branch = space.depth_names.index(condition)
        return lambda columns, depths: depths[branch, 1]
    names = [choice.name for choice in space.choices]
    a, b = (names.index(name) for name in condition)
    agree = np.equal.outer(space.choices[a].candidates, space.choices[b].candidates).astype(float)

    def differ(columns: Mapping[int, Any], depths: Any) -> Any:
        del depths
        ones = np.ones((1, len(agree)))
        return 1 - (ones @ (columns[a] * (agree @ columns[b])))[0, 0]

    return differ


def _selectors(stack: Stack, widths: int, depths: int) -> list[list[np.ndarray]]:
    """Returns for every axis of the tables (terms, widths) and (terms, depths): what it is of."""
    whole = np.eye(widths + depths)
    return [np.split(whole[column], [widths], axis=1) for column in stack.scopes.T]
