"""What an architecture costs: one formula, exact for an architecture and expected for a space.

A layer's cost is a function of its two widths (`LAYER_COSTS`). The exact cost of an architecture is
the sum over its layers, in integers. The expected cost over a space is, by linearity, a sum of
bilinear forms `w_e * p_in^T T_e p_out` over the places where a layer may stand, `T_e` the table of
that layer's costs at every pair of candidates: the exact expectation, since widths and depths are
drawn independently (METHOD 5).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tas_tf.architecture import Architecture
from tas_tf.blocks import Layer
from tas_tf.errors import BudgetError
from tas_tf.search_space import SearchSpace


def layer_macs(layer: Layer, in_channels: int, out_channels: int) -> int:
    """Multiply-accumulates of one layer: `k_h * k_w * C_in * C_out * H * W`, without bias."""
    height, width = layer.size
    return layer.kernel[0] * layer.kernel[1] * in_channels * out_channels * height * width


def layer_parameters(layer: Layer, in_channels: int, out_channels: int) -> int:
    """Trainable parameters of one layer: kernel, scale and offset, the classifier's bias."""
    kernel = layer.kernel[0] * layer.kernel[1] * in_channels * out_channels
    vectors = 2 * layer.normalized + (layer.kind == "classifier")
    return kernel + vectors * out_channels


LAYER_COSTS: dict[str, Callable[[Layer, int, int], int]] = {
    "macs": layer_macs,
    "parameters": layer_parameters,
}


def cost(architecture: Architecture, kind: str = "macs") -> int:
    """Returns the exact cost of the network that is built from an architecture.

    Args:
        architecture: The architecture.
        kind: `macs` or `parameters`.
    """
    return sum(LAYER_COSTS[kind](*placed) for placed in architecture.layers())


@dataclasses.dataclass(frozen=True)
class Edge:
    """A place where a layer may stand: between two width choices (None: fixed widths).

    Args:
        layer: The layer.
        source: Index of the choice of its input width, or None.
        target: Index of the choice of its output width, or None.
        table: Costs, (candidates of source, candidates of target).
        stage: Stage whose depth decides whether it is built; None if it always is.
        depths: Indices of that stage's depth candidates with which it is built.
    """

    layer: Layer
    source: int | None
    target: int | None
    table: np.ndarray
    stage: int | None
    depths: tuple[int, ...]


def edges(space: SearchSpace, kind: str) -> list[Edge]:
    """Returns every place where a layer may stand, with its table of costs."""
    return _EdgeWalk(space, LAYER_COSTS[kind]).run()


class _EdgeWalk:
    """The walk over a space: stem, blocks, classifier, each layer once for each possible input."""

    def __init__(self, space: SearchSpace, layer_cost: Callable[[Layer, int, int], int]):
        self.space = space
        self.layer_cost = layer_cost
        self.edges: list[Edge] = []

    def run(self) -> list[Edge]:
        space, outline = self.space, self.space.outline
        stem = space.unit_choices[0]
        self._add(outline.stem, None, stem, fixed_source=space.input_shape[2])
        # Where the stream comes from: choice of its width -> (stage, depths with which it is that).
        inputs = {stem: (None, ())}
        for s, stage in enumerate(outline.stages):
            for b, layers in enumerate(stage):
                choices = [space.unit_choices[unit] for unit in space.block_units[s][b]]
                if b == 0:
                    for source, built in inputs.items():
                        self._block_entry(layers, source, choices, built)
                    built = (None, ())
                else:
                    depths = space.depths[s]
                    built = (s, tuple(d for d, depth in enumerate(depths) if depth > b))
                    self._block_entry(layers, last, choices, built)
                for layer, source, target in zip(
                    layers.units[1:], choices[:-1], choices[1:], strict=True
                ):
                    self._add(layer, source, target, *built)
                last = choices[-1]
            inputs = self._stage_outputs(s)
        for source, built in inputs.items():
            self._add(outline.classifier, source, None, *built, fixed_target=space.num_classes)
        return self.edges

    def _stage_outputs(self, stage: int) -> dict[int, tuple[int | None, tuple[int, ...]]]:
        outputs: dict[int, tuple[int, ...]] = {}
        for d, depth in enumerate(self.space.depths[stage]):
            choice = self.space.unit_choices[self.space.block_units[stage][depth - 1][-1]]
            outputs[choice] = (*outputs.get(choice, ()), d)
        return {choice: (stage, depths) for choice, depths in outputs.items()}

    def _block_entry(self, layers, source, choices, built) -> None:
        self._add(layers.units[0], source, choices[0], *built)
        self._add(layers.projection, source, choices[-1], *built, stands=layers.needs_projection)

    def _add(
        self,
        layer,
        source,
        target,
        stage=None,
        depths=(),
        fixed_source=None,
        fixed_target=None,
        stands=lambda c_in, c_out: True,
    ) -> None:
        sources = (fixed_source,) if source is None else self.space.choices[source].candidates
        targets = (fixed_target,) if target is None else self.space.choices[target].candidates
        table = np.array(
            [
                [self.layer_cost(layer, a, b) if stands(a, b) else 0 for b in targets]
                for a in sources
            ]
        )
        if source is not None and source == target:  # tied: one draw, so only equal candidates meet
            source, table = None, np.diagonal(table)[None, :]
        if table.any():
            self.edges.append(Edge(layer, source, target, table, stage, depths))


