"""Exact costs of architectures, and budgets.

Each kind of cost has a function from a layer and its widths to an integer: `KINDS`, and the
milliseconds of a device (`latency_table.py`). The cost of an architecture is the sum over its
layers, or for peak memory the maximum. `expected_cost.py` takes the expectation of the same
functions.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from tas_tf.errors import BudgetError
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.families import Layer
from tas_tf.spaces.graph import KINDS as GRAPH_KINDS
from tas_tf.spaces.graph import Graph
from tas_tf.spaces.memory import BYTES
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace
from tas_tf.spaces.pieces import PieceTimes
from tas_tf.spaces.search_space import SearchSpace

_Number = TypeVar("_Number", int, float)


def layer_macs(layer: Layer, in_channels: int, out_channels: int, entry_channels: int = 0) -> int:
    """Multiply-accumulates of one layer: `k_h * k_w * C_in * C_out * H * W`, without bias."""
    del entry_channels
    return _area(layer.kernel) * in_channels * out_channels * _area(layer.size)


def layer_parameters(
    layer: Layer, in_channels: int, out_channels: int, entry_channels: int = 0
) -> int:
    """Trainable parameters of one layer: kernel, scale and offset, the classifier's bias."""
    del entry_channels
    kernel = _area(layer.kernel) * in_channels * out_channels
    vectors = 2 * layer.normalized + (layer.kind == "classifier")
    return kernel + vectors * out_channels


def layer_memory(layer: Layer, in_channels: int, out_channels: int, entry_channels: int) -> int:
    """Bytes of activations alive while one layer runs on one image, in float32.

    Alive are the layer's input and output, and what a shortcut still needs: the block's input
    while its units run, the units' output while the projection runs. Pooling is a step of its own.
    Normalization, ReLU and addition work in place.
    """
    source, target = _area(layer.in_size) * in_channels, _area(layer.size) * out_channels
    if layer.kind == "classifier":
        alive = max(source, target) + in_channels  # while the map is averaged, then scored
    elif layer.kind == "projection" and layer.pooled_size:
        pooled = _area(layer.pooled_size) * in_channels
        alive = max(source + pooled + target, pooled + 2 * target)
    elif layer.kind == "projection":
        alive = source + 2 * target
    else:
        waiting = _area(layer.entry_size) * entry_channels if layer.entry_size else 0
        alive = source + target + waiting
        if layer.pooled_size:
            alive = max(alive, target + _area(layer.pooled_size) * out_channels)
    return BYTES * alive


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


@dataclasses.dataclass(frozen=True)
class CostKind:
    """A kind of cost.

    Args:
        name: What records and targets call it.
        layer: Cost of a layer from (layer, input channels, output channels, channels of its
            block's input).
        peak: Whether the network's cost is the largest of its layers' costs, not their sum.
        times: Of a model that was read what its pieces take, from its graph; None where the cost
            follows from the graph itself.
    """

    name: str
    layer: Callable[[Layer, int, int, int], int]
    peak: bool = False
    times: Callable[[Graph], PieceTimes] | None = None

    def of(self, costs: Sequence[_Number]) -> _Number:
        """Returns the cost of several layers together; of none it is 0."""
        return max(costs, default=0) if self.peak else sum(costs)


KINDS = {
    kind.name: kind
    for kind in (
        CostKind("macs", layer_macs),
        CostKind("parameters", layer_parameters),
        CostKind("memory", layer_memory, peak=True),
    )
}
LATENCY = "latency"  # a kind of its own for every table, in nanoseconds
NAMES = (*KINDS, LATENCY)


def kind_of(kind: str | CostKind) -> CostKind:
    """Returns a kind of cost, which may be given by its name if it is one of `KINDS`."""
    return KINDS[kind] if isinstance(kind, str) else kind


def cost(architecture: Architecture | ModelArchitecture, kind: str | CostKind = "macs") -> int:
    """Returns the exact cost of the network that is built from an architecture.

    Args:
        architecture: The architecture.
        kind: `macs`, `parameters`, `memory` (peak bytes of activations, see `layer_memory`), or
            another kind.
    """
    kind = kind_of(kind)
    if isinstance(architecture, ModelArchitecture):
        graph, left_out = architecture.space.graph, architecture.left_out
        if kind.times is not None:
            return kind.times(graph).at(graph.partition.checked(architecture.widths), left_out)
        return graph.cost(architecture.widths, kind.name, left_out)
    return kind.of([kind.layer(*placed) for placed in architecture.layers()])


def costs(
    architecture: Architecture | ModelArchitecture, kinds: Mapping[str, CostKind] = KINDS
) -> dict[str, int]:
    """Returns the cost of an architecture of every kind that is known of it."""
    if isinstance(architecture, ModelArchitecture):
        kinds = {name: kind for name, kind in kinds.items() if name in GRAPH_KINDS or kind.times}
    return {name: cost(architecture, kind) for name, kind in kinds.items()}


