"""The statistics of studies: against a simulation, and the textbook's analysis of variance."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from study_statistics import difference, pooled, spread


def named(searches):
    """Accuracies by names of trainings that all differ."""
    return [{(i, j): x for j, x in enumerate(some)} for i, some in enumerate(searches)]


def hierarchy(rng, between, within, sizes):
    """Accuracies of trainings within searches within a method."""
    return [rng.normal(rng.normal(0.75, between), within, size) for size in sizes]


@pytest.mark.parametrize("sizes", [(4, 4, 4), (2, 5, 3, 7)])
@pytest.mark.parametrize(("between", "within"), [(0.02, 0.01), (0.01, 0.02)])
def test_parts_of_the_spread_are_those_of_a_simulation(sizes, between, within):
    rng = np.random.default_rng(0)
    found = [spread(named(hierarchy(rng, between, within, sizes))) for _ in range(6_000)]
    mean_square = {
        name: np.mean([getattr(each, name) ** 2 for each in found])
        for name in ("between", "within", "error")
    }
    assert mean_square["within"] == pytest.approx(within**2, rel=0.03)
    noise = within**2 * np.mean([1 / size for size in sizes])
    # Negative estimates become 0, which lifts the mean where trainings differ more than searches.
    assert between**2 * 0.97 < mean_square["between"] < between**2 + noise / 2
    assert mean_square["error"] == pytest.approx(np.var([each.mean for each in found]), rel=0.12)


def test_balanced_parts_are_those_of_the_analysis_of_variance():
    accuracies = hierarchy(np.random.default_rng(1), 0.03, 0.01, (5, 5, 5, 5))
    found = spread(named(accuracies))
    ratio = scipy.stats.f_oneway(*accuracies).statistic
    assert 1 + 5 * found.between**2 / found.within**2 == pytest.approx(ratio)
    assert found.error == pytest.approx(np.std([a.mean() for a in accuracies], ddof=1) / 2)
    assert (found.searches, found.trainings) == (4, 20)
    assert found.lowest == pytest.approx(min(a.mean() for a in accuracies))


def test_what_was_not_repeated_has_no_spread():
    one = spread(named([[0.7]]))
    assert (one.mean, one.between, one.within, one.error) == (0.7, None, None, None)
    trained = spread(named([[0.6, 0.8]]))
    assert trained.between is None and trained.error == pytest.approx(trained.within / 2**0.5)
    searched = spread(named([[0.6], [0.8]]))
    assert searched.between is None and searched.within is None
    assert searched.error == pytest.approx(0.1)
    assert difference(one, searched) == (pytest.approx(0.0), None)


def test_the_noise_of_trainings_may_be_known_from_elsewhere():
    noise = pooled(named([[0.6, 0.8], [0.7], [0.5, 0.6, 0.7]]))
    assert noise == pytest.approx((0.02 + 0.02) / 3)
    assert pooled(named([[0.6], [0.7]])) is None
    one = spread(named([[0.7]]), noise)
    assert one.within is None and one.error == pytest.approx(noise**0.5)
    searched = spread(named([[0.5], [0.9]]), noise)
    assert searched.between == pytest.approx((0.08 - noise) ** 0.5)
    assert searched.error == pytest.approx(0.2)
    value, error = difference(searched, one)
    assert value == pytest.approx(0.0) and error == pytest.approx((0.04 + noise) ** 0.5)


SHARED = [("a", "b"), ("a", "b"), ("c",), ("d", "e", "f")]


def test_the_noise_of_shared_trainings_is_that_of_a_simulation():
    """Of searches that do not differ, so that all of their variance is noise."""
    rng, found = np.random.default_rng(0), []
    for _ in range(6_000):
        noise = dict(zip("abcdef", rng.normal(size=6), strict=True))
        found.append([{name: noise[name] for name in names} for names in SHARED])
    of_mean, of_searches = 3 / 4**2 + 3 / 12**2, 0.5
    reached = [spread(searches, 1e-9) for searches in found]
    assert np.var([each.mean for each in reached]) == pytest.approx(of_mean, rel=0.05)
    assert np.mean([each.between**2 for each in reached]) == pytest.approx(of_searches, rel=0.05)
    one, known = reached[0], spread(found[0], 0.1)
    assert known.trainings == 6
    assert known.between**2 == pytest.approx(one.between**2 - 0.1 * of_searches)
    assert known.error**2 == pytest.approx(known.between**2 / 4 + 0.1 * of_mean)


def test_shared_trainings_alone_show_no_error():
    shared = {"a": 0.7}
    assert spread([shared, shared]).error is None
    assert spread([shared, shared], 0.01).error == pytest.approx(0.1)
    twice = {"a": 0.6, "b": 0.8}
    assert pooled([twice, twice, {"c": 0.7}]) == pytest.approx(0.02)


ACCURACIES = st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=5), min_size=1, max_size=5)


@given(ACCURACIES, st.floats(-1, 1), st.floats(0.1, 3))
def test_spread_moves_and_scales_with_the_accuracies(accuracies, shift, scale):
    one = spread(named(accuracies))
    other = spread(named([[scale * x + shift for x in some] for some in accuracies]))
    assert other.mean == pytest.approx(scale * one.mean + shift)
    for name in ("within", "error"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert (ours is None) == (theirs is None)
        assert ours is None or theirs == pytest.approx(scale * ours, abs=1e-6)
    assert difference(other, one)[0] == pytest.approx(other.mean - one.mean)
