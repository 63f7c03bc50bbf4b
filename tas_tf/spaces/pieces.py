"""Pieces of a network that was read: calls that are timed as one, at the widths that they may have.

A piece is a call with what follows it entry by entry, such as a convolution with its normalization
and its activation, which runtimes run in one go. Pieces that are equal but for their places and
their names are one: their time is measured once.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tas_tf.errors import SpecError
from tas_tf.spaces.branches import Condition, holds
from tas_tf.spaces.calls import Call
from tas_tf.spaces.channels import Form, channel_axis
from tas_tf.spaces.graph import Graph
from tas_tf.spaces.model_space import ModelSpace

MOST_AXES = 3
# Settings that no time depends on.
_IDLE = ("name", "addition", "trainable", "seed", "rate", "momentum", "epsilon")
_IDLE_ENDS = ("_initializer", "_regularizer", "_constraint")


@dataclasses.dataclass(frozen=True)
class Piece:
    """What takes equally long wherever it stands.

    Args:
        calls: The classes of its calls.
        size: What it reads, such as `56x56x?`.
        sums: For every axis, a number of channels that it takes at several values, whether it is
            that of several groups: then times are taken to be linear in it.
        digest: What tells its calls and their settings from others.
    """

    calls: tuple[str, ...]
    size: str
    sums: tuple[bool, ...]
    digest: str

    def __str__(self) -> str:
        return f"{', '.join(self.calls)} of {self.size}"


@dataclasses.dataclass(frozen=True, eq=False)
class PlacedPiece:
    """A piece where it stands in a network.

    Args:
        piece: The piece.
        path: Path of its first call.
        places: The places of its calls among the network's.
        axes: Numbers of channels as functions of widths, without a common factor.
        condition: What it needs to be there.
    """

    piece: Piece
    path: str
    places: tuple[int, ...]
    axes: tuple[Form, ...]
    condition: Condition | None

    def at(self, widths: Mapping[str, int]) -> tuple[int, ...]:
        """Returns the values of its axes at widths, by the names of groups."""
        return tuple(axis.at(widths) for axis in self.axes)


class Sizes:
    """Numbers of channels in a piece, as functions of the values of its axes.

    Args:
        graph: The network.
        calls: The calls of the piece.
    """

    def __init__(self, graph: Graph, calls: Sequence[Call]):
        self._form, self._whole = graph.partition.form, graph.partition.widths
        self.axes: list[Form] = []
        # What is concatenated takes the time of what it becomes, in parts of one size.
        joins = calls[0].kind == "Concatenate"
        for call in calls:
            for ids in (() if joins else call.inputs) + call.outputs:
                _, axis = _primitive(self._form(ids))
                if axis.multiples and axis not in self.axes and len(self.axes) < MOST_AXES:
                    self.axes.append(axis)
        joined = _primitive(self._form(calls[0].outputs[0]))[0]
        self._part = joined / len(calls[0].read) if joins else None

    def label(self, ids: np.ndarray) -> tuple[int | None, float]:
        """Returns the axis that a number of channels is proportional to, and the factor."""
        factor, axis = _primitive(form := self._form(ids))
        if axis in self.axes:
            return self.axes.index(axis), factor
        if not form.multiples or not self.axes:
            return None, form.at(self._whole)
        share = form.at(self._whole) / self.axes[0].at(self._whole)
        return 0, share if self._part is None else self._part

    def at(self, ids: np.ndarray, values: Sequence[int]) -> int:
        """Returns a number of channels at values of the axes."""
        axis, factor = self.label(ids)
        return max(1, round(factor * (1 if axis is None else values[axis])))

    def shape(self, ids: np.ndarray, shape: Sequence[int], values: Sequence[int]) -> tuple:
        """Returns a tensor's shape, without the batch, at values of the axes."""
        axis = channel_axis(ids)
        return tuple(self.at(ids, values) if a == axis else n for a, n in enumerate(shape))


def _primitive(form: Form) -> tuple[int, Form]:
    """Returns the largest factor of a number of channels, and the number without it."""
    factor = math.gcd(form.constant, *form.multiples.values()) or 1
    return factor, Form(
        form.constant // factor, {name: n // factor for name, n in form.multiples.items()}
    )


def pieces_of(graph: Graph) -> list[PlacedPiece]:
    """Returns the pieces of a network, in the order in which it runs.

    An addition that ends a branch falls away with the branch, and so does what follows it entry by
    entry.
    """
    readers: dict[int, list[int]] = collections.defaultdict(list)
    for place, call in enumerate(graph.calls):
        for tensor in call.read:
            readers[tensor].append(place)
    for tensor in graph.outputs:
        readers[tensor].append(len(graph.calls))
    additions = {branch.addition: branch.name for branch in graph.branches}
    found, taken = [], set()
    for place in range(len(graph.calls)):
        if place not in taken:
            chain = _chain(graph, place, readers)
            taken.update(chain)
            found.append(_placed(graph, chain, additions.get(place) or graph.condition_of(place)))
    return found


def _chain(graph: Graph, place: int, readers: Mapping[int, Sequence[int]]) -> list[int]:
    """Returns a call with those that follow it, each of which alone reads what is before it."""
    chain = [place]
    while True:
        last = graph.calls[chain[-1]]
        following = [next_ for tensor in last.written for next_ in readers[tensor]]
        if len(following) != 1 or following[0] == len(graph.calls) or len(last.written) != 1:
            return chain
        (place,) = following
        call = graph.calls[place]
        same_branch = graph.branch_of.get(place) == graph.branch_of.get(chain[-1])
        follows = last.kind.startswith("ZeroPadding") or _keeps_entries(call)
        if graph.calls[chain[0]].kind == "Concatenate":  # its parts are measured in equal sizes
            follows = follows and not call.resized
        if len(call.read) != 1 or not same_branch or not follows:
            return chain
        chain.append(place)


