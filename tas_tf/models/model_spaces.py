"""Search spaces of Keras models that are read, with ties at residual additions or without."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tas_tf.errors import SpecError
from tas_tf.models.narrowing import narrow
from tas_tf.models.reading import Shape, read
from tas_tf.spaces.choices import DEFAULT_RATIOS
from tas_tf.spaces.graph import Graph
from tas_tf.spaces.model_space import ModelSpace


def space_of(
    model: keras.Model,
    ratios: Sequence[float] = DEFAULT_RATIOS,
    width_divisor: int = 1,
    frozen: Sequence[str] = (),
    leave_out_branches: bool = False,
    tie_additions: bool = True,
    input_shape: Shape | Sequence[Shape] | None = None,
) -> ModelSpace:
    """Reads a model and returns its search space: one width for every group of its channels.

    Args:
        model: A functional or Sequential model; it stays as it is.
        ratios: Candidate widths as shares of the unpruned width, in (0, 1].
        width_divisor: Candidates have a number of channels that is the nearest multiple of it.
        frozen: Paths of layers whose channels are not searched, nor those tied to them.
        leave_out_branches: Whether residual branches may be left out: the depth is searched too.
        tie_additions: Whether the two sides of a residual addition have one width. Otherwise each
            has its own, and a projection stands on the shortcut where these differ.
        input_shape: As `read` takes it.

    Raises:
        ModelError: If the model cannot be read.
        SpecError: If an argument makes no sense, or there are no channels to search.
    """
    if not tie_additions:
        model = untied(model, input_shape)
    return ModelSpace.of(
        read(model, input_shape),
        model,
        ratios=ratios,
        width_divisor=width_divisor,
        frozen=frozen,
        leave_out_branches=leave_out_branches,
    )


def untied(model: keras.Model, input_shape: Shape | Sequence[Shape] | None = None) -> keras.Model:
    """Returns a model of the same function that has a `Projection` on every residual shortcut.

    An addition stays tied if its sides are tied elsewhere too, or do not have one group of channels
    each; a model that has projections stays as it is.

    Args:
        model: A functional or Sequential model; it stays as it is.
        input_shape: As `read` takes it.

    Raises:
        ModelError: If the model cannot be read.
        SpecError: If there is no addition to untie.
    """
    graph = read(model, input_shape)
    if any(call.bypassed for call in graph.calls):
        return model
    additions = {branch.name for branch in graph.branches}
    while additions:
        projected = narrow(model, graph, {}, projected=additions)
        tied = _still_tied(read(projected, input_shape))
        if not tied:
            return projected
        additions -= tied
    raise SpecError(
        f"tie_additions: expected a model that has residual additions whose sides can have widths "
        f"of their own, to untie them. Received: {graph.name}"
    )


def _still_tied(graph: Graph) -> set[str]:
    """Returns the additions whose projection does not lie between two groups of channels."""
    found = set()
    for call in graph.calls:
        if not call.bypassed:
            continue
        ends = [graph.partition.form(ids[0]) for ids in (call.inputs, call.outputs)]
        whole = all(not form.constant and [*form.multiples.values()] == [1] for form in ends)
        if not whole or ends[0] == ends[1]:
            found.add(call.config["addition"])
    return found
