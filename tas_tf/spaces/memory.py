"""Peak memory of a graph: what is alive while each of its calls runs (docs/method.md 12)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from tas_tf.spaces.branches import Branch
from tas_tf.spaces.calls import Call, Shape
from tas_tf.spaces.channels import Form, Partition

BYTES = 4  # of an activation, float32


@dataclasses.dataclass(frozen=True)
class Moment:
    """What is alive while a call runs: `constant + sum_g multiples[g] * width_g` bytes.

    Args:
        size: The bytes, as a function of widths.
        branch: The name of the branch that the call is in; without it there is no such moment.
    """

    size: Form
    branch: str | None


def moments_of(
    calls: Sequence[Call],
    outputs: Sequence[int],
    partition: Partition,
    branches: Sequence[Branch],
) -> list[Moment]:
    """Returns the moments at which a buffer is made, for one example in float32.

    A call makes a buffer for each tensor that it writes. It works in place if it has no kernel,
    what it writes is as large as what it reads, and nothing reads that later: normalizations,
    activations, additions, reshapes. A buffer is alive until the last call that reads it. A branch
    that is left out takes its buffers along; what it is added to stays where it is.

    Args:
        calls: The network's calls, in the order in which they run.
        outputs: The numbers of its outputs.
        partition: Its channels.
        branches: The branches that may be left out.
    """
    branch_of = {place: branch.name for branch in branches for place in branch.calls}
    shortcuts = {
        branch.addition: calls[branch.addition].read[branch.shortcut] for branch in branches
    }
    tensors = _tensors(calls)
    last = {number: place for place, call in enumerate(calls) for number in call.read}
    last.update(dict.fromkeys(outputs, len(calls)))
    buffers: dict[int, list[int]] = {}  # the tensors that lie in one, by the first of them
    home: dict[int, int] = {}
    made_at: dict[int, int] = {}
    for place, call in enumerate(calls):
        for number in (*call.read, *call.written):
            if number not in home:
                read = (shortcuts[place],) if place in shortcuts else call.read
                dying = [n for n in read if last[n] == place]
                free = _free(call, dying, tensors) if number in call.written else None
                home[number] = number if free is None else home[free]
                buffers.setdefault(home[number], []).append(number)
                made_at.setdefault(home[number], place if number in call.written else -1)
    until = {
        first: max(made_at[first], *(last.get(number, -1) for number in several))
        for first, several in buffers.items()
    }
    moments = []
    for place in sorted({max(made, 0) for made in made_at.values()}):
        branch = branch_of.get(place)
        alive = [
            first
            for first, made in made_at.items()
            if made <= place <= until[first] and branch_of.get(made) in (None, branch)
        ]
        parts = [_bytes(*tensors[first], partition) for first in alive]
        moments.append(Moment(_sum(parts), branch))
    return moments


def _tensors(calls: Sequence[Call]) -> dict[int, tuple[np.ndarray, Shape]]:
    """Returns ids and shape of every tensor by its number."""
    found: dict[int, tuple[np.ndarray, Shape]] = {}
    for call in calls:
        found.update(zip(call.read, zip(call.inputs, call.input_shapes, strict=True), strict=True))
        sides = zip(call.outputs, call.output_shapes, strict=True)
        found.update(zip(call.written, sides, strict=True))
    return found


def _free(
    call: Call, dying: Sequence[int], tensors: Mapping[int, tuple[np.ndarray, Shape]]
) -> int | None:
    """Returns the tensor whose buffer a call writes to; None if it needs one of its own."""
    if call.uses or call.reason or "Pooling" in call.kind or len(call.written) != 1:
        return None
    (size,) = map(_entries, call.output_shapes)
    return next((number for number in dying if _entries(tensors[number][1]) == size), None)


def _bytes(ids: np.ndarray, shape: Shape, partition: Partition) -> Form:
    channels = partition.form(ids)
    each = BYTES * _entries(shape) // ids.size
    return Form(each * channels.constant, {g: each * n for g, n in channels.multiples.items()})


def _entries(shape: Shape) -> int:
    """Returns the number of entries; a length that is not known counts as one."""
    return math.prod(length or 1 for length in shape)


def _sum(forms: Sequence[Form]) -> Form:
    multiples: dict[str, int] = {}
    for form in forms:
        for group, n in form.multiples.items():
            multiples[group] = multiples.get(group, 0) + n
    return Form(sum(form.constant for form in forms), multiples)
