"""Random Keras models: maps that grow from each other by all kinds of layers."""

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers, ops
from model_parts import classified, shuffled, squeezed

SIZE = 4
WIDTHS = (2, 3, 4, 6, 8)
# From maps (batch, SIZE, SIZE, C) and a number of channels to such maps.
STEPS = {
    "convolution": lambda x, n: layers.Conv2D(n, 3, padding="same")(x),
    "separable": lambda x, n: layers.SeparableConv2D(n, 3, padding="same", depth_multiplier=2)(x),
    "transposed": lambda x, n: layers.Conv2DTranspose(n, 2, padding="same", activation="elu")(x),
    "depthwise": lambda x, n: layers.DepthwiseConv2D(3, padding="same")(x),
    "doubled": lambda x, n: layers.DepthwiseConv2D(1, depth_multiplier=2)(x),
    "grouped": lambda x, n: layers.Conv2D(2 * x.shape[-1], 1, groups=x.shape[-1])(x),
    "blocks": lambda x, n: layers.Conv2D(4, 3, padding="same", groups=_blocks(x))(x),
    "shuffle": lambda x, n: shuffled(x, _blocks(x)),
    "squeeze": lambda x, n: squeezed(x),
    "batch": lambda x, n: layers.ReLU()(layers.BatchNormalization()(x)),
    "layer": lambda x, n: layers.LayerNormalization()(x),
    "group": lambda x, n: layers.GroupNormalization(_blocks(x))(x),
    "prelu": lambda x, n: layers.PReLU(shared_axes=[1, 2])(x),
    "operations": lambda x, n: ops.sigmoid(x * 2.0) - 0.5,
    "gate": lambda x, n: x * layers.Conv2D(1, 1, activation="sigmoid")(x),
    "part": lambda x, n: ops.concatenate([x[..., :1], x], axis=-1),
    "constant": lambda x, n: x * np.linspace(1, 2, x.shape[-1], dtype="float32"),
    "function": lambda x, n: layers.Lambda(ops.tanh)(x),
    "places": lambda x, n: layers.Softmax(axis=1)(x),
    "turned": lambda x, n: ops.transpose(ops.transpose(x, (0, 3, 1, 2)), (0, 2, 3, 1)),
    "rows": lambda x, n: layers.Reshape((SIZE, SIZE, -1))(layers.Reshape((SIZE**2, -1))(x)),
    "flat": lambda x, n: layers.Reshape((SIZE, SIZE, 2))(
        layers.Dense(SIZE * SIZE * 2)(layers.Flatten()(x))
    ),
    "dense": lambda x, n: layers.Dense(n, activation="gelu")(x),
}
JOINS = {
    "concatenate": lambda x, y: layers.Concatenate()([x, y]),
    "add": lambda x, y: layers.Add()([x, _like(y, x)]),
    "multiply": lambda x, y: layers.Multiply()([_like(x, y), y]),
    "maximum": lambda x, y: ops.maximum(x, _like(y, x)),
    "both": lambda x, y: layers.Concatenate()([x, layers.Add()([_like(y, x), x])]),
}


def _blocks(x):
    return 2 if x.shape[-1] % 2 == 0 else 1


def _like(x, y):
    same = x.shape[-1] == y.shape[-1]
    return x if same else layers.Conv2D(y.shape[-1], 1)(x)


@st.composite
def plans(draw, most=8):
    """Plans of models: a width; steps of a kind, which maps they read and a width; an end."""
    steps = []
    for count in range(1, 1 + draw(st.integers(1, most))):
        kind = draw(st.sampled_from([*STEPS, *JOINS]))
        reads = [draw(st.integers(0, count - 1)) for _ in range(1 + (kind in JOINS))]
        steps.append((kind, reads, draw(st.sampled_from(WIDTHS))))
    end = draw(st.sampled_from(["scores", "flat scores", "maps"]))
    return draw(st.sampled_from(WIDTHS)), steps, end


def build(plan):
    """The model of a plan; its end reads all maps that no step reads."""
    width, steps, end = plan
    i = layers.Input((SIZE, SIZE, 3))
    maps, read = [layers.Conv2D(width, 3, padding="same")(i)], set()
    for kind, reads, filters in steps:
        given = [maps[n] for n in reads]
        maps.append(STEPS[kind](*given, filters) if kind in STEPS else JOINS[kind](*given))
        read |= {*reads}
    ends = [x for n, x in enumerate(maps) if n not in read]
    x = layers.Concatenate()(ends) if len(ends) > 1 else ends[0]
    if end == "maps":
        return keras.Model(i, layers.Conv2D(3, 1)(x))
    return classified(i, layers.Flatten()(x) if end == "flat scores" else x)
