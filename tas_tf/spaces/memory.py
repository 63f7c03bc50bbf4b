"""Peak memory of a graph: what is alive while each of its calls runs (docs/method.md 12)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tas_tf.spaces.branches import Branch, Condition, holds
from tas_tf.spaces.calls import Call, Shape
from tas_tf.spaces.channels import Form, Partition

BYTES = 4  # of an activation, float32


@dataclasses.dataclass(frozen=True)
class Moment:
    """What is alive while a call runs, in bytes.

    Args:
        size: What is always alive then, as a function of widths.
        sometimes: What is alive too under conditions.
        branch: The name of the branch that the call is in; without it there is no such moment.
    """

    size: Form
    sometimes: Mapping[Condition, Form]
    branch: str | None

    def at(self, widths: Mapping[str, int], left_out: Collection[str]) -> int:
        """Returns the bytes at widths, by the names of groups; 0 if there is no such moment."""
        if not holds(self.branch, widths, left_out):
            return 0
        parts = [
            form for condition, form in self.sometimes.items() if holds(condition, widths, left_out)
        ]
        return self.size.at(widths) + sum(part.at(widths) for part in parts)


def moments_of(
    calls: Sequence[Call],
    outputs: Sequence[int],
    partition: Partition,
    branches: Sequence[Branch],
    projections: Mapping[int, tuple[str, str]],
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
        projections: For calls that may be bypassed, by their places, the groups at both ends.
    """
    branch_of = {place: branch.name for branch in branches for place in branch.calls}
    tensors = _tensors(calls)
    last = {number: place for place, call in enumerate(calls) for number in call.read}
    last.update(dict.fromkeys(outputs, len(calls)))
    home, made_at, until = _buffers(calls, branches, tensors, last)
    moments = []
    for place in sorted({max(made, 0) for made in made_at.values()}):
        branch = branch_of.get(place)
        alive: dict[Condition | None, list[Form]] = {None: []}
        for first, made in made_at.items():
            if made <= place <= until[first]:
                condition: Condition | None = branch_of.get(made)
                if made in projections and place < last[first]:
                    # What is bypassed has no buffer, and its input waits for the addition.
                    source = home[calls[made].read[0]]
                    condition = projections[made] if until[source] >= place else None
                where = alive.setdefault(None if condition == branch else condition, [])
                where.append(_bytes(*tensors[first], partition))
        size = Form.sum_of(alive.pop(None))
        sometimes = {key: Form.sum_of(parts) for key, parts in alive.items() if key is not None}
        moments.append(Moment(size, sometimes, branch))
    return moments


def _buffers(
    calls: Sequence[Call],
    branches: Sequence[Branch],
    tensors: Mapping[int, tuple[np.ndarray, Shape]],
    last: Mapping[int, int],
) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
    """Returns in which buffer each tensor lies, and where each buffer is made and last read.

    A buffer is called by the first of its tensors, a place is a call's; inputs are made at -1.

    Args:
        calls: The network's calls.
        branches: The branches that may be left out.
        tensors: Ids and shape of every tensor.
        last: Where each tensor is last read.
    """
    shortcuts = {
        branch.addition: calls[branch.addition].read[branch.shortcut] for branch in branches
    }
    home: dict[int, int] = {}
    made_at: dict[int, int] = {}
    until: dict[int, int] = {}
    for place, call in enumerate(calls):
        for number in (*call.read, *call.written):
            if number in home:
                continue
            made = place if number in call.written else -1
            read = (shortcuts[place],) if place in shortcuts else call.read
            dying = [n for n in read if last[n] == place]
            free = _free(call, dying, tensors) if made == place else None
            first = home[number] = number if free is None else home[free]
            made_at.setdefault(first, made)
            until[first] = max(until.get(first, made), last.get(number, -1))
    return home, made_at, until


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
