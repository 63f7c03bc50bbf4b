"""The masked model: what a narrowed one must compute, and counts of what was built."""

import inspect

import keras
import numpy as np

from tas_tf.models.narrowing import importance, most_important, narrow
from tas_tf.models.reading import read
from tas_tf.models.traversal import traverse

TOLERANCE = 1e-4  # of the largest output
ACROSS = ("LayerNormalization", "GroupNormalization", "RMSNormalization", "UnitNormalization")


def layers_of(model):
    """Yields all layers, those of nested models too."""
    for layer in model.layers:
        yield from layers_of(layer) if isinstance(layer, keras.Model) else [layer]


def randomize(model, rng):
    """Gives random weights: He kernels, and vectors around what they begin with."""
    for variable in [weight for layer in layers_of(model) for weight in layer.weights]:
        shape = tuple(variable.shape)
        if "kernel" in variable.name:
            depthwise = len(shape) == 4 and shape[-1] < shape[-2] and "point" not in variable.name
            fan = np.prod(shape[:2] if depthwise else shape[:-1])
            variable.assign(rng.standard_normal(shape) * np.sqrt(2 / fan))
        elif variable.name in ("gamma", "beta", "bias", "alpha", "scale"):
            start = variable.name in ("gamma", "scale")
            variable.assign(start + 0.3 * rng.standard_normal(shape))


def calibrate(model, inputs):
    """Takes the statistics of batch normalizations from inputs, so that what is read arrives."""
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
        if hasattr(layer, "rate"):
            layer.rate = 0.0
    model(inputs, training=True)


def inputs_of(model, rng, count=6, size=None):
    """Random inputs, in the model's structure: between 0 and 255 where it scales them itself."""
    inside = any("Rescaling" in type(layer).__name__ for layer in layers_of(model))

    def draw(tensor):
        shape = (count, *(size or tensor.shape[1:]))
        if "int" in tensor.dtype:
            return rng.integers(0, 5, shape)
        values = rng.uniform(0, 255, shape) if inside else rng.standard_normal(shape)
        return values.astype("float32")

    return keras.tree.map_structure(draw, model.input if model.inputs[1:] else model.inputs[0])


def counted(model, sizes=None):
    """MACs and trainable parameters of a model, from the shapes of kernels and of their maps.

    Args:
        model: The model.
        sizes: Shapes of its inputs, if it leaves them open.
    """
    macs = 0

    def visit(call):
        nonlocal macs
        operation, kind = call.operation, type(call.operation).__name__
        outputs = operation.compute_output_spec(*call.args, **call.kwargs)
        kernels = [w for w in getattr(operation, "weights", ()) if "kernel" in w.name]
        if "Conv" in kind or kind == "Dense":
            maps = call.args[0] if kind.endswith("Transpose") else outputs
            positions = int(np.prod(maps.shape[1:-1]))
            macs += positions * sum(int(np.prod(kernel.shape)) for kernel in kernels)
        return outputs

    sizes = sizes or [tensor.shape[1:] for tensor in model.inputs]
    traverse(model, [keras.KerasTensor((None, *size)) for size in sizes], visit)
    return macs, counted_parameters(model)


def counted_parameters(model):
    """Trainable parameters."""
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def masked(model, graph, keep, inputs):
    """Outputs of the whole model in which channels that are not kept are read by nothing."""
    kept, calls = graph.partition.kept(keep), iter(graph.calls)

    def visit(visited):
        call, operation = next(calls), visited.operation
        kwargs = dict(visited.kwargs)
        if "training" in inspect.signature(operation.call).parameters:
            kwargs["training"] = False
        if call.kind in ACROSS and not call.reason:
            return _normalized(visited.args[0], kept[call.reads()], call.kind, operation)
        if not call.weights:
            return operation(*visited.args, **kwargs)
        values = {}
        for index, weight in enumerate(operation.weights):
            value = np.asarray(weight)
            for axis, ids in enumerate(call.axes.get(index, ()) if index in call.uses else ()):
                if ids is not None:
                    shape = [-1 if a == axis else 1 for a in range(value.ndim)]
                    value = value * kept[ids].reshape(shape).astype(value.dtype)
            values[id(weight)] = value
        outputs, _ = operation.stateless_call(
            [values[id(weight)] for weight in operation.trainable_variables],
            [values.get(id(w), w) for w in operation.non_trainable_variables],
            *visited.args,
            **kwargs,
        )
        return outputs

    tensors = [keras.ops.convert_to_tensor(value) for value in keras.tree.flatten(inputs)]
    return [np.asarray(output) for output in traverse(model, tensors, visit)]


