"""MACs counted by TensorFlow's own profiler, in the graph that is served.

`tf.compat.v1.profiler` counts float operations by node, two for a multiply-accumulate. Those of
`Conv2D` and `MatMul` are twice our MACs, exactly. It counts more besides, which MACs leave out:
- `Mul`, `AddV2`, `Sub`, `Rsqrt`: batch normalization in inference, written as `x * scale + shift`
  with scale and shift computed from the four vectors of each normalization; `AddV2` also the
  addition of the shortcut, `Mul` and `AddV2` in an exported graph also the preprocessing.
- `AvgPool`, `MaxPool`: a projection's pooling and that behind the ImageNet stem, the size of the
  window for each output. `Mean`: global average pooling, one for each input.
- `BiasAdd`: the classifier's bias. `Softmax`, `ArgMax`, in an exported graph: its probabilities
  and its class; `Maximum`: how many images an empty batch lacks.
ReLU, padding and casts count for nothing.
"""

import keras
import numpy as np
import pytest
import small_runs
import tensorflow as tf
from networks import ALL, reference_networks
from parity import check
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tas_tf.deployment.saved_model import write_saved_model
from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces.cost import cost

MACS = {"Conv2D", "MatMul"}
NORMALIZATION = {"Mul", "AddV2", "Sub", "Rsqrt"}
POOLING = {"AvgPool", "MaxPool", "Mean"}
REST = NORMALIZATION | POOLING | {"BiasAdd", "Softmax", "ArgMax", "Maximum"}

# Beyond so many layers Keras takes seconds to build a network, as do ImageNet's large arrays.
DEEP = 35


@pytest.fixture(autouse=True)
def zeros(monkeypatch):
    """Only shapes matter here: zeros are made faster than random numbers."""
    monkeypatch.setattr(
        keras.initializers.VarianceScaling,
        "__call__",
        lambda self, shape, dtype=None: tf.zeros(shape, dtype),
    )
    yield
    keras.backend.clear_session()


def float_operations(function, shape, dtype) -> dict[str, int]:
    """Returns float operations by type of node, of a function of one image in a frozen graph."""
    traced = tf.function(function).get_concrete_function(tf.TensorSpec((1, *shape), dtype))
    graph = convert_variables_to_constants_v2(traced).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    # A chain: each type of node is the child of the one before.
    node = tf.compat.v1.profiler.profile(graph, cmd="op", options=options)
    counts = {}
    while node.children:
        (node,) = node.children
        counts[node.name] = node.float_ops
    return counts


def macs_of(counts: dict[str, int]) -> float:
    """Returns the MACs among float operations, after all others are accounted for."""
    assert set(counts) <= MACS | REST
    return sum(counts[name] for name in MACS) / 2


def is_large(architecture) -> bool:
    return architecture.num_classes == 1000 or len(list(architecture.layers())) > DEEP


@pytest.mark.parametrize("large", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_reference_networks(reference_dir, large):
    for _, architecture, macs, _ in reference_networks(reference_dir):
        if is_large(architecture) == large:
            model = build_model(architecture)
            counts = float_operations(
                lambda images, model=model: model(images, training=False),
                architecture.input_shape,
                tf.float32,
            )
            difference = abs(macs_of(counts) - macs)
            check("architectures.json", "MACs by TensorFlow's profiler", difference, 0)
            keras.backend.clear_session()


def exported_counts(architecture, path: str) -> dict[str, int]:
    """Returns float operations of the signature of a SavedModel, as it is loaded."""
    images = np.zeros((2, *architecture.input_shape), np.uint8)
    model = build_model(architecture)
    model.get_layer("classifier").bias.assign(np.ones(architecture.num_classes))
    write_saved_model(small_runs.classifier(model), path, images)
    loaded = tf.saved_model.load(path)
    return float_operations(
        lambda images: loaded.signatures["serving_default"](images=images),
        architecture.input_shape,
        tf.uint8,
    )


def test_exported_graph_of_a_published_network(reference_dir, tmp_path):
    found = {name: rest for name, *rest in reference_networks(reference_dir)}
    architecture, macs, _ = found["cifar100-resnet20"]
    counts = exported_counts(architecture, str(tmp_path / "saved"))
    difference = abs(macs_of(counts) - macs)
    check("architectures.json", "MACs by the profiler, loaded SavedModel", difference, 0)


@pytest.mark.parametrize("name", ALL)
def test_exported_graphs_of_odd_networks(name, tmp_path):
    counts = exported_counts(ALL[name], str(tmp_path / "saved"))
    assert macs_of(counts) == cost(ALL[name], "macs")
    assert counts["BiasAdd"] == ALL[name].num_classes
