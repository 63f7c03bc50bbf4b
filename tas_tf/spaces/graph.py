"""The graph of a network: its calls with labelled channels, and what it costs at any widths."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tas_tf.errors import ArchitectureError
from tas_tf.spaces.branches import Branch, Condition, branches_of, holds
from tas_tf.spaces.calls import Call, Opaque, Shape
from tas_tf.spaces.channels import Channels, Form, Group, Partition
from tas_tf.spaces.memory import Moment, moments_of
from tas_tf.spaces.operations import rule_of

# Kinds of cost: multiply-accumulates without biases for one example, trainable parameters, and the
# peak of activations in bytes. The first two are sums.
SUMS = ("macs", "parameters")
KINDS = (*SUMS, "memory")


@dataclasses.dataclass(frozen=True)
class Product:
    """A part of a cost: `factor * length_1(widths) * length_2(widths) * ...`.

    Args:
        factor: What no width changes.
        lengths: Numbers of channels.
        condition: What it needs to be there, else it is zero.
    """

    factor: int
    lengths: tuple[Form, ...]
    condition: Condition | None

    def at(self, widths: Mapping[str, int], left_out: Collection[str] = ()) -> int:
        """Returns its value at widths, by the names of groups, without some branches."""
        if not holds(self.condition, widths, left_out):
            return 0
        return self.factor * math.prod(length.at(widths) for length in self.lengths)


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A network that was read.

    Args:
        name: Its name.
        input_shapes: The shapes of its inputs, without the batch.
        calls: The calls of its operations, in the order in which they run.
        partition: Its channels.
        outputs: The numbers of its outputs among the tensors.
        output_shapes: Their shapes, without the batch.
    """

    name: str
    input_shapes: tuple[Shape, ...]
    calls: tuple[Call, ...] = dataclasses.field(repr=False)
    partition: Partition = dataclasses.field(repr=False)
    outputs: tuple[int, ...] = dataclasses.field(repr=False)
    output_shapes: tuple[Shape, ...]

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of channels that are searched."""
        return self.partition.groups

    @property
    def frozen(self) -> Mapping[str, str]:
        """For layers whose channels are always kept, by their paths, the reason."""
        return self.partition.frozen

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Paths of operations whose multiplications are not known, and count as 0."""
        return tuple(dict.fromkeys(call.path for call in self.calls if not call.counted))

    @functools.cached_property
    def branches(self) -> tuple[Branch, ...]:
        """Its residual branches, which can be left out."""
        return branches_of(self.calls, self.outputs)

    @functools.cached_property
    def branch_of(self) -> dict[int, str]:
        """For every call of a branch, by its place, the branch's name."""
        return {place: branch.name for branch in self.branches for place in branch.calls}

    @functools.cached_property
    def branch_of_group(self) -> dict[str, str]:
        """For every group that is made in a branch alone, by its name, the branch's name."""
        of_paths = {self.calls[place].path: name for place, name in self.branch_of.items()}
        found = {
            group.name: {of_paths.get(owner, "") for owner in group.owners} for group in self.groups
        }
        return {name: min(of) for name, of in found.items() if len(of) == 1 and "" not in of}

    def cost(
        self,
        widths: Mapping[str, int] | None = None,
        kind: str = "macs",
        left_out: Collection[str] = (),
    ) -> int:
        """Returns the exact cost of the network at some widths.

        Args:
            widths: The width of every group by its name; all of it where none is given.
            kind: One of `KINDS`.
            left_out: The names of branches that are left out.

        Raises:
            ArchitectureError: If there is no such group, or it does not have that width.
        """
        checked = self.partition.checked(widths or {})
        if kind == "memory":
            return max(moment.at(checked, left_out) for moment in self.moments)
        return sum(product.at(checked, left_out) for product in self.products(kind))

    def products(self, kind: str) -> list[Product]:
        """Returns what is added up to a cost: the products of every weight, of every call.

        MACs of a weight are its entries times the places where each multiplies, so that they
        follow from its labelled axes: `k_h * k_w * C_in * C_out * H * W` for a convolution.

        Args:
            kind: One of `SUMS`.

        Raises:
            ArchitectureError: If it is another kind.
        """
        if kind not in SUMS:
            raise ArchitectureError(
                f"of a model that was read {', '.join(KINDS)} are known. Received: {kind!r}"
            )
        return self._products[kind]

    @functools.cached_property
    def projections(self) -> dict[int, tuple[str, str]]:
        """For every call that is bypassed, by its place, the groups that it reads and writes.

        It stands only in networks where their widths differ.
        """
        return {
            place: (self._group(call.inputs[0]), self._group(call.outputs[0]))
            for place, call in enumerate(self.calls)
            if call.bypassed
        }

    def condition_of(self, place: int) -> Condition | None:
        """Returns what a call, by its place, needs to be there."""
        return self.projections.get(place) or self.branch_of.get(place)

    def _group(self, ids: np.ndarray) -> str:
        (name,) = self.partition.form(ids).multiples
        return name

    @functools.cached_property
    def moments(self) -> list[Moment]:
        """When buffers of activations are made, and what is alive then."""
        return moments_of(self.calls, self.outputs, self.partition, self.branches, self.projections)

    @functools.cached_property
    def fingerprint(self) -> str:
        """What tells this network from others: a digest of its calls and their shapes."""
        calls = [
            (call.path, call.kind, call.output_shapes, [weight.shape for weight in call.weights])
            for call in self.calls
        ]
        text = json.dumps([self.input_shapes, calls])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @functools.cached_property
    def _products(self) -> dict[str, list[Product]]:
        found: dict[str, list[Product]] = {kind: [] for kind in SUMS}
        for place, call in enumerate(self.calls):
            for index, weight in enumerate(call.weights):
                axes = call.axes.get(index, (None,) * len(weight.shape))
                fixed = [n for n, ids in zip(weight.shape, axes, strict=True) if ids is None]
                lengths = tuple(self.partition.form(ids) for ids in axes if ids is not None)
                size = math.prod(fixed)
                condition = self.condition_of(place)
                if index in call.uses:
                    found["macs"].append(Product(size * call.uses[index], lengths, condition))
                if call.first and weight.trainable:
                    found["parameters"].append(Product(size, lengths, condition))
        return found


