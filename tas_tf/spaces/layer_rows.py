"""Rows of a table of layers: what each layer is and costs, of one network or of two."""

from __future__ import annotations

import dataclasses

from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import layer_macs, layer_parameters


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """A layer as tables show it.

    Args:
        name: Its name.
        kind: `convolution`, `projection` or `classifier`.
        kernel: Height and width of its kernel.
        stride: Its stride.
        in_channels: Channels of its input.
        out_channels: Channels of its output.
        height: Height of its output.
        width: Width of its output.
        macs: Its multiply-accumulates.
        parameters: Its trainable parameters.
    """

    name: str
    kind: str
    kernel: tuple[int, int]
    stride: int
    in_channels: int
    out_channels: int
    height: int
    width: int
    macs: int
    parameters: int


def layer_rows(architecture: Architecture) -> dict[str, LayerRow]:
    """Returns a row for each layer of a network, by the layer's name."""
    return {
        layer.name: LayerRow(
            name=layer.name,
            kind=layer.kind,
            kernel=layer.kernel,
            stride=layer.stride,
            in_channels=in_channels,
            out_channels=out_channels,
            height=layer.size[0],
            width=layer.size[1],
            macs=layer_macs(layer, in_channels, out_channels),
            parameters=layer_parameters(layer, in_channels, out_channels),
        )
        for layer, in_channels, out_channels, _ in architecture.layers()
    }


def side_by_side(
    first: Architecture, second: Architecture
) -> dict[str, tuple[LayerRow | None, LayerRow | None]]:
    """Returns the rows of two networks by the layers' names; None where one lacks a layer.

    The order is one that both agree with: a layer that only one has follows what it follows there.
    """
    ours, theirs = layer_rows(first), layer_rows(second)
    names = list(ours)
    for before, name in zip([None, *theirs], theirs, strict=False):
        if name not in ours:
            names.insert(names.index(before) + 1 if before else 0, name)
    return {name: (ours.get(name), theirs.get(name)) for name in names}
