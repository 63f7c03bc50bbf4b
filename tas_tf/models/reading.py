"""The reading of Keras models: from any functional or Sequential model to its labelled graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tas_tf.errors import ModelError
from tas_tf.models.traversal import Visit, graph_of, input_names, remade, traverse
from tas_tf.spaces.calls import Call, Weight
from tas_tf.spaces.graph import Graph, GraphBuilder

Shape = Sequence[int | None]


def read(model: keras.Model, input_shape: Shape | Sequence[Shape] | None = None) -> Graph:
    """Reads a model: which of its channels are kept or dropped together, and what they cost.

    Every tensor carries the ids of its channels through the model: nothing is run, and the model
    stays as it is. A layer that is not understood (`graph.frozen` says which and why) has its
    channels frozen; `operations.register` teaches it.

    Args:
        model: A functional or Sequential model.
        input_shape: Shape of the input without the batch, such as (height, width, channels), where
            the model leaves sizes open; several inputs have one each.

    Raises:
        ModelError: If the model has no graph, leaves sizes open, or has a layer that can neither
            be understood nor made anew.
    """
    return _Reader(graph_of(model), input_shape).graph


class _Reader:
    def __init__(self, functional: Any, input_shape: Shape | Sequence[Shape] | None):
        self._builder = GraphBuilder()
        self._operations: dict[int, int] = {}
        # Tensors by their identity, which holds as long as they live, and their ids.
        self._ids: dict[int, np.ndarray] = {}
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []
        starts = _starts(functional, input_shape)
        for name, start in zip(input_names(functional), starts, strict=True):
            self._carry(start, self._builder.start(start.shape[1:], name))
        ends = traverse(functional, starts, self._visit)
        self.graph = self._builder.finish(
            functional.name,
            [self._ids[id(end)] for end in ends],
            [self._number(end) for end in ends],
            [tuple(end.shape[1:]) for end in ends],
        )

    def _number(self, tensor: Any) -> int:
        return self._numbers.setdefault(id(tensor), len(self._numbers))

    def _carry(self, tensor: Any, ids: np.ndarray) -> None:
        self._ids[id(tensor)] = ids
        self._alive.append(tensor)

    def _visit(self, visit: Visit) -> list[Any]:
        given = keras.tree.flatten((visit.args, visit.kwargs))
        tensors = [value for value in given if isinstance(value, keras.KerasTensor)]
        outputs = _outputs(visit, tensors)
        call = self._call(visit, tensors, outputs)
        refusal = "a constant for each channel" if any(map(_several, given)) else ""
        for tensor, ids in zip(outputs, self._builder.add(call, refusal), strict=True):
            self._carry(tensor, ids)
        if call.reason and call.weights:
            _check_remade(visit.operation, call)
        return outputs

    def _call(self, visit: Visit, inputs: list[Any], outputs: list[Any]) -> Call:
        operation = visit.operation
        first = id(operation) not in self._operations
        number = self._operations.setdefault(id(operation), len(self._operations))
        return Call(
            path=visit.path,
            operation=number,
            first=first,
            layer_class=type(operation),
            config=_config(operation),
            inputs=tuple(self._ids[id(tensor)] for tensor in inputs),
            input_shapes=tuple(tuple(tensor.shape[1:]) for tensor in inputs),
            output_shapes=tuple(tuple(tensor.shape[1:]) for tensor in outputs),
            read=tuple(map(self._number, inputs)),
            written=tuple(map(self._number, outputs)),
            weights=tuple(
                Weight(weight.name, tuple(weight.shape), weight.trainable)
                for weight in getattr(operation, "weights", ())
            ),
        )


def _starts(functional: Any, input_shape: Shape | Sequence[Shape] | None) -> list[Any]:
    """Returns a model's inputs anew, with all sizes known.

    Args:
        functional: The model.
        input_shape: As `read` takes it.

    Raises:
        ModelError: If sizes are unknown, or those given do not fit.
    """
    names, tensors = input_names(functional), functional.inputs
    shapes = [tuple(tensor.shape[1:]) for tensor in tensors]
    if input_shape is not None:
        several = any(isinstance(part, (list, tuple)) for part in input_shape)
        given: Any = list(input_shape) if several else [input_shape]
        fits = len(given) == len(shapes) and all(map(_fits, given, shapes))
        if not fits:
            raise ModelError(f"expected input_shape to fit {shapes}. Received: {input_shape!r}")
        shapes = [tuple(shape) for shape in given]
    for name, shape in zip(names, shapes, strict=True):
        if None in shape:
            raise ModelError(
                f"{name}: expected an input of known size. Received: {shape}; give "
                "input_shape=(height, width, channels), or one such shape for each input"
            )
    return [
        keras.KerasTensor((tensor.shape[0], *shape), dtype=tensor.dtype)
        for tensor, shape in zip(tensors, shapes, strict=True)
    ]


def _fits(given: Shape, shape: Shape) -> bool:
    pairs = zip(given, shape, strict=False)
    return len(given) == len(shape) and all(n in (m, None) or m is None for n, m in pairs)


def _outputs(visit: Visit, tensors: list[Any]) -> list[Any]:
    """Returns tensors of the shapes that an operation writes, without running it."""
    if [tensor.shape for tensor in tensors] == [tensor.shape for tensor in visit.inputs]:
        return [keras.KerasTensor(tensor.shape, dtype=tensor.dtype) for tensor in visit.outputs]
    try:
        return keras.tree.flatten(visit.operation.compute_output_spec(*visit.args, **visit.kwargs))
    except Exception as error:  # of any kind: the layer may be the user's own
        shapes = [tuple(tensor.shape) for tensor in tensors]
        raise ModelError(f"{visit.path} does not take inputs of shapes {shapes}: {error}") from None


def _several(given: Any) -> bool:
    """Whether an argument is an array of several numbers that is no tensor of the model."""
    array = hasattr(given, "shape") and not isinstance(given, keras.KerasTensor)
    return array and math.prod(given.shape) > 1


def _config(operation: Any) -> dict[str, Any]:
    """Returns an operation's configuration; nothing of one that cannot be written down."""
    if isinstance(operation, keras.layers.Lambda):
        return {}
    try:
        return operation.get_config()
    except NotImplementedError:
        return {}


def _check_remade(operation: Any, call: Call) -> None:
    """Checks that a layer that is not understood can be put into another model."""
    try:
        remade(operation, operation.name, {})
    except Exception as error:  # of any kind: the layer is the user's own
        raise ModelError(
            f"{call.path} ({call.kind}): expected a layer that can be made anew from its "
            f"get_config(), by keras.Layer.from_config. Received: {error}"
        ) from None
