"""Graphs of calls that were written by hand: costs, and what becomes of calls that are refused."""

import numpy as np
import pytest

from tas_tf.errors import ArchitectureError
from tas_tf.spaces.calls import Call, Opaque, Weight
from tas_tf.spaces.graph import GraphBuilder
from tas_tf.spaces.operations import RULES, elementwise, per_channel, register


class Convolution:
    """Stands for Keras' layer where there is no Keras."""


class Vectors:
    pass


class Sum:
    pass


class Broken:
    pass


class Unknown:
    pass


register(Convolution, RULES["Conv2D"])
register(Vectors, per_channel)
register(Sum, elementwise)

BUILDER = {"use_bias": True, "groups": 1, "activation": "relu", "data_format": "channels_last"}


class Network:
    """A network that grows call by call; `x` are ids and a shape."""

    def __init__(self):
        self.builder = GraphBuilder()
        self.operations = 0

    def start(self, *shape):
        return self.builder.start(shape, "images"), shape

    def call(self, layer_class, name, *inputs, shape=None, weights=(), operation=None, **config):
        ids, shapes = zip(*inputs, strict=True)
        self.operations += operation is None
        call = Call(
            path=name,
            operation=self.operations if operation is None else operation,
            first=operation is None,
            layer_class=layer_class,
            config={**BUILDER, **config},
            inputs=ids,
            input_shapes=shapes,
            output_shapes=(shape or shapes[0],),
            read=(),
            written=(),
            weights=tuple(Weight(n, s, trainable) for n, s, trainable in weights),
        )
        return self.builder.add(call)[0], call.output_shapes[0]

    def convolution(self, name, x, filters, kernel=3, **config):
        reads = x[1][-1] // config.get("groups", 1)
        weights = [("kernel", (kernel, kernel, reads, filters), True), ("bias", (filters,), True)]
        shape = (*x[1][:-1], filters)
        return self.call(Convolution, name, x, shape=shape, weights=weights, **config)

    def finish(self, *outputs):
        return self.builder.finish("by hand", [ids for ids, _ in outputs], numbers=(), shapes=())


def test_costs_by_hand():
    network = Network()
    x = network.convolution("a", network.start(7, 5, 3), 8)
    vectors = [("gamma", (8,), True), ("moving_mean", (8,), False), ("count", (), False)]
    x = network.call(Vectors, "norm", x, weights=vectors)
    y = network.convolution("b", x, 6, kernel=1)
    graph = network.finish(network.convolution("c", network.call(Sum, "sum", y, y), 4))
    assert graph.partition.widths == {"a": 8, "b": 6}
    macs = 35 * (9 * 3 * 5 + 5 * 2 + 9 * 2 * 4)
    parameters = (9 * 3 * 5 + 5) + 5 + (5 * 2 + 2) + (9 * 2 * 4 + 4)
    assert graph.cost({"a": 5, "b": 2}) == macs
    assert graph.cost({"a": 5, "b": 2}, "parameters") == parameters
    assert graph.cost() == graph.cost({"a": 8, "b": 6}) == 35 * (9 * 3 * 8 + 8 * 6 + 9 * 6 * 4)
    assert sum(part.at({"a": 5, "b": 2}) for part in graph.products("macs")) == macs
    with pytest.raises(
        ArchitectureError, match="macs, parameters, memory are known. Received: 'x'"
    ):
        graph.cost(kind="x")
    with pytest.raises(ArchitectureError, match="expected a group of channels among a, b"):
        graph.cost({"c": 4})


def test_grouped_convolutions_by_hand():
    network = Network()
    x = network.convolution("a", network.start(2, 2, 3), 8)
    y = network.convolution("pairs", x, 12, groups=4)  # 2 of every group of 4
    z = network.convolution("each", y, 24, groups=12)  # whole groups, of a channel each
    graph = network.finish(network.convolution("c", z, 5))
    assert graph.partition.widths == {"a": 2, "pairs": 3}
    a, pairs = 4 * 1, 4 * 2
    macs = 4 * 9 * (3 * a + 1 * pairs + 1 * 2 * pairs + 2 * pairs * 5)
    assert graph.cost({"a": 1, "pairs": 2}) == macs


