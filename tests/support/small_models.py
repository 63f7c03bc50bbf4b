"""Small Keras models of every kind that people build, as functions by their names."""

import keras
import numpy as np
from keras import layers, ops
from model_parts import Scaled, classified, image, shuffled, squeezed, unit

ALL = {}


def small(make):
    ALL[make.__name__] = make
    return make


@small
def sequential():
    return keras.Sequential(
        [
            image(),
            layers.Conv2D(6, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(7, activation="elu"),
            layers.Dropout(0.5),
            layers.Dense(4),
        ]
    )


@small
def residual():
    i = image()
    x = unit(i, 6)
    return classified(i, layers.Add()([x, unit(unit(x, 4), 6)]))


@small
def dense_blocks():
    i = image()
    x = unit(i, 6)
    for _ in range(3):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same")(unit(y, 8, 1))])
    return classified(i, layers.AveragePooling2D(2)(unit(x, 9, 1)))


@small
def inverted_residual():
    i = image()
    x = unit(i, 4)
    y = layers.DepthwiseConv2D(3, padding="same")(unit(x, 12, 1))
    y = layers.Conv2D(4, 1)(layers.BatchNormalization()(y))
    return classified(i, layers.Add()([x, y]))


@small
def squeeze_and_excitation():
    i = image()
    return classified(i, squeezed(unit(i, 8)))


@small
def resnext():
    i = image()
    x = unit(i, 12)
    y = squeezed(unit(unit(x, 12, 1), 12, groups=3))
    return classified(i, layers.Add()([x, unit(y, 12, 1)]))


@small
def every_channel_a_group():
    i = image()
    return classified(i, unit(unit(i, 6), 12, groups=6))


@small
def shuffle():
    i = image()
    x = shuffled(layers.Conv2D(12, 1, groups=3)(unit(i, 12)), 3)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    return classified(i, layers.Flatten()(layers.Conv2D(12, 1, groups=4)(x)))


@small
def separable():
    i = image()
    x = layers.SeparableConv2D(8, 3, depth_multiplier=2, activation="relu")(unit(i, 5))
    return classified(i, x)


@small
def decoder():
    i = layers.Input((7,))
    x = layers.Reshape((2, 2, 6))(layers.Dense(24, activation="relu")(i))
    x = layers.Conv2DTranspose(8, 3, strides=2, activation="relu")(x)
    x = layers.Conv2D(5, 3, activation="swish")(layers.UpSampling2D()(x))
    return keras.Model(i, layers.Conv2DTranspose(2, 2, name="image")(layers.ZeroPadding2D()(x)))


@small
def signal():
    i = layers.Input((12, 2))
    x = layers.Conv1D(6, 3, padding="causal", activation="relu")(i)
    x = layers.SeparableConv1D(8, 3)(x)
    x = layers.DepthwiseConv1D(3)(layers.MaxPooling1D(2)(x))
    x = layers.Conv1DTranspose(5, 2, strides=2)(x)
    return classified(i, layers.GlobalMaxPooling1D()(x))


@small
def volume():
    i = layers.Input((4, 5, 4, 2))
    x = layers.Conv3D(6, 2, activation="relu")(i)
    x = layers.Conv3DTranspose(4, 2)(layers.BatchNormalization()(x))
    return classified(i, layers.GlobalAveragePooling3D()(layers.Cropping3D(1)(x)))


@small
def nested_twice():
    inside = layers.Input((None, None, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(inside)
    tower = keras.Model(inside, layers.SeparableConv2D(6, 3, name="b")(x), name="tower")
    head = keras.Sequential([layers.Conv2D(7, 1, name="a"), layers.PReLU(shared_axes=[1, 2])])
    left, right = image(name="left"), image(name="right")
    a, b = head(tower(left)), head(tower(right))
    z = layers.Concatenate()([a, layers.Subtract()([a, b])])
    maps = layers.Conv2D(2, 1, name="maps")(layers.UpSampling2D()(z))
    scores = layers.Dense(5, name="scores")(layers.GlobalMaxPooling2D()(z))
    return keras.Model({"left": left, "right": right}, {"scores": scores, "maps": maps})


@small
def shared_layers():
    i = image()
    shared = layers.Conv2D(6, 3, padding="same", name="shared")
    norm = layers.BatchNormalization()
    x = layers.ReLU()(norm(shared(unit(i, 6))))
    return classified(i, norm(shared(x)))


@small
def shared_at_two_sizes():
    i = image(8)
    x, shared = unit(i, 6), layers.Conv2D(9, 3, padding="same", name="shared")
    a, b = shared(x), shared(layers.AveragePooling2D(2)(x))
    pools = [layers.GlobalAveragePooling2D()(y) for y in (a, b)]
    return classified(i, layers.Concatenate()(pools))


@small
def operations():
    i = image()
    x = ops.relu(layers.Conv2D(6, 3, padding="same")(i) * 2.0 + 1.0)
    y = ops.silu(layers.Conv2D(6, 3, padding="same")(x) - x) / 3
    y = ops.concatenate([y, ops.maximum(x, 0.5)], axis=-1)
    y = ops.transpose(ops.reshape(y, (-1, 36, 12)), (0, 2, 1))
    return classified(i, ops.mean(ops.swapaxes(y, 1, 2), axis=1))


@small
def slices():
    i = image()
    x = unit(i, 8)
    y = layers.Conv2D(6, 1)(x)
    return classified(i, ops.concatenate([y[..., :2], y[..., 2:]], axis=-1) + unit(x, 6))


@small
def constants_per_channel():
    i = image()
    x = layers.Conv2D(6, 1)(unit(i, 7)) * np.arange(1, 7, dtype="float32")
    return classified(i, unit(x, 8))


@small
def attention_map():
    i = image()
    x = unit(i, 8)
    return classified(i, x * layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x))


@small
def mean_map():
    i = image()
    x = unit(unit(i, 6), 8)
    maps = layers.Concatenate()([ops.mean(x, -1, keepdims=True), ops.max(x, -1, keepdims=True)])
    gate = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(maps)
    return classified(i, layers.Conv2D(5, 1)(layers.Multiply()([x, gate])))


@small
def function():
    i = image()
    x = layers.Lambda(lambda t: t * 2, output_shape=(6, 6, 6))(unit(i, 6))
    return classified(i, unit(x, 7))


@small
def transformer():
    i = image()
    x = unit(i, 8)
    t = layers.Reshape((36, 8))(x)
    t = layers.Add()([t, layers.MultiHeadAttention(2, 4)(t, t)])
    y = layers.Dense(8)(layers.Dense(12, activation="gelu")(layers.LayerNormalization()(t)))
    t = layers.LayerNormalization()(layers.Add()([t, y]))
    return classified(i, layers.GlobalAveragePooling1D()(t))


@small
def recurrent():
    i = layers.Input((9, 2))
    x = layers.LSTM(5)(layers.Dense(6, activation="tanh")(layers.Conv1D(7, 3)(i)))
    return classified(i, layers.Dense(8, activation="elu")(x))


@small
def words():
    i = layers.Input((9,), dtype="int32")
    x = layers.Conv1D(7, 3, activation="elu")(layers.Embedding(20, 6)(i))
    return classified(i, layers.GlobalMaxPooling1D()(x))


@small
def unregistered():
    i = image()
    return classified(i, unit(Scaled()(unit(i, 6)), 7))


@small
def flat_and_back():
    i = image(4)
    x = layers.Dense(32, activation="relu")(layers.Flatten()(unit(i, 6)))
    x = layers.Reshape((4, 4, 2))(layers.BatchNormalization()(x))
    return classified(i, layers.Conv2D(7, 3)(x))


@small
def permuted():
    i = image()
    x = layers.Permute((3, 1, 2))(unit(i, 5))
    x = layers.Concatenate(axis=1)([x, layers.Permute((3, 1, 2))(unit(i, 4))])
    x = layers.Permute((2, 3, 1))(layers.Reshape((9, 6, 6))(x))
    return classified(i, layers.Flatten()(layers.Conv2D(6, 3)(x)))


@small
def places_joined():
    i = image()
    x = unit(i, 6)
    y = layers.Concatenate(axis=1)([layers.Conv2D(8, 1)(x), unit(x, 8)])
    return classified(i, y)


@small
def rows_joined():
    i = image()
    x = unit(i, 6)
    y = layers.Concatenate(axis=2)([unit(x, 8), layers.Conv2D(8, 1)(x), x[..., :1] + unit(x, 8)])
    return classified(i, y)


@small
def channels_as_places():
    i = image()
    x = layers.Reshape((36, 6))(unit(i, 6))
    x = layers.Dense(9, activation="relu")(layers.Permute((2, 1))(x))  # mixes the places
    return classified(i, layers.GlobalAveragePooling1D()(layers.Permute((2, 1))(x)))


@small
def layer_normalization():
    i = image()
    x = layers.LayerNormalization()(layers.Conv2D(8, 1)(i))
    x = layers.Dense(6)(layers.RMSNormalization()(layers.Activation("gelu")(x)))
    return classified(i, layers.UnitNormalization()(x))


@small
def group_normalization():
    i = image()
    x = layers.GroupNormalization(4)(layers.Conv2D(8, 3)(i))
    x = layers.GroupNormalization(6)(layers.Conv2D(6, 3)(layers.ReLU()(x)))  # each for itself
    x = layers.GroupNormalization(1)(layers.Conv2D(5, 1)(layers.ReLU()(x)))
    return classified(i, layers.ReLU()(x))


@small
def all_axes_normalized():
    i = image()
    x = layers.LayerNormalization(axis=[1, 2, 3])(layers.Conv2D(8, 1)(i))
    return classified(i, layers.BatchNormalization(axis=1)(layers.Conv2D(6, 1)(x)))


@small
def parametric():
    i = image()
    x = layers.PReLU()(layers.Conv2D(6, 3)(i))
    return classified(i, layers.LeakyReLU()(layers.PReLU(shared_axes=[1, 2])(unit(x, 5))))


@small
def biases_alone():
    i = image()
    x = layers.Conv2D(6, 3, activation="sigmoid")(i)
    return classified(i, layers.Conv2D(8, 3, activation="softplus")(x))


@small
def segments():
    i = image()
    a, b, c = (layers.Conv2D(n, 1, name=name)(i) for n, name in ((6, "a"), (10, "b"), (16, "c")))
    x = layers.Add()([layers.Concatenate()([a, b]), c])
    return classified(i, layers.Conv2D(7, 1)(layers.Concatenate()([x, a])))


@small
def twice_the_same():
    i = image()
    x = unit(i, 6)
    x = layers.BatchNormalization()(layers.Concatenate()([x, x]))
    return classified(i, layers.Conv2D(8, 1)(layers.ReLU()(x)))


@small
def softmax_inside():
    i = image()
    x = layers.Conv2D(6, 1, activation="softmax")(unit(i, 7))
    x = layers.Softmax(axis=1)(layers.Conv2D(8, 1)(x))
    return classified(i, unit(x, 4))


@small
def preprocessed():
    i = image(8)
    x = layers.Rescaling(1 / 255)(i)
    x = layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.04, 0.05, 0.06])(x)
    return classified(i, unit(layers.RandomFlip()(x), 8))


