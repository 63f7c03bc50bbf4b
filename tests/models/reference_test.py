"""Agreement with the reference numbers, all elements; see the reference's README for formats."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity import check, distance, fixtures, relative, space_of
from plain import PlainSupernet

from tas_tf.experiments.common import computing_in
from tas_tf.layers.interpolation import interpolate
from tas_tf.layers.sampling import Draw
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.models.supernet import Supernet
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.expected_cost import CostModel
from tas_tf.training.losses import cross_entropy


def test_interpolation(reference_dir):
    for file, arrays in fixtures(reference_dir, "channel_interpolation*.npz").items():
        for width, channels in arrays["pairs"]:
            key = f"{width}_{channels}"
            x = tf.constant(arrays[f"x_{key}"])
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = interpolate(x, int(channels))
                value = tf.reduce_sum(y * arrays[f"w_{key}"])
            gradient = tape.gradient(value, x)
            check(file, "interpolation", relative(y, arrays[f"y_{key}"]), 1e-6)
            error = relative(gradient, arrays[f"dx_{key}"])
            check(file, "interpolation: gradient", error, 1e-6)


# Names of the reference's units, in the order of ours.
UNIT_NAMES = {
    "basic": ("conv_a", "conv_b"),
    "bottleneck": ("conv_1x1", "conv_3x3", "conv_1x4"),
}


def our_names(block, blocks_per_stage, projection="downsample"):
    """Returns {name in the reference: our name} of units and projections."""
    names = {"layers.0": "stem"}
    layer = 1
    for stage, count in enumerate(blocks_per_stage):
        for b in range(count):
            prefix = f"stage{stage + 1}_block{b + 1}"
            for number, unit in enumerate(UNIT_NAMES[block]):
                names[f"layers.{layer}.{unit}"] = f"{prefix}_conv{number + 1}"
            names[f"layers.{layer}.{projection}"] = f"{prefix}_projection"
            layer += 1
    return names


def loaded_supernet(arrays, make, **options):
    """Returns the supernet with the reference's weights, and its layers by the reference's name."""
    space = space_of(arrays)
    supernet = make(space, **options)
    layers = {layer.name: layer for layer in supernet.units + supernet.projections}
    names = our_names(space.block, space.blocks_per_stage)
    members = {ref: layers[name] for ref, name in names.items() if name in layers}
    used = set()
    for reference_name, unit in members.items():
        key = f"weight/{reference_name}.conv.weight"
        used.add(key)
        unit.kernel.assign(arrays[key])
        scale, offset = np.zeros(unit.scale.shape), np.zeros(unit.scale.shape)
        for k, width in enumerate(unit.candidates):
            for vectors, name in ((scale, "weight"), (offset, "bias")):
                key = f"weight/{reference_name}.BNs.{k}.{name}"
                used.add(key)
                vectors[k, :width] = arrays[key]
        unit.scale.assign(scale)
        unit.offset.assign(offset)
    rest = {key for key in arrays if key.startswith("weight/")} - used
    kernel = next(key for key in rest if arrays[key].ndim == 2)
    (bias,) = rest - {kernel}
    supernet.classifier_kernel.assign(arrays[kernel])
    supernet.classifier_bias.assign(arrays[bias])
    gradients = {f"grad/{name}.conv.weight": unit.kernel for name, unit in members.items()}
    gradients[kernel.replace("weight/", "grad/", 1)] = supernet.classifier_kernel
    gradients[bias.replace("weight/", "grad/", 1)] = supernet.classifier_bias
    return supernet, gradients


# How far bfloat16 may differ, for each layer of a network. Every layer rounds its map to 8 bits, a
# relative 2**-9. Rounding alone would add up as a root of the depth. But each batch normalization
# divides by the deviation of a map that holds the errors of all layers before, and each ReLU lets
# another share of them through: the error of a logit grows with the depth itself. Supernets with
# random weights, three draws each, largest error of a logit relative to the largest logit, in
# float32 against bfloat16: basic blocks 0.0039 (depth 8), 0.0074 (20), 0.019 (56), 0.034 (110);
# bottlenecks 0.0092 (20), 0.016 (29), 0.022 (47), 0.066 (83). That is 0.0003 to 0.0008 a layer:
# twice the most is allowed. Gradients by norm: 0.37 (20), 0.87 (56), 1.2 (110); 0.58, 0.75, 1.2,
# 2.0 (83), up to 0.026 a layer; where they are above 1, only their size is compared.
BFLOAT16_LOGITS, BFLOAT16_GRADIENTS = 0.0015, 0.045
BFLOAT16, BFLOAT16_LIMITS = ("mixed_bfloat16", "fused"), (BFLOAT16_LOGITS, BFLOAT16_GRADIENTS, True)
# dtype, formulation, shapes, tolerance of logits (relative to the largest), of gradients by norm,
# and whether both are for each layer.
PATHS = [
    pytest.param("float64", "plain", "static", 1e-8, 1e-8, False, marks=pytest.mark.slow),
    ("float64", "fused", "static", 1e-8, 1e-8, False),
    ("float64", "fused", "drawn", 1e-8, 1e-8, False),
    pytest.param("float32", "plain", "static", 1e-5, 0.03, False, marks=pytest.mark.slow),
    pytest.param("float32", "fused", "static", 1e-5, 0.03, False, marks=pytest.mark.slow),
    ("float32", "fused", "drawn", 1e-5, 0.03, False),
    pytest.param(*BFLOAT16, "static", *BFLOAT16_LIMITS, marks=pytest.mark.slow),
    (*BFLOAT16, "drawn", *BFLOAT16_LIMITS),
]


@pytest.mark.parametrize(
    ("dtype", "formulation", "shapes", "tolerance", "gradient_tolerance", "each"), PATHS
)
@pytest.mark.parametrize("pattern", ["supernet_basic*.npz", "supernet_bottleneck*.npz"])
def test_supernet(
    reference_dir, pattern, dtype, formulation, shapes, tolerance, gradient_tolerance, each
):
    options = {"dtype": dtype}
    if formulation == "fused":
        options["shapes"] = shapes
    make = {"fused": Supernet, "plain": PlainSupernet}[formulation]
    for file, arrays in fixtures(reference_dir, pattern).items():
        path = f"supernet, {formulation}, {shapes} shapes, {dtype}"
        for quantity, error in supernet_errors(arrays, make, options):
            limit = gradient_tolerance if "gradient" in quantity else tolerance
            limit *= int(arrays["depth"]) if each else 1
            check(file, f"{path}: {quantity}", error, limit)


def supernet_errors(arrays, make, options):
    """Yields each quantity of a forward and backward pass with its error."""
    supernet, sources = loaded_supernet(arrays, make, **options)
    dtype = supernet.variable_dtype
    assert {key for key in arrays if key.startswith("grad/")} == set(sources)
    weights = tf.constant(arrays["width_probs"], dtype)
    depth_weights = tf.constant(arrays["depth_probs"], dtype)
    indices = tf.constant(arrays["width_indices"], tf.int32)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch([weights, depth_weights])
            draw = Draw(indices, weights, depth_weights)
            logits = supernet(tf.constant(arrays["x"], dtype), draw, mode=Mode.ARCHITECTURE)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(arrays["labels"], logits)
            )
        kernels = [variable.value for variable in sources.values()]
        gradients = tape.gradient(loss, [weights, depth_weights, *kernels])
        return logits, loss, [tf.convert_to_tensor(gradient) for gradient in gradients]

    logits, loss, (grad_widths, grad_depths, *grads) = run()
    yield "logits", relative(logits, arrays["logits"])
    yield "cross-entropy", relative(loss, arrays["cross_entropy"])
    yield "gradient of widths by norm", distance(grad_widths, arrays["grad_width_probs"])
    yield "gradient of depths by norm", distance(grad_depths, arrays["grad_depth_probs"])
    for key, grad in zip(sources, grads, strict=True):
        yield "gradients of kernels by norm", distance(grad, arrays[key])


def derived_architecture(arrays):
    """Returns the architecture of the reference's `xchannels` and `xblocks`."""
    space = space_of(arrays)
    # xchannels begins with the image's channels.
    widths = [int(width) for width in arrays["xchannels"][1:]]
    stages = tuple(
        tuple(tuple(widths[unit] for unit in units) for units in stage[:kept])
        for stage, kept in zip(space.block_units, arrays["xblocks"].tolist(), strict=True)
    )
    return Architecture(
        family=space.family,
        block=space.block,
        input_shape=space.input_shape,
        num_classes=space.num_classes,
        stem_width=widths[0],
        stages=stages,
    )


