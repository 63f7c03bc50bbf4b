"""Rules: how the channels that an operation writes follow from those that it reads.

A rule gets a call of an operation, as configuration and shapes, and labels it: the ids of what goes
out, the ids along the axes of weights, how often weights multiply, and which fields of the
configuration are numbers of channels. What a rule does not understand it refuses by `Opaque`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tas_tf.spaces.calls import Call, Opaque, Shape
from tas_tf.spaces.channels import Channels, channel_axis

# From a call, whose inputs are set, and the channels so far, to the ids of its outputs.
Rule = Callable[[Call, Channels], Sequence[np.ndarray]]
_REGISTERED: dict[type, Rule] = {}


def register(layer_class: type, rule: Rule) -> None:
    """Teaches a layer of one's own: models with it are read by this rule.

    A layer that treats every channel for itself takes `per_channel`, one that adds or multiplies
    its inputs `elementwise`.

    Args:
        layer_class: The class; its subclasses are not meant.
        rule: From a `Call` and the `Channels` so far to the ids of every output. It labels all
            variables that are no scalars, or raises `Opaque`.
    """
    _REGISTERED[layer_class] = rule


def rule_of(layer_class: type) -> Rule | None:
    """Returns the rule of a class; None if there is none."""
    if layer_class.__module__.split(".")[0] == "keras":
        return _REGISTERED.get(layer_class) or RULES.get(layer_class.__name__)
    return _REGISTERED.get(layer_class)


def per_channel(call: Call, channels: Channels) -> list[np.ndarray]:
    """Rule of layers that treat every channel for itself, by vectors with an entry for each."""
    ids = call.only()
    axis = channel_axis(ids)
    (before,), (after,) = call.input_shapes, call.output_shapes
    if axis is not None and (len(before) != len(after) or before[axis] != after[axis]):
        raise Opaque("it changes the number of channels")
    if len(before) != len(after):
        raise Opaque("it changes the number of axes")
    if call.weights:
        call.label_vectors(call.reads())
    return [ids]


def elementwise(call: Call, channels: Channels) -> list[np.ndarray]:
    """Rule of layers that add or multiply their inputs, or choose between them, entry by entry."""
    (shape,) = call.output_shapes
    taking: list[np.ndarray] = []
    for ids, own in zip(call.inputs, call.input_shapes, strict=True):
        # Keras' merging layers insert the axes that an input lacks in front of it.
        ids = ids.reshape((1,) * (len(shape) - len(own)) + ids.shape)
        own = (1,) * (len(shape) - len(own)) + own
        axis = channel_axis(ids)
        if axis is None and own != shape:
            channels.freeze(ids, f"{call.path}: one channel for all")
        else:
            taking.append(ids)
    if not taking:
        raise Opaque("it makes more channels than it reads")
    widest = max(taking, key=lambda ids: ids.size)
    for ids in taking:
        if ids.shape != widest.shape:
            raise Opaque("its inputs have channels along different axes")
        channels.tie(ids, widest)
    return [widest]


def _convolution(call: Call, channels: Channels) -> list[np.ndarray]:
    """`y[c] = sum_r W[..., r, c] * x[r]` over the r of the channel's group."""
    call.multiply("kernel", _places(call, call.output_shapes[0]))
    reads = call.reads()
    out = channels.new(call.output_shapes[0], call.path)
    groups, writes = call.config["groups"], out.reshape(-1)
    if groups > 1:
        per_group = len(reads) // groups
        inside, outside = reads.reshape(groups, -1), writes.reshape(groups, -1)
        if per_group == 1:  # whole groups are kept or dropped
            channels.tie(inside, outside)
            call.label("kernel", None, writes)
            call.resize("groups", reads)
        else:  # as many are kept in every group
            channels.tie(inside, inside[:1])
            channels.tie(outside, outside[:1])
            call.label("kernel", reads[:per_group], writes)
    else:
        call.label("kernel", reads, writes)
    call.resize("filters", out)
    return [_biased(call, channels, out)]


