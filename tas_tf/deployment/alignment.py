"""Alignment of widths: channels of zeros make maps as wide as a device likes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tas_tf.deployment import runners
from tas_tf.deployment.formats import FORMATS
from tas_tf.errors import SpecError
from tas_tf.layers.padding import aligned_width
from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import layer_macs

AUTO = "auto"
GRAINS = (1, 4, 8, 16)  # what `auto` chooses from
LARGEST_GRAIN = 64
# Zeros are worth it where they save this share of the time: less is noise, and costs memory.
_LEAST_GAIN = 0.05


def parse_align(align: int | str) -> int | str:
    """Returns a grain, or `auto`, from what a flag or a binding says.

    Raises:
        SpecError: If it is neither.
    """
    text = str(align).strip()
    if text == AUTO:
        return AUTO
    if not isinstance(align, bool) and text.isdecimal() and 1 <= int(text) <= LARGEST_GRAIN:
        return int(text)
    raise SpecError(
        f"expected a whole number from 1 to {LARGEST_GRAIN}, such as 8, or {AUTO}. "
        f"Received: {align!r}",
        field="align",
    )


def align_widths(model: keras.Model, architecture: Architecture, grain: int) -> keras.Model:
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


def fastest(
    model: keras.Model, architecture: Architecture, runtime: str, seconds: float = 5.0
) -> tuple[int, dict[str, Any]]:
    """Returns the grain with which a network runs fastest here, and what was measured.

    The true widths stay where no other is clearly faster.

    Args:
        model: The network.
        architecture: Its architecture.
        runtime: One of `formats.RUNTIMES`.
        seconds: About how long the candidates are timed, in turn.
    """
    batch_size = threads = 1
    # Of grains that give the same widths the smallest stands for all.
    grains = {aligned_macs(architecture, grain): grain for grain in reversed(GRAINS)}
    models = {grain: align_widths(model, architecture, grain) for grain in sorted(grains.values())}
    times = runners.time_models(models, runtime, batch_size, threads, seconds)
    medians = {grain: of_grain.median_ms for grain, of_grain in times.items()}
    best, true = min(medians, key=medians.__getitem__), min(medians)
    if medians[best] > (1 - _LEAST_GAIN) * medians[true]:
        best = true
    return best, {
        "batch_size": batch_size,
        "threads": "TensorFlow's" if FORMATS[runtime].by_tensorflow else threads,
        "median_ms": {str(grain): median for grain, median in medians.items()},
    }
