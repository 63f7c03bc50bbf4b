"""Drawing candidates: the reference's frequencies, and what every strategy promises.

Statistical tests use fixed seeds; each would refuse a right implementation with probability 1e-6.
"""

import numpy as np
import pytest
import tensorflow as tf
from parity import check, fixtures
from scipy import stats

from tas_tf.layers import sampling
from tas_tf.training import schedules

ERROR_RATE = 1e-6
ROWS = 200_000
NO_DEPTH = (tf.zeros([1, 1]), tf.constant([1]))


@tf.function
def draw(strategy, logits, sizes, temperature, seed):
    return sampling.draw(strategy, logits, sizes, *NO_DEPTH, temperature, seed)


def draw_many(logits, temperature, seed=(0, 0), strategy="two", rows=ROWS):
    """Draws from the same logits so many times: every row draws on its own."""
    tiled = tf.tile(tf.constant(logits, tf.float32)[None], [rows, 1])
    sizes = tf.fill([rows], len(logits))
    return draw(strategy, tiled, sizes, tf.constant(temperature), tf.constant(seed))


def pair_counts(draws, candidates):
    return np.histogram2d(*draws.indices.numpy().T, bins=np.arange(candidates + 1) - 0.5)[0]


def law_difference(first, second):
    """Chi-square of two tables of counts that come from one law, and the limit it stays below."""
    seen = (first + second) > 0
    first, second = first[seen], second[seen]
    ratio = np.sqrt(second.sum() / first.sum())
    statistic = ((ratio * first - second / ratio) ** 2 / (first + second)).sum()
    return statistic, stats.chi2.isf(ERROR_RATE, len(first) - 1)


def p_independent(first, second, candidates):
    """P value of chi-square: two series of candidates are independent."""
    table = np.histogram2d(first, second, bins=np.arange(candidates + 1) - 0.5)[0]
    return stats.chi2_contingency(table[table.sum(1) > 0][:, table.sum(0) > 0]).pvalue


def mean_difference(sample, mean, draws):
    """Standard errors between a sample's mean and a mean of so many draws, and their limit."""
    sample = np.asarray(sample, np.float64)
    error = sample.std(axis=0) * np.sqrt(1 / len(sample) + 1 / draws)
    limit = stats.norm.isf(ERROR_RATE / 2 / np.size(mean))
    return np.max(np.abs(sample.mean(axis=0) - mean) / error), limit


def test_reference_frequencies(reference_dir):
    for file, arrays in fixtures(reference_dir, "sampling*.npz").items():
        logits, number = arrays["logits"], int(arrays["draws"])
        temperatures = [key.partition("_tau")[2] for key in arrays if "pair_frequency" in key]
        assert temperatures
        for temperature in temperatures:
            draws = draw_many(logits, float(temperature))
            counts = pair_counts(draws, len(logits))
            reference = arrays[f"pair_frequency_tau{temperature}"] * number
            at = f"at temperature {temperature}"
            check(file, f"pairs {at}, chi-square", *law_difference(counts, reference))
            first = draws.weights.numpy()[:, 0]
            mean = arrays[f"mean_first_prob_tau{temperature}"]
            difference = mean_difference(first, mean, number)
            check(file, f"mean weight of the first {at}, in standard errors", *difference)
            every = draw_many(logits, float(temperature), strategy="gumbel").weights
            mean = arrays[f"mean_gumbel_softmax_tau{temperature}"]
            difference = mean_difference(every, mean, number)
            check(file, f"mean Gumbel weights {at}, in standard errors", *difference)


def test_these_tests_can_tell_laws_apart(reference_dir):
    for arrays in fixtures(reference_dir, "sampling*.npz").values():
        logits, number = arrays["logits"], int(arrays["draws"])
        draws = draw_many(logits, 0.95)
        reference = arrays["pair_frequency_tau1.0"] * number
        statistic, limit = law_difference(pair_counts(draws, len(logits)), reference)
        assert statistic > limit
        first = draws.weights.numpy()[:, 0]
        distance, limit = mean_difference(first, arrays["mean_first_prob_tau1.0"], number)
        assert distance > limit


def test_pairs_are_distinct():
    # So sharp that only the 1e-7 leaves anything for the second.
    for temperature in (5.0, 0.01):
        indices = draw_many([3.0, 0.0, -3.0, 0.0], temperature).indices.numpy()
        assert np.all(indices[:, 0] != indices[:, 1])
        assert set(indices.ravel()) == {0, 1, 2, 3}


