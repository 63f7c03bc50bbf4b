"""Models that read blue, green, red, made to read red, green, blue."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tas_tf.errors import ModelError
from tas_tf.models.narrowing import narrow, own_weights
from tas_tf.models.reading import read
from tas_tf.models.traversal import graph_of, input_names
from tas_tf.spaces.calls import Call


def reversed_channels(model: keras.Model) -> keras.Model:
    """Returns a model that gives for images what another gives for those of reversed channels.

    Only weights change: whatever has an entry for each channel of the images.

    Args:
        model: A model of one input of images with channels last; it stays as it is.

    Raises:
        ModelError: If what reads the images is not understood.
    """
    graph = read(model)
    (name,) = input_names(graph_of(model))
    ids = np.flatnonzero(np.array(graph.partition.owners) == name)
    for call in graph.calls:
        if call.reason and any(np.isin(ids, given).any() for given in call.inputs):
            raise ModelError(
                f"{model.name}: expected a model whose reading of images is understood, to reverse "
                f"its channels. Received: {call.reason}"
            )

    def weights(call: Call, operation: Any) -> list[np.ndarray]:
        values = own_weights(call, operation)
        for index, axes in call.axes.items():
            for axis, of_axis in enumerate(axes):
                if of_axis is None:
                    continue
                places = np.arange(len(of_axis))
                own = np.isin(of_axis, ids)
                # Where images are flattened, all channels of a place stand together.
                places[own] = places[own].reshape(-1, len(ids))[:, ::-1].reshape(-1)
                values[index] = np.take(values[index], places, axis=axis)
        return values

    return narrow(model, graph, {}, weights)
