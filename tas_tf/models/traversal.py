"""The walk through the graph of a Keras model: the one file that knows how Keras keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tas_tf.errors import ModelError


@dataclasses.dataclass(frozen=True)
class Visit:
    """A call of an operation on the way through a model.

    Args:
        operation: A layer, or an operation of `keras.ops`.
        path: Its name, behind those of the models that it is nested in.
        args: What it is called with: a value in place of every tensor.
        kwargs: Likewise by name.
        inputs: The tensors that it read when the model was made.
        outputs: The tensors that it wrote then.
    """

    operation: Any
    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[Any]
    outputs: list[Any]


def graph_of(model: Any) -> Any:
    """Returns the functional model that has a model's graph: its own, or that of a Sequential.

    Raises:
        ModelError: If it has none.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(f"expected a keras.Model. Received: {type(model).__name__}")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ModelError(
            f"{model.name}: expected a model whose input is known: begin it with "
            "keras.Input(shape), or call model.build((None, height, width, channels)) first"
        )
    functional = _functional(model)
    if functional is None:
        raise ModelError(
            f"{model.name} ({type(model).__name__}): expected a model that has a graph. A subclass "
            "of keras.Model with a `call` of its own has none: make it from "
            "keras.Model(inputs, outputs) or keras.Sequential; its layers can stay as they are"
        )
    return functional


def input_names(functional: Any) -> list[str]:
    """Returns the names of a functional model's inputs."""
    return [tensor._keras_history.operation.name for tensor in functional.inputs]


def last_operation(model: Any) -> Any:
    """Returns what writes a model's first output, within the models that are nested in it."""
    operation = graph_of(model).outputs[0]._keras_history.operation
    is_nested = isinstance(operation, keras.Model) and _functional(operation) is not None
    return last_operation(operation) if is_nested else operation


def softmax_of(operation: Any) -> str:
    """Returns how an operation ends in a softmax: `alone`, as its `activation`, or "" if not."""
    if type(operation).__name__ == "Softmax":
        return "alone"
    if getattr(operation, "activation", None) is not keras.activations.softmax:
        return ""
    return "alone" if isinstance(operation, keras.layers.Activation) else "activation"


def traverse(
    model: Any, values: Sequence[Any], visit: Callable[[Visit], Any], path: str = ""
) -> list[Any]:
    """Calls every operation of a model, nested models included, with values of any kind.

    Args:
        model: A model that has a graph.
        values: A value for each of its inputs.
        visit: Called in the order in which the model runs, which is always the same; returns the
            values of the outputs, in their structure.
        path: Put before the names of the operations.

    Returns:
        The values of the model's outputs.
    """
    functional = graph_of(model)
    known = dict(zip(map(id, functional.inputs), values, strict=True))
    for depth in sorted(functional._nodes_by_depth, reverse=True):
        for node in functional._nodes_by_depth[depth]:
            if node.is_input or any(id(tensor) not in known for tensor in node.input_tensors):
                continue
            args, kwargs = node.arguments.fill_in(known)
            operation, place = node.operation, f"{path}{node.operation.name}"
            if isinstance(operation, keras.Model) and _functional(operation) is not None:
                inner = keras.tree.flatten(args[0] if args else kwargs["inputs"])
                results = traverse(operation, inner, visit, f"{place}/")
            else:
                call = Visit(
                    operation=operation,
                    path=place,
                    args=args,
                    kwargs=kwargs,
                    inputs=node.input_tensors,
                    outputs=node.outputs,
                )
                results = keras.tree.flatten(visit(call))
            known.update(zip(map(id, node.outputs), results, strict=True))
    return [known[id(tensor)] for tensor in functional.outputs]


def readers(model: Any) -> list[list[Any]]:
    """Returns what reads every input of a model, and then what reads what every call writes.

    Calls are in the order of `traverse`. An operation that reads is there once for each time; None
    stands for an output of the model.

    Args:
        model: A model that has a graph.
    """
    functional = graph_of(model)
    found: list[list[Any]] = [[] for _ in functional.inputs]

    def visit(visited: Visit) -> list[_Written]:
        for value in keras.tree.flatten((visited.args, visited.kwargs)):
            if isinstance(value, _Written):
                value.readers.append(visited.operation)
        found.append([])
        return [_Written(found[-1]) for _ in visited.outputs]

    starts = [_Written(each) for each in found]
    for end in traverse(functional, starts, visit):
        end.readers.append(None)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Written:
    """What stands for a tensor where only its readers count."""

    readers: list[Any]


def unique(name: str, names: set[str]) -> str:
    """Returns a name, lengthened until no other is the same, and adds it to the others."""
    while name in names:
        name += "_"
    names.add(name)
    return name


def remade(operation: Any, name: str, changed: Mapping[str, Any]) -> Any:
    """Returns an operation made anew by its configuration, without the weights.

    Args:
        operation: A layer, or an operation of `keras.ops`.
        name: Its new name.
        changed: Fields of the configuration that are to have other values.
    """
    if isinstance(operation, keras.layers.Lambda):  # written down, its function would be code
        return keras.layers.Lambda(
            operation.function,
            output_shape=operation._output_shape,
            mask=operation.mask,
            arguments=operation.arguments,
            name=name,
            dtype=operation.dtype_policy,
        )
    config = {**operation.get_config(), **changed}
    if "name" in config:
        config["name"] = name
    activation = getattr(operation, "activation", None)
    if callable(activation) and not isinstance(config.get("activation", ""), str):
        config["activation"] = activation  # likewise
    made = type(operation).from_config(config)
    made.name = name
    return made


def _functional(model: Any) -> Any:
    """Returns the functional model that has the graph; None if a `call` of its own runs instead."""
    if not type(model).call.__module__.startswith("keras."):
        return None
    if isinstance(model, keras.Sequential):
        return model._functional
    return model if hasattr(model, "_nodes_by_depth") else None
