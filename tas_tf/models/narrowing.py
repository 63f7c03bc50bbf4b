"""Narrowed models: an ordinary Keras model that keeps some channels of another, and its weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import keras
import numpy as np

from tas_tf.errors import ArchitectureError
from tas_tf.models.projections import Projection
from tas_tf.models.traversal import Visit, graph_of, input_names, remade, traverse, unique
from tas_tf.spaces.calls import Call
from tas_tf.spaces.graph import Graph


def own_weights(call: Call, operation: Any) -> list[np.ndarray]:
    """Returns the weights that a layer has."""
    del call
    return [np.asarray(weight) for weight in operation.weights]


def narrow(
    model: keras.Model,
    graph: Graph,
    keep: Mapping[str, Sequence[int] | np.ndarray],
    weights: Callable[[Call, Any], Sequence[np.ndarray]] | None = own_weights,
    left_out: Collection[str] = (),
    projected: Collection[str] = (),
) -> keras.Model:
    """Builds a model that has only some channels of another, with the weights that they have.

    Layers are of the same kinds with the same names; nested models are laid out flat. Channels keep
    their order. Sizes that the model leaves open stay open. A `Projection` becomes a convolution or
    a dense layer, and falls away where both of its sides keep the same channels.

    Args:
        model: The model, which stays as it is.
        graph: What `reading.read` made of it.
        keep: By the names of groups the positions in them that are kept; a group that is missing
            is kept whole.
        weights: From a call and its layer to the whole layer's weights; None begins with new ones.
        left_out: The names of residual branches that are left out.
        projected: The names of residual branches whose shortcut gets a `Projection`.

    Raises:
        ArchitectureError: If the graph is not the model's, there is no such group, there are no
            such positions in it, or the sides of a projection keep other channels, equally many.
    """
    functional = graph_of(model)
    names = input_names(functional)
    narrowing = _Narrowing(graph, graph.partition.kept(keep), names, left_out, projected)
    inputs = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
        for name, tensor in zip(names, functional.inputs, strict=True)
    ]
    outputs = traverse(functional, inputs, narrowing.visit)
    narrowed = keras.Model(
        keras.tree.pack_sequence_as(functional.input, inputs),
        keras.tree.pack_sequence_as(functional.output, outputs),
        name=functional.name,
    )
    narrowing.check_end()
    if weights is not None:
        narrowing.take_weights(weights)
    return narrowed


def importance(model: keras.Model, graph: Graph, by: str = "scale") -> dict[str, np.ndarray]:
    """Returns the importance of the channels of every group, by its name, an array (n,) for each.

    It is the sum over the channels of a class, and over the layers that make or normalize them, of
    the magnitude of the scale of a batch normalization; in groups that have none, of the L1 norm of
    the kernel that writes the channel. Importances of one group are comparable to each other alone.
    Groups at the two sides of a projection have the sum of theirs: where both have one width they
    keep the same channels.

    Args:
        model: The model.
        graph: What `reading.read` made of it.
        by: `scale`; or `kernel`, the L1 norm in all groups.
    """
    totals = [graph.partition.summed(values) for values in magnitudes(model, graph)]
    names = [group.name for group in graph.groups]
    for stream in _streams(graph):
        places = [names.index(name) for name in stream]
        for of_groups in totals:
            total = np.sum([of_groups[place] for place in places], axis=0)
            for place in places:
                of_groups[place] = total
    return {
        group.name: of_scales if by == "scale" and of_scales.any() else of_norms
        for group, of_scales, of_norms in zip(graph.groups, *totals, strict=True)
    }


def _streams(graph: Graph) -> list[set[str]]:
    """Returns the groups that projections join, by their names."""
    streams: list[set[str]] = []
    for ends in graph.projections.values():
        joined = [stream for stream in streams if stream & {*ends}]
        streams = [stream for stream in streams if stream not in joined]
        streams.append({*ends}.union(*joined))
    return streams


def magnitudes(model: keras.Model, graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """Returns for every id (ids,) the scales that multiply it, and the norm of what writes it.

    Args:
        model: The model.
        graph: What `reading.read` made of it.
    """
    scales, norms = (np.zeros(len(graph.partition.owners)) for _ in range(2))
    for call, operation in zip(graph.calls, operations_of(model, graph), strict=True):
        for index, axes in call.axes.items() if call.first else ():
            values = np.abs(np.asarray(operation.weights[index], "float64"))
            scale = call.kind == "BatchNormalization" and call.weights[index].name == "gamma"
            for axis, ids in enumerate(axes):
                if ids is None:
                    continue
                if scale:
                    np.add.at(scales, ids, values)
                elif index in call.uses and graph.partition.owners[ids[0]] == call.path:
                    np.add.at(norms, ids, values.sum(tuple({*range(values.ndim)} - {axis})))
    return scales, norms


def most_important(
    importances: Mapping[str, np.ndarray], widths: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Returns the positions of the most important channels, as `narrow` takes them.

    Args:
        importances: As `importance` returns them.
        widths: How many to keep, by the names of groups.
    """
    return {name: np.sort(in_order(importances[name])[:width]) for name, width in widths.items()}


def in_order(importances: np.ndarray) -> np.ndarray:
    """Returns the positions (n,) of channels, the most important first; ties keep their order."""
    return np.argsort(-importances, kind="stable")


def operations_of(model: keras.Model, graph: Graph) -> list[Any]:
    """Returns the operation of every call of a graph.

    Raises:
        ArchitectureError: If the graph is not the model's.
    """
    return [visit.operation for visit in visits_of(model, graph)]