class CostModel:
    """The expected cost of a space, as a function of the candidates' probabilities.

    Constants are built once; a call is a handful of batched operations, whatever the number of
    units, on NumPy arrays and TensorFlow tensors alike.

    Args:
        space: The search space.
        kind: `macs` or `parameters`.
    """

    def __init__(self, space: SearchSpace, kind: str = "macs"):
        self.space = space
        self.kind = kind
        terms = edges(space, kind)
        choices, size = len(space.choices), max_candidates(space)
        stages, depths = len(space.depths), max_depths(space)
        # One more row stands for a width that is fixed, one more entry for "always built".
        self._tables = np.zeros((len(terms), size, size))
        self._sources = np.zeros((len(terms), choices + 1))
        self._targets = np.zeros((len(terms), choices + 1))
        self._built = np.zeros((len(terms), stages * depths + 1))
        self._fixed = np.eye(1, size)
        for row, edge in enumerate(terms):
            self._tables[row, : edge.table.shape[0], : edge.table.shape[1]] = edge.table
            self._sources[row, choices if edge.source is None else edge.source] = 1
            self._targets[row, choices if edge.target is None else edge.target] = 1
            if edge.stage is None:
                self._built[row, -1] = 1
            else:
                self._built[row, [edge.stage * depths + d for d in edge.depths]] = 1

    def expected(self, width_probabilities: Any, depth_probabilities: Any) -> Any:
        """Returns the exact expectation of the built network's cost (METHOD 5).

        `sum_e P(e is built) * p_in^T T_e p_out`; at one-hot probabilities the exact cost.

        Args:
            width_probabilities: (choices, max candidates) float64, zeros where a choice has fewer.
            depth_probabilities: (stages, max depths) float64, likewise.
        """
        choices, stages = len(self.space.choices), len(self.space.depths)
        sources = self._sources[:, :choices] @ width_probabilities
        sources = sources + self._sources[:, choices:] @ self._fixed
        targets = self._targets[:, :choices] @ width_probabilities
        targets = targets + self._targets[:, choices:] @ self._fixed
        costs = sources[:, None, :] @ self._tables @ targets[:, :, None]
        per_stage = self._built[:, :-1].reshape(len(self._built), stages, -1)
        built = self._built[:, -1]
        for stage in range(stages):
            built = built + (per_stage[:, stage] @ depth_probabilities[stage][:, None])[:, 0]
        return (built[None, :] @ costs[:, :, 0])[0, 0]


def max_candidates(space: SearchSpace) -> int:
    """The largest number of candidate widths of any unit."""
    return max(len(choice.candidates) for choice in space.choices)


def max_depths(space: SearchSpace) -> int:
    """The largest number of candidate depths of any stage."""
    return max(len(depths) for depths in space.depths)


@dataclasses.dataclass(frozen=True)
class Budget:
    """A cost that the network may have: `[(1 - tolerance) * amount, amount]`.

    Args:
        kind: `macs` or `parameters`.
        amount: The budget R.
        unpruned: What the unpruned network costs.
        tolerance: Relative width t of the band.
    """

    kind: str
    amount: float
    unpruned: int
    tolerance: float = 0.05

    @property
    def floor(self) -> float:
        """The smallest cost inside the band."""
        return (1 - self.tolerance) * self.amount

    def contains(self, value: float) -> bool:
        """Whether a cost lies in the band."""
        return self.floor <= value <= self.amount

    def __str__(self) -> str:
        return (
            f"{self.kind} from {shown(self.floor)} to {shown(self.amount)} "
            f"({self.amount / self.unpruned:.1%} of the unpruned {shown(self.unpruned)})"
        )


_SUFFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_TARGET = re.compile(r"\s*(?:([a-z_]+)\s*:)?\s*([0-9.]+(?:e[0-9]+)?)\s*([kKMG]?)\s*")


def parse_targets(
    targets: float | str | Sequence[float | str], space: SearchSpace, tolerance: float = 0.05
) -> list[Budget]:
    """Reads budgets: `0.47`, `'macs: 119M'`, `'parameters: 0.5'`, or a list of such.

    Args:
        targets: A number or text without a kind means MACs; numbers up to 1 without a suffix mean
            shares of the unpruned network's cost.
        space: The search space.
        tolerance: Relative width of the band.

    Raises:
        BudgetError: If a target cannot be read.
    """
    several = isinstance(targets, (list, tuple))
    budgets = [
        _parse_target(target, space, tolerance) for target in (targets if several else [targets])
    ]
    kinds = [budget.kind for budget in budgets]
    if not budgets or len(set(kinds)) != len(kinds):
        raise BudgetError(f"TARGET: expected one target of each kind. Received: {targets!r}")
    return budgets


def _parse_target(target: float | str, space: SearchSpace, tolerance: float) -> Budget:
    match = None if isinstance(target, bool) else _TARGET.fullmatch(str(target))
    try:
        kind, number, suffix = match.groups()
        amount = float(number) * _SUFFIXES[suffix]
    except (AttributeError, ValueError):
        raise BudgetError(
            "TARGET: expected a share such as 0.47, or text such as 'macs: 119M' or "
            f"'parameters: 0.5'. Received: {target!r}"
        ) from None
    kind = kind or "macs"
    if kind not in LAYER_COSTS:
        raise BudgetError(
            f"TARGET: expected a cost among {', '.join(LAYER_COSTS)}. Received: {target!r}"
        )
    unpruned = cost(space.unpruned(), kind)
    if not suffix and amount <= 1:
        amount *= unpruned
    return Budget(kind, amount, unpruned, tolerance)


def shown(amount: float) -> str:
    """Returns a cost as people write it, such as 119.3 M."""
    for suffix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(amount) >= size:
            return f"{amount / size:.4g} {suffix}"
    return f"{amount:.4g}"