def load_derived(model, arrays, architecture):
    names = our_names(architecture.block, [len(stage) for stage in architecture.stages])
    layers = {layer.name: layer for layer in model.layers}
    used = set()
    for reference_name, name in names.items():
        if name not in layers:
            continue
        used.add(f"weight/{reference_name}.conv.weight")
        layers[name].set_weights([arrays[f"weight/{reference_name}.conv.weight"]])
        keys = [
            f"weight/{reference_name}.bn.{part}"
            for part in ("weight", "bias", "running_mean", "running_var")
        ]
        assert (f"{name}_bn" in layers) == (keys[0] in arrays), name
        if keys[0] in arrays:
            used.update(keys)
            layers[f"{name}_bn"].set_weights([arrays[key] for key in keys])
    rest = {key for key in arrays if key.startswith("weight/")} - used
    kernel = next(key for key in rest if arrays[key].ndim == 2)
    (bias,) = rest - {kernel}
    layers["classifier"].set_weights([arrays[kernel], arrays[bias]])


def in_float64(layer):
    """Returns a Keras layer's class that computes in float64, whatever it is told."""
    return lambda *arguments, **options: layer(*arguments, **{**options, "dtype": "float64"})


FLOAT64_LAYERS = types.SimpleNamespace(
    **{
        name: in_float64(getattr(keras.layers, name))
        for name in vars(TRAINING_LAYERS)
        if name != "Model"
    }
)