def _keeps_entries(call: Call) -> bool:
    """Whether a call has no kernel, and gives as many numbers as it reads."""
    shapes = (*call.input_shapes, *call.output_shapes)
    if call.uses or "Pooling" in call.kind or any(None in shape for shape in shapes):
        return False
    return len({math.prod(shape) for shape in shapes}) == 1


def _placed(graph: Graph, chain: Sequence[int], condition: Condition | None) -> PlacedPiece:
    calls = [graph.calls[place] for place in chain]
    sizes = Sizes(graph, calls)
    calls = [call for call in calls if "Dropout" not in call.kind] or calls  # it takes no time
    numbers = {t: n for n, t in enumerate(t for call in calls for t in call.read + call.written)}
    told = []
    for call in calls:
        config = {k: _said(v) for k, v in call.config.items() if _counts(k, call)}
        tensors = zip(
            call.read + call.written,
            call.inputs + call.outputs,
            call.input_shapes + call.output_shapes,
            strict=True,
        )
        shapes = [(numbers[t], _labelled(sizes, ids, shape)) for t, ids, shape in tensors]
        told.append([call.kind, config or call.path, shapes])
    text = json.dumps(told, sort_keys=True)
    first = _labelled(sizes, calls[0].inputs[0], calls[0].input_shapes[0])
    piece = Piece(
        tuple(call.kind for call in calls),
        "x".join(str(n) if isinstance(n, int) else "?" for n in first),
        tuple(len(axis.multiples) > 1 for axis in sizes.axes),
        hashlib.sha256(text.encode()).hexdigest()[:16],
    )
    return PlacedPiece(
        piece=piece,
        path=calls[0].path,
        places=tuple(chain),
        axes=tuple(sizes.axes),
        condition=condition,
    )


def _counts(field: str, call: Call) -> bool:
    return not (field in call.resized or field in _IDLE or field.endswith(_IDLE_ENDS))


def _said(value: Any) -> Any:
    """Returns a setting as plain data that every process says alike."""
    return json.loads(json.dumps(value, default=lambda other: type(other).__name__))


def _labelled(sizes: Sizes, ids: np.ndarray, shape: Sequence[int]) -> list[Any]:
    channels = channel_axis(ids)
    labels = [(sizes.label(ids) if axis == channels else n) for axis, n in enumerate(shape)]
    # Of no axis: it never changes.
    return [n[1] if isinstance(n, tuple) and n[0] is None else n for n in labels]


def piece_widths(space: ModelSpace) -> dict[Piece, tuple[tuple[int, ...], ...]]:
    """Returns the pieces of a space's networks, each with the values of its axes.

    Of an axis that several groups sum up to these are the smallest and the largest.
    """
    whole = space.graph.partition.widths
    candidates = {c.name: {*c.candidates, whole[c.name]} for c in space.choices}
    found: dict[Piece, tuple[set[int], ...]] = {}
    for placed in pieces_of(space.graph):
        known = found.setdefault(placed.piece, tuple(set() for _ in placed.axes))
        for values, axis in zip(known, placed.axes, strict=True):
            if len(axis.multiples) == 1:
                ((name, _),) = axis.multiples.items()
                values.update(axis.at({name: width}) for width in candidates[name])
            else:
                smallest = {name: min(candidates[name]) for name in axis.multiples}
                values.update((axis.at(smallest), axis.at(whole)))
    return {
        piece: tuple(
            (min(values), max(values)) if is_sum else tuple(sorted(values))
            for values, is_sum in zip(axes, piece.sums, strict=True)
        )
        for piece, axes in found.items()
    }


@dataclasses.dataclass(frozen=True)
class PieceTimes:
    """What a network takes at any widths: a sum over its pieces.

    Args:
        overhead: What it takes beside them.
        pieces: Its pieces, each with its time as a function of the values of its axes.
    """

    overhead: float
    pieces: tuple[tuple[PlacedPiece, Callable[[tuple[int, ...]], float]], ...]

    def at(self, widths: Mapping[str, int], left_out: Collection[str] = ()) -> int:
        """Returns the time at widths of all groups, without some branches, in whole units."""
        times = (
            time(placed.at(widths))
            for placed, time in self.pieces
            if holds(placed.condition, widths, left_out)
        )
        return round(sum(times, self.overhead))


def times_of(
    graph: Graph, overhead: float, time: Callable[[Piece, tuple[int, ...]], float]
) -> PieceTimes:
    """Returns what a network takes, by the times of pieces.

    Args:
        graph: The network.
        overhead: What it takes beside its pieces.
        time: The time of a piece at values of its axes.

    Raises:
        SpecError: As `time` raises it; with the path of the piece.
    """

    def timed(placed: PlacedPiece) -> Callable[[tuple[int, ...]], float]:
        def at(values: tuple[int, ...]) -> float:
            try:
                return time(placed.piece, values)
            except SpecError as error:
                raise SpecError(f"{placed.path}: {error.message}", field=error.field) from None

        return at

    return PieceTimes(overhead, tuple((placed, timed(placed)) for placed in pieces_of(graph)))
