"""Networks whose maps are as wide as a device likes, by channels that are zero.

Odd widths run badly on most devices. A network whose kernels, scales and offsets are padded with
zeros computes the same function: its further channels are zero from the stem to the classifier,
whose kernel ignores them.
"""

from __future__ import annotations

import keras
import numpy as np

from tas_tf.architecture import Architecture
from tas_tf.cost import layer_macs
from tas_tf.padding import aligned_width
from tas_tf.spec_compiler import build_model


def aligned(model: keras.Model, architecture: Architecture, grain: int) -> keras.Model:
    """Returns a network of the same function whose widths are multiples of `grain`.

    Args:
        model: The network, of stock layers; it stays as it is.
        architecture: Its architecture, which is also the result's: projections stand where the
            true widths differ.
        grain: 1 or more.
    """
    wide = build_model(architecture, map_width=lambda width: aligned_width(width, grain))
    for source, target in zip(model.weights, wide.weights, strict=True):
        # The moving variance of a channel that is always zero: any but zero would do as well.
        value = np.full(target.shape, float(target.name == "moving_variance"), np.float32)
        value[tuple(slice(size) for size in source.shape)] = source.numpy()
        target.assign(value)
    return wide


def aligned_macs(architecture: Architecture, grain: int) -> int:
    """Returns the multiply-accumulates of a network whose widths are multiples of `grain`."""
    stem, classifier = architecture.outline.stem, architecture.outline.classifier
    return sum(
        layer_macs(
            layer,
            inside if layer == stem else aligned_width(inside, grain),
            outside if layer == classifier else aligned_width(outside, grain),
        )
        for layer, inside, outside, _ in architecture.layers()
    )