def _transposed(call: Call, channels: Channels) -> list[np.ndarray]:
    call.multiply("kernel", _places(call, call.input_shapes[0]))
    reads = call.reads()
    out = channels.new(call.output_shapes[0], call.path)
    call.label("kernel", out.reshape(-1), reads)
    call.resize("filters", out)
    return [_biased(call, channels, out)]


def _depthwise(call: Call, channels: Channels) -> list[np.ndarray]:
    call.multiply("kernel", _places(call, call.output_shapes[0]))
    reads = call.reads()
    call.label("kernel", reads, None)
    out = np.repeat(reads, call.config["depth_multiplier"])
    return [_biased(call, channels, _along_last(out, call.output_shapes[0]))]


def _separable(call: Call, channels: Channels) -> list[np.ndarray]:
    for kernel in ("depthwise_kernel", "pointwise_kernel"):
        call.multiply(kernel, _places(call, call.output_shapes[0]))
    reads = call.reads()
    out = channels.new(call.output_shapes[0], call.path)
    between = np.repeat(reads, call.config["depth_multiplier"])
    call.label("depthwise_kernel", reads, None)
    call.label("pointwise_kernel", between, out.reshape(-1))
    call.resize("filters", out)
    return [_biased(call, channels, out)]


def _dense(call: Call, channels: Channels) -> list[np.ndarray]:
    return [_biased(call, channels, _product(call, channels))]


def _product(call: Call, channels: Channels) -> np.ndarray:
    call.multiply("kernel", math.prod(call.output_shapes[0][:-1]))
    reads = call.reads()
    out = channels.new(call.output_shapes[0], call.path)
    call.label("kernel", reads, out.reshape(-1))
    call.resize("units", out)
    return out


def projection(call: Call, channels: Channels) -> list[np.ndarray]:
    """Rule of a dense layer that stands only where it changes the number of channels."""
    call.bypassed = True
    return [_product(call, channels)]


def _embedding(call: Call, channels: Channels) -> list[np.ndarray]:
    channels.freeze(call.inputs[0], f"{call.path}: it reads indices")
    out = channels.new(call.output_shapes[0], call.path)
    call.label("embeddings", out.reshape(-1))
    call.resize("output_dim", out)
    return [out]


def _biased(call: Call, channels: Channels, out: np.ndarray) -> np.ndarray:
    if call.config["use_bias"]:
        call.label("bias", out.reshape(-1))
    return _activated(call, channels, out)


# Activations by which every channel is for itself; `softmax` and the like are not.
ACTIVATIONS = frozenset(
    "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu "
    "linear log_sigmoid mish relu relu6 selu sigmoid silu soft_shrink softplus softsign "
    "sparse_plus sparse_sigmoid squareplus swish tanh tanh_shrink threshold".split()
)


def _activated(call: Call, channels: Channels, ids: np.ndarray) -> np.ndarray:
    activation = call.config["activation"]
    if activation not in ACTIVATIONS if isinstance(activation, str) else activation is not None:
        name = activation if isinstance(activation, str) else "of its own"
        channels.freeze(ids, f"{call.path}: an activation across channels ({name})")
    return ids


def _activation(call: Call, channels: Channels) -> list[np.ndarray]:
    return [_activated(call, channels, *per_channel(call, channels))]


def _softmax(call: Call, channels: Channels) -> list[np.ndarray]:
    (ids,) = per_channel(call, channels)
    axes = call.config["axis"]
    axes = axes if isinstance(axes, (list, tuple)) else [axes]
    if channel_axis(ids) in [_axis(axis, ids.ndim) for axis in axes]:
        channels.freeze(ids, f"{call.path}: softmax across channels")
    return [ids]


