"""Files at other widths: those that the converter would give."""

import itertools

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tas_tf.deployment import litert, litert_int8
from tas_tf.deployment.latency_runners import Loader, Setting
from tas_tf.deployment.latency_subjects import subjects_of
from tas_tf.deployment.litert_widths import at_widths
from tas_tf.spaces.search_space import SearchSpace


def told(content: bytes) -> list:
    """Returns all that a file says but for values and names."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    places = {"inputs": graph.inputs, "outputs": graph.outputs}
    facts: list = [{name: list(each) for name, each in places.items()}]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        options = operator.builtinOptions
        facts.append((code.builtinCode, vars(options) if options else None))
        # By what they are: constants may stand in another order.
        for index in (*operator.inputs, *operator.outputs):
            facts.append(None if index < 0 else of_tensor(model, graph.tensors[index]))
    return facts


def of_tensor(model, tensor) -> tuple:
    data, ranges = model.buffers[tensor.buffer].data, tensor.quantization
    scales = None if ranges is None or ranges.scale is None else len(ranges.scale)
    return list(tensor.shape), tensor.type, None if data is None else len(data), scales


@pytest.mark.parametrize("implementation", [litert, litert_int8])
def test_layers_at_other_widths_are_those_of_the_converter(implementation):
    space = SearchSpace.resnet(18, 7, (33, 37, 3), family="imagenet_resnet")
    subjects = subjects_of(space)
    kinds = {(layer.kind, layer.stride, layer.relu): layer for layer in subjects.grids}
    assert len(kinds) >= 5
    for layer in kinds.values():
        stand_ins = subjects.stand_ins(layer)
        axes = subjects.grids[layer]
        assert all(n == axis[0] or len(axis) > 1 for n, axis in zip(stand_ins, axes, strict=True))
        content = implementation.content(subjects.build(layer, stand_ins), 2, None)
        widths = tuple(axis[len(axis) // 2] for axis in axes)
        resized = at_widths(content, dict(zip(stand_ins, widths, strict=True)))
        expected = implementation.content(subjects.build(layer, widths), 2, None)
        assert told(resized) == told(expected) != told(content)
        runner = litert.LiteRTRunner(resized, threads=1)
        assert runner.input_shape == (2, *layer.in_size, widths[0])
        runner.load(np.ones(runner.input_shape, np.float32))
        runner.run()
        assert np.all(np.isfinite(runner.logits()))


def test_a_part_is_converted_once_for_all_its_widths(monkeypatch):
    converted = []
    real = litert.content
    monkeypatch.setattr(litert, "content", lambda *how: converted.append(1) or real(*how))
    subjects = subjects_of(SearchSpace.resnet(8, 10, (8, 8, 1)))
    loader = Loader(subjects, Setting("litert", 3, 1))
    layer, axes = list(subjects.grids.items())[1]
    for widths in itertools.islice(itertools.product(*axes), 5):
        runner = loader.part(layer, widths)
        assert runner.input_shape == (3, 8, 8, widths[0])
    assert len(converted) == 1