@small
def pyramid():
    i = image(8)
    a = unit(i, 6)
    b = layers.MaxPooling2D(2)(unit(a, 8))
    up = layers.Average()([layers.Conv2D(6, 1)(layers.UpSampling2D()(b)), a])
    fine = layers.Conv2D(3, 1, name="fine")(up)
    return keras.Model(i, [fine, layers.Dense(4, name="coarse")(layers.Flatten()(b))])


@small
def gathered():
    i = image()
    x = unit(i, 6)
    parts = [layers.GlobalAveragePooling2D(keepdims=keep)(x) for keep in (True, False)]
    parts = [layers.Flatten()(parts[0]), parts[1], layers.GlobalMaxPooling2D()(unit(x, 4))]
    x = layers.RepeatVector(3)(layers.Concatenate()(parts))
    return classified(i, layers.GlobalAveragePooling1D()(layers.Dense(7, activation="elu")(x)))


@small
def maxout():
    i = image()
    x = layers.Maximum()([layers.Conv2D(6, 3)(i), layers.Conv2D(6, 3)(i)])
    x = layers.Minimum()([x, layers.Conv2D(6, 1)(x)])
    return classified(i, layers.Activation("hard_sigmoid")(x))


@small
def pad_channels():
    i = image()
    x = unit(i, 6)
    wide = ops.pad(layers.AveragePooling2D(2)(x), [[0, 0], [0, 0], [0, 0], [1, 1]])
    return classified(i, wide + unit(x, 8, strides=2))


@small
def wrapped():
    i = layers.Input((9, 2))
    x = layers.TimeDistributed(layers.Dense(6, activation="relu"))(layers.Conv1D(7, 3)(i))
    x = layers.EinsumDense("btc,cd->btd", (None, 8), bias_axes="d")(x)
    return classified(i, layers.Dense(7, activation="elu")(layers.Bidirectional(layers.GRU(4))(x)))