def _normalized(x, kept, kind, operation):
    """The normalization of an (..., C) array over the channels that are kept."""
    x = np.asarray(x, "float64")
    groups = {"GroupNormalization": getattr(operation, "groups", 1)}.get(kind, 1)
    parts = x.reshape(*x.shape[:-1], groups, -1)
    there = kept.reshape(groups, -1)
    there = np.broadcast_to(there | ~there.any(axis=-1, keepdims=True), parts.shape)
    axes = (-1,) if kind != "GroupNormalization" else (*range(1, x.ndim - 1), -1)
    centred = kind in ("LayerNormalization", "GroupNormalization")
    mean = parts.mean(axes, keepdims=True, where=there) * centred
    square = np.square(parts - mean)
    if kind == "UnitNormalization":
        y = parts / np.sqrt(square.sum(axes, keepdims=True, where=there))
    else:
        moment = square.mean(axes, keepdims=True, where=there)
        y = (parts - mean) / np.sqrt(moment + operation.epsilon)
    y = y.reshape(x.shape)
    vectors = {weight.name: np.asarray(weight) for weight in operation.weights}
    y = y * vectors.get("gamma", vectors.get("scale", 1)) + vectors.get("beta", 0)
    return keras.ops.convert_to_tensor(y.astype("float32"))


def check_narrowed(model, graph, keep, inputs, telling=True):
    """Checks costs and outputs of the model that keeps some channels.

    Args:
        model: The model.
        graph: What was read of it.
        keep: The positions that are kept.
        inputs: Inputs of the model.
        telling: Whether outputs must depend on what comes in, and on what is kept: a check of
            constants would say nothing.

    Returns:
        Its largest difference from the masked model, as a share of the largest output.
    """
    small = narrow(model, graph, keep)
    assert costs(graph, keep) == counted(small, graph.input_shapes)
    whole, received = (keras.tree.flatten(m(inputs, training=False)) for m in (model, small))
    worst = changed = 0.0
    for before, expected, output in zip(
        whole, masked(model, graph, keep, inputs), received, strict=True
    ):
        largest = np.abs(expected).max()
        assert np.isfinite(expected).all()
        assert expected.std(axis=0).max() > 10 * TOLERANCE * largest > 0 or not telling
        changed = max(changed, np.abs(np.asarray(before) - expected).max() / largest)
        worst = max(worst, np.abs(np.asarray(output) - expected).max() / largest)
    dropped = any(len(keep[group.name]) < group.width for group in graph.groups)
    assert (changed > 10 * TOLERANCE) == dropped or not telling
    assert worst < TOLERANCE
    return float(worst)


def random_keep(graph, rng):
    """Some channels of every group, at random: from three tenths of them to all."""
    keep = {}
    for group in graph.groups:
        width = rng.integers(max(1, 3 * group.width // 10), group.width + 1)
        keep[group.name] = np.sort(rng.permutation(group.width)[:width])
    return keep


def half_keep(model, graph):
    """The more important half of every group."""
    widths = {group.name: max(1, group.width // 2) for group in graph.groups}
    return most_important(importance(model, graph), widths)


def costs(graph, keep):
    """MACs and parameters by formula."""
    widths = {name: len(positions) for name, positions in keep.items()}
    return graph.cost(widths, "macs"), graph.cost(widths, "parameters")


def check_model(model, seed=0, size=None, halved=True, telling=True):
    """Checks a model's costs, and costs and function when it is narrowed at random, and halved.

    Args:
        model: The model.
        seed: Seed of weights, inputs and draws.
        size: Shape of its input, if it leaves that open.
        halved: Whether to check the more important half, too.
        telling: As `check_narrowed` takes it.

    Returns:
        The graph, and the worst error of a narrowed model.
    """
    rng = np.random.default_rng(seed)
    randomize(model, rng)
    # Statistics of few values are far from those of the masked model: rounding errors would grow.
    inputs = inputs_of(model, rng, count=16, size=size)
    calibrate(model, inputs)
    inputs = keras.tree.map_structure(lambda values: values[:6], inputs)
    graph = read(model, size)
    assert costs(graph, {}) == counted(model, graph.input_shapes)
    keeps = [random_keep(graph, rng), *([half_keep(model, graph)] if halved else [])]
    return graph, max(check_narrowed(model, graph, keep, inputs, telling) for keep in keeps)


def prepared(model, seed=0):
    """Gives a model random weights and statistics; returns inputs."""
    rng = np.random.default_rng(seed)
    randomize(model, rng)
    inputs = inputs_of(model, rng, count=16)
    calibrate(model, inputs)
    return keras.tree.map_structure(lambda values: values[:6], inputs)


def random_architecture(space, rng):
    """An architecture of a model's space."""
    widths = [rng.integers(len(choice.candidates)) for choice in space.choices]
    return space.architecture(widths, [rng.integers(2) for _ in space.branches])