@dataclasses.dataclass(frozen=True)
class Budget:
    """A cost that the network may have: `[(1 - tolerance) * amount, amount]`.

    Args:
        kind: The kind of cost.
        amount: The budget R.
        unpruned: What the unpruned network costs.
        tolerance: Relative width t of the band.
    """

    kind: CostKind
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

    def record(self) -> dict[str, Any]:
        """Returns what a run records of it, plain data."""
        return {**vars(self), "kind": self.kind.name}

    def __str__(self) -> str:
        floor, amount, unpruned = (
            shown(value, self.kind.name) for value in (self.floor, self.amount, self.unpruned)
        )
        share = f"{self.amount / self.unpruned:.1%}"
        return f"{self.kind.name} from {floor} to {amount} ({share} of the unpruned {unpruned})"


def placed(
    architecture: Architecture | ModelArchitecture, budgets: Sequence[Budget]
) -> dict[str, dict[str, float]]:
    """Returns what an architecture costs beside each budget, by its kind, as records say it."""
    return {
        budget.kind.name: {
            "floor": budget.floor,
            "amount": budget.amount,
            "cost": cost(architecture, budget.kind),
            "unpruned": budget.unpruned,
        }
        for budget in budgets
    }


_SUFFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_TIMES = {"": 1, "us": 10**3, "ms": 10**6, "s": 10**9}  # in nanoseconds
_TARGET = re.compile(r"\s*(?:([a-z_]+)\s*:)?\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kKMG]?|[mu]?s)\s*")

Target = float | str | Budget


def parse_targets(
    targets: Target | Sequence[Target],
    space: SearchSpace | ModelSpace,
    tolerance: float = 0.05,
    kinds: Mapping[str, CostKind] = KINDS,
) -> list[Budget]:
    """Reads budgets: `0.47`, `'macs: 119M'`, `'latency: 4.0 ms'`, or a list of such.

    Args:
        targets: A number or text without a kind means MACs; numbers up to 1 without a suffix mean
            shares of the unpruned network's cost. What this has returned is returned as it is.
        space: The search space.
        tolerance: Relative width of the band.
        kinds: The kinds of cost by their names.

    Raises:
        BudgetError: If a target cannot be read.
    """
    # What is no list is a single target, or is refused as one.
    several = targets if isinstance(targets, (list, tuple)) else [cast(Target, targets)]
    budgets = [
        target if isinstance(target, Budget) else _parse_target(target, space, tolerance, kinds)
        for target in several
    ]
    names = {budget.kind.name for budget in budgets}
    if not budgets or len(names) != len(budgets):
        raise BudgetError(
            f"expected one target of each kind. Received: {targets!r}", field="target"
        )
    return budgets


def read_target(target: float | str) -> tuple[str, float, bool]:
    """Returns what a target says: the kind of cost, the amount, and whether it may be a share.

    Raises:
        BudgetError: If it cannot be read.
    """
    match = None if isinstance(target, bool) else _TARGET.fullmatch(str(target))
    try:
        name, number, suffix = match.groups() if match else (None, "", "")
        name = name or "macs"
        amount = float(number) * (_TIMES if name == LATENCY else _SUFFIXES)[suffix]
    except (KeyError, ValueError):
        raise BudgetError(
            "expected a share such as 0.47, or text such as 'macs: 119M', "
            f"'parameters: 0.5' or 'latency: 4.0 ms'. Received: {target!r}",
            field="target",
        ) from None
    return name, amount, not suffix and amount <= 1


def _parse_target(
    target: float | str,
    space: SearchSpace | ModelSpace,
    tolerance: float,
    kinds: Mapping[str, CostKind],
) -> Budget:
    name, amount, is_share = read_target(target)
    if name == LATENCY and name not in kinds:
        raise BudgetError(
            "expected a table of latencies beside a budget of latency: bind "
            "run_search.latency_table = 'table.json', or give derive --latency_table=table.json; "
            f"python -m tas_tf.profile_device measures one. Received: {target!r}",
            field="target",
        )
    if name not in kinds:
        raise BudgetError(
            f"expected a cost among {', '.join(kinds)}. Received: {target!r}", field="target"
        )
    unpruned = cost(space.unpruned(), kinds[name])
    if is_share:
        amount *= unpruned
    return Budget(kinds[name], amount, unpruned, tolerance)


def shown(amount: float, name: str = "") -> str:
    """Returns a cost as people write it, such as 119.3 M.

    Args:
        amount: The cost.
        name: Name of its kind, which may have a unit of its own.
    """
    if name == LATENCY:
        return f"{amount / 10**6:.4g} ms"
    for suffix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(amount) >= size:
            return f"{amount / size:.4g} {suffix}"
    return f"{amount:.4g}"


def name_of(kind: str) -> str:
    """Returns what people call a kind of cost."""
    return {"macs": "MACs", "memory": "peak memory"}.get(kind, kind)