def visits_of(model: keras.Model, graph: Graph) -> list[Visit]:
    """Returns how every call of a graph stands in the model.

    Raises:
        ArchitectureError: If the graph is not the model's.
    """
    functional, visits = graph_of(model), _Checked(graph)
    found: list[Visit] = []

    def visit(visited: Visit) -> list[Any]:
        visits.call_of(visited)
        found.append(visited)
        return visited.outputs

    traverse(functional, functional.inputs, visit)
    visits.check_end()
    return found


class _Checked:
    """The calls of a graph, one after another, as long as they are a model's."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._left = list(reversed(graph.calls))

    def call_of(self, visit: Visit) -> Call:
        call = self._left.pop() if self._left else None
        shapes = [tuple(weight.shape) for weight in getattr(visit.operation, "weights", ())]
        expected = [weight.shape for weight in call.weights] if call else []
        if call is None or call.path != visit.path or shapes != expected:
            self._refuse(visit.path)
        return call

    def check_end(self) -> None:
        if self._left:
            self._refuse("the end")

    def _refuse(self, received: str) -> NoReturn:
        raise ArchitectureError(
            f"{self._graph.name}: expected the model that the graph was read from. "
            f"Received: one that differs at {received}"
        )


class _Narrowing:
    """The operations of a narrowed model, made while the model is traversed."""

    def __init__(
        self,
        graph: Graph,
        kept: np.ndarray,
        names: Sequence[str],
        left_out: Collection[str],
        projected: Collection[str],
    ):
        self._visits, self._kept = _Checked(graph), kept
        gone = [branch for branch in graph.branches if branch.name in left_out]
        self._gone = {id(graph.calls[place]) for branch in gone for place in branch.calls}
        self._shortcuts = {id(graph.calls[branch.addition]): branch.shortcut for branch in gone}
        self._projected = {
            id(graph.calls[branch.addition]): branch.shortcut
            for branch in graph.branches
            if branch.name in projected
        }
        self._names = set(names)
        self._made: dict[int, Any] = {}
        self._sources: list[tuple[Call, Any]] = []

    def visit(self, visit: Visit) -> Any:
        call = self._visits.call_of(visit)
        if id(call) in self._gone:
            return [None] * len(visit.outputs)
        if call.bypassed and self._keeps_alike(call):
            return visit.args[0]
        if id(call) in self._shortcuts:
            return keras.tree.flatten((visit.args, visit.kwargs))[self._shortcuts[id(call)]]
        if call.first:
            changed = {field: self._size(ids) for field, ids in call.resized.items()}
            name = self._name(visit)
            self._made[call.operation] = made(call, visit.operation, name, changed)
            self._sources.append((call, visit.operation))
        args, kwargs = visit.args, visit.kwargs
        if id(call) in self._projected:
            given = keras.tree.flatten((args, kwargs))
            shortcut = self._projected[id(call)]
            name = unique(f"{call.path.replace('/', '_')}_projection", self._names)
            layer = Projection(given[shortcut].shape[-1], addition=call.path, name=name)
            given[shortcut] = layer(given[shortcut])
            args, kwargs = keras.tree.pack_sequence_as((args, kwargs), given)
        return self._made[call.operation](*args, **kwargs)

    def check_end(self) -> None:
        self._visits.check_end()

    def take_weights(self, weights: Callable[[Call, Any], Sequence[np.ndarray]]) -> None:
        """Gives every layer the kept entries of the weights of the layer that it stands for."""
        for call, source in self._sources:
            if call.weights:
                values = [self._cut(call, i, w) for i, w in enumerate(weights(call, source))]
                made = self._made[call.operation]
                shapes = [weight.shape for weight in made.weights]
                made.set_weights(list(map(np.reshape, values, shapes)))

    def _keeps_alike(self, call: Call) -> bool:
        """Whether both sides of a projection keep the same channels."""
        reads, writes = (self._kept[ids].ravel() for ids in (call.inputs[0], call.outputs[0]))
        if (reads == writes).all():
            return True
        if reads.sum() == writes.sum():
            raise ArchitectureError(
                f"{call.path}: expected the same channels at both sides of a projection, where "
                f"equally many are kept. Received: {np.flatnonzero(reads).tolist()} and "
                f"{np.flatnonzero(writes).tolist()}"
            )
        return False

    def _cut(self, call: Call, index: int, values: np.ndarray) -> np.ndarray:
        for axis, ids in enumerate(call.axes.get(index, ())):
            if ids is not None:
                values = np.compress(self._kept[ids], values, axis=axis)
        return values

    def _size(self, field: np.ndarray | tuple[np.ndarray | int, ...]) -> Any:
        """Returns a number of channels, or a shape."""
        if isinstance(field, tuple):
            return tuple(self._size(n) if isinstance(n, np.ndarray) else n for n in field)
        return int(self._kept[field].sum())

    def _name(self, visit: Visit) -> str:
        """Returns a layer's own name, or if another has it that with the models around it."""
        name = visit.operation.name
        if name in self._names:
            name = visit.path.replace("/", "_")
        return unique(name, self._names)


def made(call: Call, operation: Any, name: str, changed: Mapping[str, Any]) -> Any:
    """Returns an operation made anew, without weights; of a `Projection` a layer of Keras' own.

    Args:
        call: Its first call.
        operation: The operation.
        name: Its new name.
        changed: Fields of the configuration that are to have other values.
    """
    if not call.bypassed:
        return remade(operation, name, changed)
    places, units = len(call.input_shapes[0]) - 1, changed["units"]
    if places not in (1, 2, 3):
        return keras.layers.Dense(units, use_bias=False, name=name)
    convolution = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)[places - 1]
    return convolution(units, 1, use_bias=False, name=name)
