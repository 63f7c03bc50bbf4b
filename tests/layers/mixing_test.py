"""Mixtures and normalization in one pass: what they compute, and its gradients."""

import numpy as np
import pytest
import tensorflow as tf

from tas_tf.layers import mixing
from tas_tf.layers.normalization import EPSILON


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_entries_are_what_their_matrix_is(dtype):
    random = np.random.default_rng(0)
    channels, columns = 7, 9
    x = tf.constant(random.normal(size=(3, 4, 5, channels)), dtype)
    sources = tf.constant(random.integers(channels, size=(4, columns)), tf.int32)
    values = tf.constant(random.normal(size=(4, columns)), tf.float32)
    found = []
    for by_entry in (True, False):
        with tf.GradientTape() as tape:
            tape.watch([x, values])
            mixture = mixing.TapMixture(sources, values)
            if not by_entry:
                places = tf.stack([sources, tf.broadcast_to(tf.range(columns), [4, columns])], -1)
                matrix = tf.scatter_nd(places, values, [channels, columns])[None, None]
                mixture = mixing.MatrixMixture(matrix)
            wide = x if by_entry else tf.cast(x, tf.float32)
            y = tf.cast(mixture.mix(wide), tf.float32)
            loss = tf.reduce_sum(tf.square(y))
        found.append([y, *(tf.cast(g, tf.float32) for g in tape.gradient(loss, [x, values]))])
    for mine, theirs in zip(*found, strict=True):
        tolerance = {"float32": 1e-5, "bfloat16": 1e-2}[dtype]
        np.testing.assert_allclose(mine, theirs, atol=tolerance * np.abs(theirs).max())


def mixed_with_gradients(z, mix, shift, dy, formulation):
    """Returns a normalized and mixed map, and gradients to z, mixture and vector."""

    @tf.function(autograph=False)
    def run():
        with tf.GradientTape() as tape:
            tape.watch([z, mix, shift])
            y = formulation(z, mix, shift)
        return [y, *tape.gradient(y, [z, mix, shift], dy)]

    return [tf.cast(value, tf.float64).numpy() for value in run()]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("width", [16, 24])
def test_the_mixture_has_the_gradient_of_what_it_computes(dtype, tolerance, width):
    random = np.random.default_rng(0)
    z = random.normal(size=(16, 16, 16, width)) * random.uniform(0.1, 3, width)
    z = tf.cast(z + random.normal(size=width), dtype)
    # Sums of 4096 ones and more: bfloat16 counts no further than 256.
    dy = tf.cast(random.normal(size=z.shape) + random.choice([-1, 1], width), dtype)
    mix = tf.constant(random.normal(size=(1, 1, width, width)), tf.float32)
    shift = tf.constant(random.normal(size=width), tf.float32)

    def by_parts(z, mix, shift):
        mean, variance = tf.nn.moments(z, (0, 1, 2))
        normalized = (z - mean) * tf.math.rsqrt(variance + EPSILON)
        return tf.linalg.matmul(normalized, mix[0, 0]) + shift

    expected = mixed_with_gradients(
        *(tf.cast(value, tf.float64) for value in (z, mix, shift, dy)), by_parts
    )
    ones = tf.ones([width])
    received = mixed_with_gradients(
        z, mix, shift, dy, lambda *parts: mixing.normalize_and_mix(*parts, ones)[0]
    )
    for mine, theirs in zip(received, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=tolerance * np.abs(theirs).max())


def test_offsets_get_all_of_a_sum_in_bfloat16():
    random = np.random.default_rng(0)
    x = tf.cast(random.normal(size=(8, 32, 32, 4)), tf.bfloat16)
    vector = tf.zeros([4])
    mixture = mixing.MatrixMixture(tf.eye(4)[None, None])
    with tf.GradientTape() as tape:
        tape.watch(vector)
        y = mixture.mix(x, vector)
    np.testing.assert_array_equal(tape.gradient(y, vector), 8 * 32 * 32)