# Layers, tolerance of logits in inference, and in training at depth 20 with the power of the depth
# that it grows with: in bfloat16 as above. In float32 the errors of depth 20 and 164 are 1.8e-6 and
# 2.2e-4, about the square: batch normalization magnifies what was rounded before.
@pytest.mark.parametrize(
    ("path", "layers", "tolerance", "in_training", "power"),
    [
        ("stock, float64", FLOAT64_LAYERS, 1e-8, 1e-8, 0),
        ("stock, float32", keras.layers, 1e-5, 1e-5, 2),
        ("training layers, float32", TRAINING_LAYERS, 1e-5, 1e-5, 2),
        ("training layers, mixed_bfloat16", TRAINING_LAYERS, 0.05, 0.06, 1),
    ],
)
def test_derived_networks(reference_dir, path, layers, tolerance, in_training, power):
    precision = "mixed_bfloat16" if "bfloat16" in path else "float32"
    for file, arrays in fixtures(reference_dir, "derived_*.npz").items():
        architecture = derived_architecture(arrays)
        with computing_in(precision):
            model = build_model(architecture, layers)
        load_derived(model, arrays, architecture)
        inference = model(arrays["x"], training=False)
        error = relative(inference, arrays["logits_inference"])
        check(file, f"derived, {path}: logits in inference", error, tolerance)
        training = model(arrays["x"], training=True)
        limit = in_training * (int(arrays["depth"]) / 20) ** power
        error = relative(training, arrays["logits_training"])
        check(file, f"derived, {path}: logits in training", error, limit)
        loss = tf.reduce_mean(cross_entropy(arrays["labels"], training))
        error = relative(loss, arrays["cross_entropy"])
        check(file, f"derived, {path}: cross-entropy in training", error, limit)


def test_published_cost_formulas(reference_dir):
    for file, arrays in fixtures(reference_dir, "supernet_*.npz").items():
        space = space_of(arrays)
        widths, depths = (
            np.exp(row) / np.exp(row).sum(axis=1, keepdims=True)
            for row in (arrays["width_logits"].astype(float), arrays["depth_logits"].astype(float))
        )
        expected = CostModel(space, "macs", "published_expected").expected(widths, depths)
        error = relative(expected / 1e6, arrays["reference_expected_mmacs"])
        check(file, "published code's expected cost", error, 1e-8)
        one_hot = [np.eye(p.shape[1])[p.argmax(axis=1)] for p in (widths, depths)]
        estimate = CostModel(space, "macs", "published_estimate").expected(*one_hot)
        error = relative(estimate / 1e6, arrays["reference_estimate_mmacs"])
        check(file, "published code's estimate", error, 1e-12)