def _normalization(call: Call, channels: Channels) -> list[np.ndarray]:
    """Scales and offsets for each channel; moments for each, or over those that are there."""
    axes = call.config["axis"]
    axes = axes if isinstance(axes, (list, tuple)) else [axes]
    if [_axis(axis, len(call.input_shapes[0])) for axis in axes] != [len(call.input_shapes[0]) - 1]:
        raise Opaque("it normalizes along other axes than the last")
    reads = call.reads()
    groups = call.config.get("groups", -1)
    if call.kind == "GroupNormalization" and groups in (-1, len(reads)):
        call.resize("groups", reads)  # every channel for itself
    elif call.kind == "GroupNormalization":
        blocks = reads.reshape(groups, -1)
        channels.tie(blocks, blocks[:1])
    return per_channel(call, channels)


def _layer_scale(call: Call, channels: Channels) -> list[np.ndarray]:
    call.resize("projection_dim", call.reads())
    return per_channel(call, channels)


def _constants(call: Call, channels: Channels) -> list[np.ndarray]:
    """Preprocessing by numbers of the configuration, perhaps one for each channel."""
    reads = call.reads()
    fields = [call.config.get(field) for field in ("scale", "offset", "mean", "variance")]
    if call.kind == "Normalization" or any(np.ndim(field) for field in fields if field is not None):
        channels.freeze(reads, f"{call.path}: a constant for each channel")
    return per_channel(call, channels)


def _spatial(call: Call, channels: Channels) -> list[np.ndarray]:
    call.reads()
    return per_channel(call, channels)


def _global_pool(call: Call, channels: Channels) -> list[np.ndarray]:
    return [_along_last(call.reads(), call.output_shapes[0])]


def _reduction(call: Call, channels: Channels) -> list[np.ndarray]:
    ids = call.only()
    axes = call.config["axis"]
    axes = axes if isinstance(axes, (list, tuple)) else [axes]
    if None in axes or -1 in (places := [_axis(axis, ids.ndim) for axis in axes]):
        raise Opaque("it reduces the batch")
    if channel_axis(ids) in places or channel_axis(ids) is None:
        raise Opaque("it reduces across channels")
    return [ids if call.config["keepdims"] else np.squeeze(ids, tuple(places))]


def _reshape(call: Call, channels: Channels) -> list[np.ndarray]:
    ids, (before,), (after,) = call.only(), call.input_shapes, call.output_shapes
    if math.prod(before) != math.prod(after):
        raise Opaque("it moves places into the batch")
    out = channels.along_one_axis(np.broadcast_to(ids, before).reshape(after))
    if "target_shape" in call.config:
        call.resize("target_shape", out, _open(call.config["target_shape"], after))
    elif "newshape" in call.config:
        batch, *places = call.config["newshape"]
        call.resize("newshape", out, _open(places, after))
        call.resized["newshape"] = (batch, *call.resized["newshape"])
    return [out]


def _open(target: Sequence[int], shape: Shape) -> Shape:
    """Returns a shape with -1 where the configuration says that the length follows."""
    return tuple(min(n, length) for n, length in zip(target, shape, strict=True))


def _repeat(call: Call, channels: Channels) -> list[np.ndarray]:
    return [_along_last(call.reads(), call.output_shapes[0])]


def _transpose(call: Call, channels: Channels) -> list[np.ndarray]:
    ids = call.only()
    config, order = call.config, list(range(ids.ndim + 1))
    if "dims" in config:
        order = [0, *config["dims"]]
    elif "axis1" in config:
        a, b = (_axis(config[field], ids.ndim) + 1 for field in ("axis1", "axis2"))
        order[a], order[b] = order[b], order[a]
    else:
        order = list(config["axes"] or reversed(order))
    if order[0] != 0:
        raise Opaque("it moves the batch")
    return [np.transpose(ids, [axis - 1 for axis in order[1:]])]


