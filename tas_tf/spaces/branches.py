"""Residual branches: what stands between a tensor and an addition to it, and can be left out."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence

from tas_tf.spaces.calls import Call

# For kinds of calls that add two tensors, which of them they give as they are if the other is zero.
# The second is that of keras.applications' InceptionResNetV2: x + scale * f(x).
ADDITIONS = {"Add": (0, 1), "CustomScaleLayer": (0,)}

# What a part of a network needs to be there: a branch, by its name; or two groups of channels, by
# their names, whose widths differ.
Condition = str | tuple[str, str]


def holds(
    condition: Condition | None, widths: Mapping[str, int], left_out: Collection[str]
) -> bool:
    """Whether a condition holds in a network.

    Args:
        condition: The condition; None always holds.
        widths: The widths of all groups by their names.
        left_out: The names of the branches that are left out.
    """
    if condition is None or isinstance(condition, str):
        return condition not in left_out
    first, second = condition
    return widths[first] != widths[second]


@dataclasses.dataclass(frozen=True)
class Branch:
    """What falls away if an addition gives one of its two tensors as it is.

    Args:
        name: Path of the addition.
        addition: The place of its call among the network's calls.
        shortcut: Which of the tensors that it reads stays: 0 or 1.
        calls: The places of the calls that fall away.
    """

    name: str
    addition: int
    shortcut: int
    calls: frozenset[int]


def branches_of(calls: Sequence[Call], outputs: Collection[int]) -> tuple[Branch, ...]:
    """Returns the residual branches of a network, in the order in which it runs.

    What is added begins at the tensor that it is added to, or before it, has weights, and nothing
    else reads any of it. Layers that are also called elsewhere stay, and so does a branch around
    another one.

    Args:
        calls: The network's calls.
        outputs: The numbers of its outputs.
    """
    readers: dict[int, set[int]] = collections.defaultdict(set)
    for place, call in enumerate(calls):
        for tensor in call.read:
            readers[tensor].add(place)
    before = _before(calls)
    # A tensor that is an output is read outside of every branch.
    for tensor in outputs:
        readers[tensor].add(len(calls))
    found = [
        branch
        for place, call in enumerate(calls)
        for shortcut in _shortcuts(call)
        for branch in [_branch(calls, place, shortcut, before)]
        if branch is not None and _is_closed(calls, branch, readers)
    ]
    additions = {branch.addition for branch in found}
    return tuple(branch for branch in found if not branch.calls & additions)


def _shortcuts(call: Call) -> tuple[int, ...]:
    """Returns which of the tensors that a call reads may be a shortcut."""
    shapes = {*call.input_shapes, *call.output_shapes}
    if len(call.read) != 2 or len(shapes) != 1:
        return ()
    return ADDITIONS.get(call.kind, ())


def _before(calls: Sequence[Call]) -> dict[int, int]:
    """Returns for every tensor the calls that it needs, as bits by their places."""
    before: dict[int, int] = {}
    for place, call in enumerate(calls):
        # What may be bypassed is a part of the shortcut.
        bits = 0 if call.bypassed else 1 << place
        for tensor in call.read:
            bits |= before.setdefault(tensor, 0)
        before.update((tensor, bits) for tensor in call.written)
    return before


def _branch(
    calls: Sequence[Call], place: int, shortcut: int, before: dict[int, int]
) -> Branch | None:
    """Returns what stands beside an identity shortcut; None if there is nothing to leave out."""
    call = calls[place]
    kept, added = before[call.read[shortcut]], before[call.read[1 - shortcut]]
    if kept & ~added:  # the shortcut has layers of its own
        return None
    inside = frozenset(_places(added & ~kept))
    if not any(calls[number].weights for number in inside):
        return None
    return Branch(call.path, place, shortcut, inside)


def _places(bits: int) -> list[int]:
    return [place for place in range(bits.bit_length()) if bits >> place & 1]


def _is_closed(calls: Sequence[Call], branch: Branch, readers: dict[int, set[int]]) -> bool:
    """Whether nothing outside reads what is inside, or calls its layers."""
    inside = branch.calls | {branch.addition}
    written = {tensor for place in branch.calls for tensor in calls[place].written}
    layers = {calls[place].operation for place in branch.calls}
    elsewhere = {call.operation for place, call in enumerate(calls) if place not in branch.calls}
    return not layers & elsewhere and all(readers[tensor] <= inside for tensor in written)
