"""Pieces of a model that was read as small models of their own, at any widths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from tas_tf.models.narrowing import made, visits_of
from tas_tf.spaces.calls import Call
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.pieces import PlacedPiece, Sizes


class PieceModels:
    """Builds the pieces of a space's networks.

    Args:
        space: The search space.

    Raises:
        ArchitectureError: If its graph is not that of its model.
    """

    def __init__(self, space: ModelSpace):
        self._graph = space.graph
        self._visits = visits_of(space.model, space.graph)

    def build(self, placed: PlacedPiece, widths: Sequence[int]) -> keras.Model:
        """Returns a piece as a model of one input, with new weights.

        A piece that reads several tensors has the largest as its input. The others are what that
        one begins with: tensors of one shape are the same.

        Args:
            placed: The piece where it stands.
            widths: The values of its axes.
        """
        calls = [self._graph.calls[place] for place in placed.places]
        sizes = Sizes(self._graph, calls)
        shapes = _read_shapes(calls, sizes, widths)
        images = keras.Input(max(shapes.values(), key=math.prod))
        tensors = {number: _beginning(images, shape) for number, shape in shapes.items()}
        outputs: list[Any] = []
        for place, call in zip(placed.places, calls, strict=True):
            visit, read = self._visits[place], iter(call.read)
            changed = {field: _resized(ids, sizes, widths) for field, ids in call.resized.items()}
            operation = made(call, visit.operation, f"call{place}", changed)
            args, kwargs = keras.tree.map_structure(
                lambda value, of=read: (
                    tensors[next(of)] if isinstance(value, keras.KerasTensor) else value
                ),
                (visit.args, visit.kwargs),
            )
            outputs = keras.tree.flatten(operation(*args, **kwargs))
            tensors.update(zip(call.written, outputs, strict=True))
        return keras.Model(images, outputs[0])


def _read_shapes(
    calls: Sequence[Call], sizes: Sizes, widths: Sequence[int]
) -> dict[int, tuple[int, ...]]:
    """Returns the shapes of the tensors that calls read from outside, by their numbers."""
    written = {number for call in calls for number in call.written}
    return {
        number: sizes.shape(ids, shape, widths)
        for call in calls
        for number, ids, shape in zip(call.read, call.inputs, call.input_shapes, strict=True)
        if number not in written
    }


def _beginning(images: Any, shape: tuple[int, ...]) -> Any:
    """Returns as many of a tensor's first entries as a shape has."""
    if images.shape[1:] == shape:
        return images
    flat = keras.ops.reshape(images, (-1, math.prod(images.shape[1:])))
    return keras.ops.reshape(flat[:, : math.prod(shape)], (-1, *shape))


def _resized(field: Any, sizes: Sizes, widths: Sequence[int]) -> Any:
    """Returns a field of a configuration: a number of channels, or a shape with one."""
    if isinstance(field, tuple):
        return tuple(n if isinstance(n, int) else sizes.at(n, widths) for n in field)
    return sizes.at(field, widths)
