"""LiteRT networks at other widths: a file says the new sizes, and nothing is converted again."""

from __future__ import annotations

import math
from collections.abc import Mapping

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"


def at_widths(content: bytes, widths: Mapping[int, int]) -> bytes:
    """Returns a LiteRT file at other widths, as the converter would give it.

    Its constants are those of the file, repeated as often as they are needed: what they are changes
    no time. A conversion takes a hundred times as long.

    Args:
        content: The file, of one graph. The widths that change occur as no other size in it.
        widths: What takes the place of each.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    constants: dict[int, np.ndarray] = {}
    for tensor in graph.tensors:
        shape = [int(size) for size in tensor.shape]
        tensor.shape = [widths.get(size, size) for size in shape]
        data = model.buffers[tensor.buffer].data
        if data is not None:
            count = len(data) * math.prod(tensor.shape) // math.prod(shape)
            constants[tensor.buffer] = np.resize(data, count)
        ranges = tensor.quantization
        if ranges is not None and ranges.scale is not None:
            count = widths.get(len(ranges.scale), len(ranges.scale))
            ranges.scale = np.resize(ranges.scale, count)
            ranges.zeroPoint = np.resize(ranges.zeroPoint, count)
    for index, constant in constants.items():
        model.buffers[index].data = constant
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())