class GraphBuilder:
    """A graph in the making: its calls are given in the order in which they run."""

    def __init__(self) -> None:
        self._channels = Channels()
        self._calls: list[Call] = []
        self._input_shapes: list[Shape] = []
        self._shared: dict[int, tuple[np.ndarray, ...]] = {}

    def start(self, shape: Sequence[int], name: str) -> np.ndarray:
        """Returns the ids of an input of the network."""
        self._input_shapes.append(tuple(shape))
        ids = self._channels.new(shape, name)
        self._channels.freeze(ids, "an input of the model")
        return ids

    def add(self, call: Call, refusal: str = "") -> tuple[np.ndarray, ...]:
        """Takes a call; returns the ids of its outputs.

        Args:
            call: The call, not yet labelled.
            refusal: Why its rule cannot apply, if it cannot.
        """
        mark = self._channels.mark()
        rule = rule_of(call.layer_class)
        unknown = any(None in shape for shape in call.input_shapes + call.output_shapes)
        call.counted = rule is not None and not unknown
        try:
            if rule is None or unknown:
                raise Opaque("its sizes are unknown" if rule else "not understood")
            if refusal:
                raise Opaque(refusal)
            call.outputs = tuple(rule(call, self._channels))
            _check_labelled(call)
        except Opaque as error:
            self._channels.go_back(mark)
            self._freeze(call, str(error))
        if call.weights:
            self._share(call)
        self._calls.append(call)
        return call.outputs

    def _freeze(self, call: Call, reason: str) -> None:
        """Has all channels kept that a call touches. How often weights multiply stays known."""
        call.axes, call.resized = {}, {}
        call.reason = f"{call.path} ({call.kind}): {reason}"
        for ids in call.inputs:
            self._channels.freeze(ids, f"read by {call.reason}")
        shapes = [[length or 1 for length in shape] for shape in call.output_shapes]
        call.outputs = tuple(self._channels.new(shape, call.path) for shape in shapes)
        for ids in call.outputs:
            self._channels.freeze(ids, f"written by {call.reason}")

    def _share(self, call: Call) -> None:
        """Ties what a shared layer reads, and what it writes, in all of its calls."""
        touched = call.inputs + call.outputs
        if call.first:
            self._shared[call.operation] = touched
            return
        for ids, before in zip(touched, self._shared[call.operation], strict=False):
            if ids.size == before.size:
                self._channels.tie(ids.reshape(-1), before.reshape(-1))
            else:
                for other in (ids, before):
                    self._channels.freeze(other, f"{call.path}: shared by tensors of other sizes")

    def finish(
        self,
        name: str,
        outputs: Sequence[np.ndarray],
        numbers: Sequence[int],
        shapes: Sequence[Shape],
    ) -> Graph:
        """Returns the graph.

        Args:
            name: Its name.
            outputs: The ids of the network's outputs.
            numbers: Their numbers among the tensors.
            shapes: Their shapes, without the batch.
        """
        for ids in outputs:
            self._channels.freeze(ids, "an output of the model")
        arrays = [ids for call in self._calls for ids in call.inputs + call.outputs]
        for call in self._calls:
            arrays += [ids for axes in call.axes.values() for ids in axes if ids is not None]
        partition = self._channels.partition(arrays)
        return Graph(
            name=name,
            input_shapes=tuple(self._input_shapes),
            calls=tuple(self._calls),
            partition=partition,
            outputs=tuple(numbers),
            output_shapes=tuple(shapes),
        )


def _check_labelled(call: Call) -> None:
    for index, weight in enumerate(call.weights):
        if weight.shape and index not in call.axes:
            raise Opaque(f"its variable {weight.name} is not understood")
    ranks = [ids.ndim for ids in call.outputs]
    if ranks != [len(shape) for shape in call.output_shapes]:
        raise Opaque("its rule and its shapes differ")