def test_a_straight_through_candidate_has_the_probability_of_its_logit():
    logits = np.array([1.0, 0.0, -1.0, 0.5])
    p = np.exp(logits) / np.exp(logits).sum()
    for temperature in (5.0, 0.3):
        indices = draw_many(logits, temperature, strategy="straight_through").indices.numpy()
        counts = np.bincount(indices[:, 0], minlength=4)
        assert stats.chisquare(counts, p * ROWS).pvalue > ERROR_RATE


def test_rows_halves_and_steps_draw_independently():
    logits = [0.5, 0.0, -0.5, 0.2]

    def firsts(step, half):
        seed = sampling.step_seed(7, tf.constant(step, tf.int64), half)
        return draw_many(logits, 1.0, seed).indices.numpy()[:, 0]

    weights, architecture, later = firsts(3, 0), firsts(3, 1), firsts(4, 0)
    assert p_independent(weights[::2], weights[1::2], 4) > ERROR_RATE
    assert p_independent(weights[: ROWS // 2], weights[ROWS // 2 :], 4) > ERROR_RATE
    assert p_independent(weights, architecture, 4) > ERROR_RATE
    assert p_independent(architecture, later, 4) > ERROR_RATE


@pytest.mark.parametrize("strategy", sampling.STRATEGIES)
def test_a_draw_is_a_function_of_its_seed(strategy):
    logits = [0.5, 0.0, -0.5]
    first = draw_many(logits, 1.0, (1, 2), strategy, rows=1000)
    tf.random.set_seed(99)
    tf.random.normal([5])
    again = draw_many(logits, 1.0, (1, 2), strategy, rows=1000)
    other = draw_many(logits, 1.0, (1, 3), strategy, rows=1000)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    same = np.array_equal(first.indices, other.indices)
    assert same == (strategy in ("gumbel", "softmax"))  # these take all candidates
    same = np.allclose(first.weights, other.weights, atol=1e-6)
    assert same == (strategy in ("softmax", "straight_through"))


SIZES = np.array([1, 2, 3, 5], np.int32)
ABSENT = np.arange(5) >= SIZES[:, None]


def padded_logits():
    logits = np.random.default_rng(0).normal(size=(len(SIZES), 5)).astype("float32")
    logits[ABSENT] = 1e30
    return tf.constant(logits)


@pytest.mark.parametrize("strategy", sampling.STRATEGIES)
@pytest.mark.parametrize("temperature", [10.0, 0.1])
def test_padding_is_never_drawn(strategy, temperature):
    logits = padded_logits()
    for step in range(50):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            sizes, seed = tf.constant(SIZES), tf.constant([0, step])
            drawn = draw(strategy, logits, sizes, tf.constant(temperature), seed)
            factors = tf.random.stateless_normal([4, drawn.weights.shape[1]], [1, step])
            value = tf.reduce_sum(drawn.weights * factors)
        assert np.all(drawn.indices < SIZES[:, None])
        np.testing.assert_allclose(tf.reduce_sum(drawn.weights, 1), 1, atol=1e-6)
        gradient = tape.gradient(value, logits).numpy()
        assert np.all(np.isfinite(gradient))
        assert not gradient[ABSENT].any()
        # A single candidate has all the weight, and nothing to learn.
        assert not gradient[0].any()
        assert drawn.weights[0, 0] == 1
        if strategy in ("gumbel", "softmax"):
            assert not drawn.weights.numpy()[ABSENT].any()


@pytest.mark.parametrize("strategy", sampling.STRATEGIES)
def test_a_space_without_choices(strategy):
    sizes = tf.ones([3], tf.int32)
    drawn = draw(strategy, tf.zeros([3, 1]), sizes, tf.constant(1.0), tf.constant([0, 0]))
    assert not drawn.indices.numpy().any()
    np.testing.assert_allclose(tf.reduce_sum(drawn.weights, 1), 1)


def test_gradients_pass_through_the_weights_alone():
    logits = tf.random.stateless_normal([50, 4], [0, 1])
    tau = 0.7
    with tf.GradientTape() as tape:
        tape.watch(logits)
        drawn = draw("two", logits, tf.fill([50], 4), tf.constant(tau), tf.constant([0, 0]))
        first = tf.reduce_sum(drawn.weights[:, 0])
    w = drawn.weights.numpy()
    # w_1 = sigmoid(l_1 - l_2), with the noise of the draw held fixed.
    slope = w[:, 0] * w[:, 1] / tau
    i, j = drawn.indices.numpy().T
    expected = np.zeros([50, 4])
    expected[np.arange(50), i] = slope
    expected[np.arange(50), j] = -slope
    np.testing.assert_allclose(tape.gradient(first, logits), expected, atol=1e-6)


def test_two():
    drawn = draw_many([0.3, 0.0, -0.5], 1.0, rows=20)
    assert drawn.indices.shape == drawn.weights.shape == (20, 2)


def test_gumbel_takes_all_candidates():
    drawn = draw_many([0.3, 0.0, -0.5], 1.0, strategy="gumbel", rows=20)
    np.testing.assert_array_equal(drawn.indices, [[0, 1, 2]] * 20)
    assert np.ptp(drawn.weights.numpy(), axis=0).min() > 0


def test_softmax_has_neither_noise_nor_temperature():
    logits, sizes = tf.constant([[0.3, 0.0, -0.5]]), tf.constant([3])
    for temperature in (10.0, 0.1):
        drawn = sampling.draw("softmax", logits, sizes, logits, sizes, temperature, [0, 0])
        np.testing.assert_array_equal(drawn.indices, [[0, 1, 2]])
        np.testing.assert_allclose(drawn.weights, tf.nn.softmax(logits), rtol=1e-6)
        np.testing.assert_allclose(drawn.depth_weights, tf.nn.softmax(logits), rtol=1e-6)


def test_straight_through_is_one_hot_with_the_gradient_of_the_softmax():
    logits = tf.random.stateless_normal([6, 3], [0, 0])
    sizes, tau, seed = tf.fill([6], 3), 0.7, tf.constant([5, 5])
    factors = tf.random.stateless_normal([6, 3], [0, 1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        drawn = sampling.draw("straight_through", logits, sizes, logits, sizes, tau, seed)
        seeds = [tf.random.experimental.stateless_fold_in(seed, n) for n in range(2)]
        depth, width = (
            tf.nn.softmax(sampling.relaxed_logits("straight_through", logits, sizes, tau, s))
            for s in seeds
        )
        soft = tf.gather(width, drawn.indices, batch_dims=1)
        sums = [
            tf.reduce_sum(part)
            for part in (drawn.weights, soft, factors * drawn.depth_weights, factors * depth)
        ]
    np.testing.assert_array_equal(drawn.indices[:, 0], tf.argmax(width, 1))
    np.testing.assert_allclose(drawn.weights, np.ones([6, 1]), atol=2e-7)
    one_hot = tf.one_hot(tf.argmax(depth, 1), 3)
    np.testing.assert_allclose(drawn.depth_weights, one_hot, atol=2e-7)
    gradients = [tape.gradient(value, logits).numpy() for value in sums]
    assert np.abs(gradients[0]).min(axis=1).max() > 0
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-6)
    np.testing.assert_allclose(gradients[2], gradients[3], rtol=1e-6)


@pytest.mark.parametrize("strategy", ["two", "gumbel"])
def test_depths_are_gumbel_weights_of_all(strategy):
    logits = tf.constant([[0.0, 1.0, 5.0]] * ROWS)
    sizes = tf.fill([ROWS], 2)
    one = tf.zeros([1, 1]), tf.constant([1])
    drawn = sampling.draw(strategy, *one, logits, sizes, 0.5, [0, 0])
    weights = drawn.depth_weights.numpy()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert not weights[:, 2].any()
    # Gumbel-max: the larger weight falls on a candidate with the probability of its logit.
    wins = int((weights[:, 1] > 0.5).sum())
    assert stats.binomtest(wins, ROWS, 1 / (1 + np.exp(-1))).pvalue > ERROR_RATE


def test_temperature_schedules():
    linear, cosine = schedules.linear_temperature(), schedules.cosine_temperature()
    assert [linear(e, 101) for e in (0, 50, 100)] == pytest.approx([10, 5.05, 0.1])
    assert [cosine(e, 101) for e in (0, 50, 100)] == pytest.approx([5, 2.55, 0.1])
    assert cosine(25, 101) == pytest.approx(0.1 + 4.9 * (1 + np.sqrt(0.5)) / 2)
    assert linear(0, 1) == 10
    assert cosine(0, 1) == 5
