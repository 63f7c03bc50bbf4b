"""The separable model of scores: what it recovers, and that the derivation solves it."""

import numpy as np
import pytest
import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_tf.spaces import separable
from tas_tf.spaces.cost import cost, parse_targets
from tas_tf.spaces.derivation import (
    LEAST_EXPECTED_LOSS,
    LEAST_LOSS,
    derive,
    of_expected,
    of_measured,
)
from tas_tf.spaces.search_space import SearchSpace


def small(**options):
    return SearchSpace.resnet(8, ratios=(0.25, 0.5, 1.0), **options)


def deep(**options):
    return SearchSpace.resnet(20, ratios=(0.25, 0.5, 1.0), **options)


def random_indices(space, count, seed=0):
    random = np.random.default_rng(seed)
    return [
        (
            tuple(int(random.integers(len(choice.candidates))) for choice in space.choices),
            tuple(int(random.integers(len(depths))) for depths in space.depths),
        )
        for _ in range(count)
    ]


def truth(space, seed=0):
    """A separable model with random terms."""
    random = np.random.default_rng(seed)
    width = separable.features(space, random_indices(space, 1)).shape[1]
    return separable.Separable(space, random.normal(size=width), np.zeros((width, width)), 0.0)


def lead_of(model, one, other):
    """The expected lead of an architecture over another, and its standard error."""
    step = np.subtract(*separable.features(model.space, [one, other]))
    return step @ model.mean, np.sqrt(step @ model.covariance @ step)


def test_features_are_those_of_what_is_left():
    space = deep()
    whole = [len(choice.candidates) - 1 for choice in space.choices], [2, 2, 2]
    row = separable.features(space, [whole])[0]
    np.testing.assert_array_equal(row, [1] + [0] * (len(row) - 1))  # all whole: the constant
    half = (1,) * len(space.choices)
    (short,) = separable.features(space, [(half, (0, 2, 1))])
    # Stages 1 and 3 are shorter: the columns of their depths 1 and 2.
    np.testing.assert_array_equal(short[1:7], [1, 0, 0, 0, 0, 1])
    curves = short[7:].reshape(-1, 2)
    ratio = np.log(0.5)
    left = {0} | {u for b in space.block_units[0][:1] + space.block_units[1] for u in b}
    left |= {u for b in space.block_units[2][:2] for u in b}
    for choice, curve in enumerate(curves):
        expected = [ratio, ratio**2] if choice in left else [0, 0]
        np.testing.assert_allclose(curve, expected)


@pytest.mark.parametrize("make", [small, deep])
def test_a_fit_of_many_scores_without_noise_is_the_truth(make):
    space = make()
    true = truth(space)
    measured = random_indices(space, 200)
    fitted = separable.fit(space, measured, true.predict(measured))
    others = random_indices(space, 50, seed=1)
    expected = true.predict(others)
    np.testing.assert_allclose(fitted.predict(others), expected, atol=0.02 * np.ptp(expected))
    assert fitted.noise < 0.02 * np.ptp(expected)


def test_standard_errors_are_those_of_repeated_fits():
    space, noise = small(), 0.5
    true, measured = truth(space), random_indices(space, 120)
    one, other = random_indices(space, 2, seed=5)
    expected = float(np.diff(true.predict([other, one]))[0])
    leads, errors = [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        scores = true.predict(measured) + noise * random.normal(size=len(measured))
        lead, error = lead_of(separable.fit(space, measured, scores), one, other)
        leads.append(lead)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(np.array(leads) - expected), rel=0.35)


def test_more_scores_make_terms_surer():
    space = small()
    true = truth(space)
    errors = []
    for count in (40, 400):
        measured = random_indices(space, count)
        noise = np.random.default_rng(0).normal(size=count)
        fitted = separable.fit(space, measured, true.predict(measured) + noise)
        errors.append(fitted.width_terms()[1].max())
    assert errors[1] < errors[0] / 2


@given(st.integers(0, 2**16), st.floats(0.35, 0.9))
@settings(max_examples=15, deadline=None)
def test_the_derivation_finds_the_best_sum(seed, share):
    """By all architectures of the space: the derivation's is the best of those in the band."""
    space = SearchSpace.resnet(8, ratios=(0.5, 1.0), depths=[(1,), (1,), (1,)], search="shape")
    true = truth(space, seed)
    budgets = parse_targets(share, space, 0.2)
    derived = derive(space, *true.logits(), budgets)
    everything = list(spaces.all_indices(space))
    inside = [i for i in everything if budgets[0].contains(cost(space.architecture(*i)))]
    if not inside:
        assert not derived.in_band
        return
    best = true.predict(inside).max()
    assert true.predict([space.indices(derived.architecture)])[0] == pytest.approx(best, abs=1e-3)


@given(st.integers(0, 2**16))
@settings(max_examples=15, deadline=None)
def test_sums_of_logits_differ_as_predictions_do(seed):
    """Whatever is cut: a removed block's best widths are a part of its stage's term."""
    space = deep()
    true = truth(space, seed)
    one, other = (space.architecture(*i) for i in random_indices(space, 2, seed))
    budgets = parse_targets(0.5, space, 0.05)
    sums = [of_measured(space, true.logits(), budgets, a).log_probability for a in (one, other)]
    predicted = true.predict([space.indices(one), space.indices(other)])
    assert sums[0] - sums[1] == pytest.approx(predicted[0] - predicted[1])


def test_a_measured_derivation_says_so():
    space = small()
    true = truth(space)
    budgets = parse_targets(0.5, space, 0.05)
    derived = derive(space, *true.logits(), budgets)
    measured = of_measured(space, true.logits(), budgets, derived.architecture)
    assert measured.in_band == derived.in_band
    assert measured.summary(budgets)["method"] == LEAST_LOSS
    assert measured.argmax == derived.argmax
    whole = of_measured(space, true.logits(), budgets, space.unpruned())
    assert not whole.in_band


@given(st.integers(0, 2**16))
@settings(max_examples=15, deadline=None)
def test_an_expected_derivation_has_the_sum_of_a_measured_one(seed):
    space = deep()
    true = truth(space, seed)
    budgets = parse_targets(0.5, space, 0.05)
    expected = of_expected(space, true.logits(), budgets)
    assert expected.architecture == derive(space, *true.logits(), budgets).architecture
    assert expected.method == LEAST_EXPECTED_LOSS
    measured = of_measured(space, true.logits(), budgets, expected.architecture)
    assert expected.log_probability == pytest.approx(measured.log_probability)
    assert expected.argmax_log_probability == measured.argmax_log_probability == 0


def test_drawn_models_spread_as_the_posterior_does():
    space = small()
    true, measured = truth(space), random_indices(space, 60)
    noise = np.random.default_rng(0).normal(size=60)
    fitted = separable.fit(space, measured, true.predict(measured) + noise)
    one, other = random_indices(space, 2, seed=5)
    random = np.random.default_rng(0)
    leads = [np.diff(fitted.drawn(random).predict([other, one]))[0] for _ in range(400)]
    lead, error = lead_of(fitted, one, other)
    assert np.mean(leads) == pytest.approx(lead, abs=4 * error / 20)
    assert np.std(leads) == pytest.approx(error, rel=0.15)
