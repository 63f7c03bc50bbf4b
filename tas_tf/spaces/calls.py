"""Calls of operations: what is read of each, and what a rule says of its channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tas_tf.spaces.channels import channel_axis

Shape = tuple[int, ...]


class Opaque(Exception):
    """What an operation does to channels is not understood: those that it touches are frozen."""


@dataclasses.dataclass(frozen=True)
class Weight:
    """A variable of a layer.

    Args:
        name: Its name in the layer, such as `kernel`.
        shape: Its shape.
        trainable: Whether training changes it.
    """

    name: str
    shape: Shape
    trainable: bool


@dataclasses.dataclass(eq=False)
class Call:
    """One call of an operation.

    Args:
        path: Name of the layer, behind those of the models that it is nested in.
        operation: Number of the operation: a shared layer is called several times.
        first: Whether this is its first call.
        layer_class: Its class.
        config: Its configuration, by which it can be made anew.
        inputs: The ids of every tensor that it reads.
        input_shapes: Their shapes, without the batch.
        output_shapes: The shapes of what it writes, without the batch.
        read: The numbers of the tensors that it reads, by which they are told apart.
        written: The numbers of those that it writes.
        weights: Its variables.
        outputs: The ids of every tensor that it writes.
        axes: For variables by their index the ids along every axis; None along an axis whose length
            never changes.
        uses: For variables by their index how often each entry multiplies, for one example.
        resized: Fields of the configuration that are numbers of channels: the ids that are
            counted, or a shape some of whose lengths are such.
        bypassed: Whether it hands on what it reads in networks where that has as many channels as
            what it writes.
        counted: Whether the multiplications are known.
        reason: Why the channels that it touches are frozen, if they are.
    """

    path: str
    operation: int
    first: bool
    layer_class: type
    config: Mapping[str, Any]
    inputs: tuple[np.ndarray, ...]
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    read: tuple[int, ...]
    written: tuple[int, ...]
    weights: tuple[Weight, ...] = ()
    outputs: tuple[np.ndarray, ...] = ()
    axes: dict[int, tuple[np.ndarray | None, ...]] = dataclasses.field(default_factory=dict)
    uses: dict[int, int] = dataclasses.field(default_factory=dict)
    resized: dict[str, np.ndarray | tuple[np.ndarray | int, ...]] = dataclasses.field(
        default_factory=dict
    )
    bypassed: bool = False
    counted: bool = True
    reason: str = ""

    @property
    def kind(self) -> str:
        """Name of the class, such as `Conv2D`."""
        return self.layer_class.__name__

    def only(self) -> np.ndarray:
        """Returns the ids of the only tensor that it reads.

        Raises:
            Opaque: If it reads several.
        """
        if len(self.inputs) != 1:
            raise Opaque("it reads several tensors")
        return self.inputs[0]

    def reads(self) -> np.ndarray:
        """Returns the ids (C,) along the last axis of the only tensor that it reads.

        Raises:
            Opaque: If its channels are not there.
        """
        ids, shape = self.only(), self.input_shapes[0]
        if self.config.get("data_format") == "channels_first":
            raise Opaque("its data format is channels_first")
        if not shape or ids.size != shape[-1] or ids.shape[-1] != shape[-1]:
            raise Opaque("its channels are not along the last axis")
        return ids.reshape(-1)

    def label(self, name: str, *axes: np.ndarray | None) -> None:
        """Says which channels a variable has along its axes; None for axes of fixed length.

        Args:
            name: Name of the variable.
            axes: The ids along its last axes; those before have a fixed length.
        """
        index = self._index(name)
        shape = self.weights[index].shape
        axes = (None,) * (len(shape) - len(axes)) + axes
        for length, ids in zip(shape, axes, strict=True):
            if ids is not None and ids.shape != (length,):
                raise Opaque(f"its {name} has other axes than expected")
        self.axes[index] = axes

    def label_vectors(self, channels: np.ndarray) -> None:
        """Labels every variable whose last axis is as long as there are channels."""
        for index, weight in enumerate(self.weights):
            if weight.shape[-1:] == channels.shape:
                self.axes[index] = (*[None] * (len(weight.shape) - 1), channels)

    def multiply(self, name: str, uses: int) -> None:
        """Says how often each entry of a variable multiplies, for one example."""
        self.uses[self._index(name)] = uses

    def resize(self, field: str, ids: np.ndarray, shape: Shape | None = None) -> None:
        """Says that a field of the configuration is a number of channels, or a shape with one.

        Args:
            field: The field.
            ids: The ids that are counted.
            shape: The shape, if the field is one: `ids` are those of its tensor.
        """
        axis = channel_axis(ids)
        self.resized[field] = (
            ids.reshape(-1)
            if shape is None
            else tuple(ids.reshape(-1) if a == axis else n for a, n in enumerate(shape))
        )

    def _index(self, name: str) -> int:
        found = [index for index, weight in enumerate(self.weights) if weight.name == name]
        if len(found) != 1:
            raise Opaque(f"it has no {name}")
        return found[0]
