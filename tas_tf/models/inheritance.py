"""Inheritance between networks: channels in order of importance, weights of a supernet."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tas_tf.layers.normalization import EPSILON
from tas_tf.layers.searchable_unit import SearchableUnit
from tas_tf.models.supernet import Supernet
from tas_tf.spaces.architecture import Architecture


def order_channels(
    model: keras.Model,
    architecture: Architecture,
    importance: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Puts the channels of a network in order of importance, most important first, in place.

    A channel's importance is the sum over the layers that write to it. All blocks of a residual
    stream share one order, so the network's function stays the same: a candidate of a supernet
    that starts from it keeps the most important channels.

    Args:
        model: A trained network, as `spec_compiler.build_model` makes it.
        architecture: Its architecture; the widths along a stage's residual stream are equal.
        importance: For each layer by its name the importance of its output channels (C,), zeros
            where it is missing; None takes the magnitudes of the scales.

    Returns:
        For each layer by its name the earlier indices of its channels (C,), in the new order.
    """
    orders = _Orders(model, scale_magnitudes(model) if importance is None else importance)
    outline = architecture.outline
    for writers in _streams(architecture):
        orders.share(writers)
    # `source` is the order of the channels that the next layer reads.
    source = orders.apply(outline.stem.name, None)
    for block in itertools.chain.from_iterable(outline.stages):
        entry = source
        for layer in block.units:
            source = orders.apply(layer.name, source)
        if orders.has(block.projection.name):
            orders.apply(block.projection.name, entry)
    classifier = model.get_layer(outline.classifier.name)
    kernel, bias = classifier.get_weights()
    classifier.set_weights([kernel[source], bias])
    return orders.applied


def scale_magnitudes(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the magnitudes of the scales (C,) behind every layer that has a normalization."""
    return {
        layer.name.removesuffix("_bn"): np.abs(layer.get_weights()[0])
        for layer in model.layers
        if layer.name.endswith("_bn")
    }


def _streams(architecture: Architecture) -> list[list[str]]:
    """Returns the layers that write to each residual stream, a list for every stream."""
    outline = architecture.outline
    streams = [[outline.stem.name]]
    channels = architecture.stem_width
    for stage, widths in zip(outline.stages, architecture.stages, strict=True):
        for block, block_widths in zip(stage, widths, strict=True):
            if block.needs_projection(channels, block_widths[-1]):
                streams.append([block.projection.name])
            streams[-1].append(block.units[-1].name)
            channels = block_widths[-1]
    return streams


class _Orders:
    """The order of every layer's output channels, and its application."""

    def __init__(self, model: keras.Model, importance: Mapping[str, np.ndarray]):
        self._layers = {layer.name: layer for layer in model.layers}
        self._importance = importance
        self._shared: dict[str, np.ndarray] = {}
        self.applied: dict[str, np.ndarray] = {}

    def has(self, name: str) -> bool:
        return name in self._layers

    def share(self, writers: list[str]) -> None:
        """Gives the layers that write to one stream the order of their summed importance."""
        order = self._order(writers)
        self._shared.update(dict.fromkeys(writers, order))

    def apply(self, name: str, source: np.ndarray | None) -> np.ndarray:
        """Permutes a layer's input by `source`, its output by its own order; returns that."""
        order = self._shared.get(name)
        if order is None:
            order = self._order([name])
        (kernel,) = self._layers[name].get_weights()
        kernel = kernel if source is None else kernel[:, :, source]
        self._layers[name].set_weights([kernel[..., order]])
        if self.has(f"{name}_bn"):
            normalization = self._layers[f"{name}_bn"]
            normalization.set_weights([vector[order] for vector in normalization.get_weights()])
        self.applied[name] = order
        return order

    def _order(self, writers: list[str]) -> np.ndarray:
        total = np.zeros(self._layers[writers[0]].kernel.shape[-1])
        for name in writers:
            total += self._importance.get(name, 0)
        return np.argsort(-total, kind="stable")


def inherit_weights(model: keras.Model, architecture: Architecture, supernet: Supernet) -> None:
    """Gives a derived network the weights that its architecture has in a supernet, in place.

    Kernels are cut to the kept channels, normalizations are those of the kept candidates. A
    projection that stands only because two widths differ begins as the identity over the channels
    that they share. One that has no normalization takes the supernet's scale into its kernel; the
    offset goes to the normalization of the block's last unit, to which the projection is added.

    Args:
        model: The derived network, as `spec_compiler.build_model` makes it.
        architecture: Its architecture, of the supernet's space.
        supernet: The trained supernet.
    """
    units = {unit.name: unit for unit in supernet.units + supernet.projections}
    layers = {layer.name: layer for layer in model.layers}
    last: Any = None  # the normalization before
    for layer, in_channels, out_channels, _ in architecture.layers():
        if layer.kind == "classifier":
            kernel = supernet.classifier_kernel.numpy()[:in_channels]
            layers[layer.name].set_weights([kernel, supernet.classifier_bias.numpy()])
            continue
        normalization = layers.get(f"{layer.name}_bn")
        if layer.name not in units:
            kernel = np.eye(in_channels, out_channels, dtype="float32")[None, None]
            layers[layer.name].set_weights([kernel])
            continue
        kernel, vectors = _kept_channels(units[layer.name], in_channels, out_channels)
        if normalization is not None:
            normalization.set_weights(vectors)
        else:
            scale, offset, mean, variance = vectors
            factor = scale / np.sqrt(variance + EPSILON)
            kernel = kernel * factor
            last.beta.assign_add(offset - factor * mean)
        layers[layer.name].set_weights([kernel])
        last = normalization


def _kept_channels(
    unit: SearchableUnit, in_channels: int, out_channels: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns kernel, and scale, offset, mean and variance, of one candidate of a unit."""
    candidate = unit.candidates.index(out_channels)
    kernel = unit.kernel.numpy()[:, :, :in_channels, :out_channels]
    variables = (unit.scale, unit.offset, unit.moving_mean, unit.moving_variance)
    row = min(candidate, len(unit.row_mask) - 1)  # all share one where none has its own
    return kernel, [variable.numpy()[row, :out_channels] for variable in variables]