def test_shared_layers_have_their_parameters_once():
    network = Network()
    x = network.convolution("a", network.start(4, 4, 3), 6)
    x = network.convolution("shared", x, 6)
    number = network.operations
    graph = network.finish(network.convolution("shared", x, 6, operation=number))
    assert graph.frozen["shared"] == graph.frozen["a"] == "an output of the model"
    assert graph.cost() == 16 * 9 * 6 * (3 + 6 + 6)
    assert graph.cost(kind="parameters") == (9 * 3 * 6 + 6) + (9 * 6 * 6 + 6)


def failing(call, channels):
    channels.tie(call.reads(), channels.new((1,), call.path))
    raise Opaque("it is broken")


@pytest.mark.parametrize("layer_class", [Unknown, Broken])
def test_what_is_refused_freezes_what_it_touches_and_leaves_no_trace(layer_class):
    register(Broken, failing)
    network = Network()
    x = network.convolution("a", network.start(4, 4, 3), 6)
    y = network.convolution("b", x, 6)
    y = network.call(layer_class, "odd", y, weights=[("matrix", (6, 6), True)])
    graph = network.finish(network.convolution("c", y, 2))
    assert graph.partition.widths == {"a": 6}
    reason = "it is broken" if layer_class is Broken else "not understood"
    assert graph.frozen["b"] == f"read by odd ({layer_class.__name__}): {reason}"
    assert graph.frozen["odd"] == f"written by odd ({layer_class.__name__}): {reason}"
    assert graph.uncounted == (("odd",) if layer_class is Unknown else ())
    assert graph.cost({"a": 2}, "parameters") == (27 * 2 + 2) + (18 * 6 + 6) + 36 + (54 * 2 + 2)


def test_rules_must_label_every_variable():
    network = Network()
    x = network.convolution("a", network.start(4, 4, 3), 6)
    x = network.call(Vectors, "odd", x, weights=[("matrix", (6, 2), True)])
    graph = network.finish(network.convolution("c", x, 2))
    assert graph.frozen["a"] == "read by odd (Vectors): its variable matrix is not understood"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"data_format": "channels_first"}, "its data format is channels_first"),
        ({"use_bias": True, "activation": "relu", "weights": []}, "it has no kernel"),
    ],
)
def test_reasons(config, reason):
    network = Network()
    x = network.convolution("a", network.start(4, 4, 3), 6)
    weights = config.pop("weights", [("kernel", (1, 1, 6, 5), True), ("bias", (5,), True)])
    x = network.call(Convolution, "odd", x, shape=(4, 4, 5), weights=weights, **config)
    assert network.finish(x).frozen["a"] == f"read by odd (Convolution): {reason}"


def test_multiplications_of_a_refused_convolution_are_counted():
    network = Network()
    images = network.start(3, 4, 5)
    weights = [("kernel", (1, 1, 3, 6), True), ("bias", (6,), True)]
    first = {"data_format": "channels_first"}
    x = network.call(Convolution, "odd", images, shape=(6, 4, 5), weights=weights, **first)
    graph = network.finish(x)
    assert graph.cost() == 3 * 6 * 20 and graph.uncounted == ()


def test_unknown_sizes_are_named():
    network = Network()
    x = network.convolution("a", network.start(4, 4, 3), 6)
    x = network.call(Vectors, "norm", x, shape=(None, 4, 6), weights=[("gamma", (6,), True)])
    graph = network.finish(x)
    assert graph.frozen["a"].endswith("its sizes are unknown") and graph.uncounted == ("norm",)


def test_inputs_of_several_axes_are_refused():
    network = Network()
    a = network.convolution("a", network.start(4, 4, 3), 4)
    turned = np.transpose(a[0], (2, 0, 1)), (4, 4, 4)
    graph = network.finish(network.call(Sum, "sum", a, turned))
    assert graph.frozen["a"].endswith("its inputs have channels along different axes")