def _concatenate(call: Call, channels: Channels) -> list[np.ndarray]:
    axis = _axis(call.config["axis"], len(call.output_shapes[0]))
    if axis < 0:
        raise Opaque("it joins batches")
    elsewhere = [channel_axis(ids) not in (None, axis) for ids in call.inputs]
    lengths = [shape[axis] for shape in call.input_shapes]
    if not any(elsewhere) and [ids.shape[axis] for ids in call.inputs] == lengths:
        return [np.concatenate(call.inputs, axis)]
    first, *others = call.inputs
    if any(ids.shape != first.shape for ids in others):
        raise Opaque("its inputs have channels along different axes")
    for ids in others:  # places that have the same channels
        channels.tie(first, ids)
    return [first]


def _selection(call: Call, channels: Channels) -> list[np.ndarray]:
    raise Opaque("it takes a part, perhaps of the channels")


def _axis(axis: int, rank: int) -> int:
    """Returns an axis that counts the batch as one that does not, -1 for the batch itself."""
    return axis + rank if axis < 0 else axis - 1


def _along_last(ids: np.ndarray, shape: Shape) -> np.ndarray:
    return ids.reshape((1,) * (len(shape) - 1) + (-1,))


def _places(call: Call, shape: Shape) -> int:
    first = call.config.get("data_format") == "channels_first"
    return math.prod(shape[1:] if first else shape[:-1])


def _each(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


# Rules of Keras' own layers and operations, by the names of their classes.
RULES: dict[str, Rule] = {
    **_each(_convolution, "Conv1D Conv2D Conv3D"),
    **_each(_transposed, "Conv1DTranspose Conv2DTranspose Conv3DTranspose"),
    **_each(_depthwise, "DepthwiseConv1D DepthwiseConv2D"),
    **_each(_separable, "SeparableConv1D SeparableConv2D"),
    **_each(_dense, "Dense"),
    **_each(_embedding, "Embedding"),
    **_each(_normalization, "BatchNormalization LayerNormalization GroupNormalization"),
    **_each(_normalization, "RMSNormalization UnitNormalization"),
    **_each(_layer_scale, "LayerScale"),
    **_each(_constants, "Normalization Rescaling"),
    **_each(_activation, "Activation"),
    **_each(_softmax, "Softmax LogSoftmax"),
    **_each(
        per_channel,
        "PReLU ReLU LeakyReLU ELU Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D "
        "GaussianNoise GaussianDropout AlphaDropout ActivityRegularization Identity "
        "StochasticDepth RandomFlip RandomRotation RandomZoom RandomTranslation RandomShear "
        "RandomContrast RandomBrightness Relu Relu6 Sigmoid Silu Gelu Tanh Softplus Softsign "
        "HardSigmoid HardSilu HardTanh LeakyRelu Elu Selu Celu SoftShrink HardShrink TanhShrink "
        "Squareplus LogSigmoid SparsePlus SparseSigmoid Threshold Cast StopGradient Clip Square "
        "Abs Absolute Negative Exp Expm1 Log Log1p Log2 Sqrt Rsqrt Reciprocal Sign Round Floor "
        "Ceil Sin Cos Erf Pad",
    ),
    **_each(
        _spatial,
        "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D "
        "AveragePooling3D AdaptiveAveragePooling1D AdaptiveAveragePooling2D "
        "AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D "
        "MaxPool AveragePool ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D "
        "Cropping3D UpSampling1D UpSampling2D UpSampling3D Resizing CenterCrop RandomCrop Resize",
    ),
    **_each(
        _global_pool,
        "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D "
        "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D",
    ),
    **_each(_reduction, "Mean Sum Max Min Amax Amin Prod Var Std"),
    **_each(
        elementwise,
        "Add Subtract Multiply Average Maximum Minimum Divide TrueDivide Power Where "
        "Greater GreaterEqual Less LessEqual Equal NotEqual LogicalAnd LogicalOr CustomScaleLayer",
    ),
    **_each(_concatenate, "Concatenate"),
    **_each(_reshape, "Flatten Reshape ExpandDims Squeeze"),
    **_each(_repeat, "RepeatVector"),
    **_each(_transpose, "Permute Transpose Swapaxes"),
    **_each(_selection, "GetItem Split Stack Take"),
}
