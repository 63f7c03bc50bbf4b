"""All models of keras.applications: read, counted, narrowed; a table of them is printed."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from masking import (
    TOLERANCE,
    calibrate,
    check_model,
    counted,
    half_keep,
    inputs_of,
    randomize,
)

import tas_tf
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.reading import read

# The smallest image that every family takes; the first model of a family is also narrowed.
FAMILIES = {
    ("VGG16", "VGG19"): 32,
    ("ResNet50", "ResNet101", "ResNet152"): 32,
    ("ResNet50V2", "ResNet101V2", "ResNet152V2"): 32,
    ("DenseNet121", "DenseNet169", "DenseNet201"): 32,
    ("InceptionV3",): 75,
    ("InceptionResNetV2",): 75,
    ("Xception",): 71,
    ("MobileNet",): 32,
    ("MobileNetV2",): 32,
    ("MobileNetV3Small", "MobileNetV3Large"): 32,
    ("NASNetMobile", "NASNetLarge"): 32,
    tuple(f"EfficientNetB{n}" for n in range(8)): 32,
    tuple(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")): 32,
    tuple(f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")): 32,
}
SIZES = {name: size for names, size in FAMILIES.items() for name in names}
FIRST = [names[0] for names in FAMILIES]


def build(name):
    """A model as people take it but for its weights, and for the softmax, which hides errors."""
    make, size = getattr(keras.applications, name), SIZES[name]
    return make(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)


@pytest.fixture(scope="module")
def rows(request):
    """Rows of the table, which is printed when all are there."""
    found = []
    yield found
    heads = "model px calls groups searched frozen half/all reading error".split()
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print()
        for line in [heads, *found]:
            print("|", " | ".join(map(str, line)), "|")


def row(name, model, graph, error):
    """What is told of a model: shares are of the MACs, reading is in seconds."""
    start = time.process_time()
    read(model)
    seconds = time.process_time() - start
    half = {group.name: max(1, group.width // 2) for group in graph.groups}
    return [
        name,
        SIZES[name],
        len(graph.calls),
        len(graph.groups),
        sum(group.width for group in graph.groups),
        len(graph.frozen) - 2,  # besides input and output
        f"{graph.cost(half) / graph.cost():.2f}",
        f"{seconds:.2f}",
        error,
    ]


def test_every_model_has_its_place():
    offered = {name for name in dir(keras.applications) if isinstance(make(name), type(build))}
    assert offered == {*SIZES}


def make(name):
    return getattr(keras.applications, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST)
def test_families(name, rows):
    keras.backend.clear_session()
    model = build(name)
    graph, error = check_model(model)
    rows.append(row(name, model, graph, f"{error:.0e}"))
    assert len(graph.groups) > 10 and graph.uncounted == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*SIZES} - {*FIRST}))
def test_larger_models(name, rows):
    keras.backend.clear_session()
    model = build(name)
    graph = read(model)
    assert (graph.cost(), graph.cost(kind="parameters")) == counted(model)
    assert set(half_keep(model, graph)) == {group.name for group in graph.groups}
    rows.append(row(name, model, graph, "not narrowed"))


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST)
def test_supernets_compute_what_is_derived(name):
    model = build(name)
    rng = np.random.default_rng(0)
    randomize(model, rng)
    inputs = inputs_of(model, rng, count=16)  # statistics of few values let rounding errors grow
    calibrate(model, inputs)
    net = tas_tf.Supernet(tas_tf.SearchSpace.from_model(model, leave_out_branches=True))
    picks = [rng.integers(len(choice.candidates)) for choice in net.space.choices]
    architecture = net.space.architecture(picks, [rng.integers(2) for _ in net.space.branches])
    output = np.asarray(net(inputs, net.fixed_draw(architecture)))
    for source in (net, model):
        small = tas_tf.build_model(architecture, start_from=source)
        expected = np.asarray(small(inputs, training=False))
        assert np.abs(output - expected).max() < TOLERANCE * np.abs(expected).max()
    depths = net.depth_logits if net.space.branches else net.width_logits
    with tf.GradientTape() as tape:
        draw = net.draw(tf.constant(1.0), tf.constant([1, 2]))
        loss = tf.reduce_sum(tf.square(net(inputs, draw, mode=Mode.ARCHITECTURE)))
    for gradient in map(np.asarray, tape.gradient(loss, [net.width_logits.value, depths.value])):
        assert np.isfinite(gradient).all() and np.abs(gradient).max(axis=1).all()
