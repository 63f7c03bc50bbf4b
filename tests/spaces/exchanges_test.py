"""Exchanges and levels of cost: into the band, and no better within their reach."""

import itertools

import numpy as np
import pytest
import term_graphs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tas_tf.spaces.duality import Dual
from tas_tf.spaces.exchanges import Band, Exchanges
from tas_tf.spaces.knapsack import Knapsack
from tas_tf.spaces.terms import Choice, Peak, Terms


def neighbours(assignment, sizes):
    """All assignments that differ in one choice or two."""
    for pair in itertools.combinations(range(len(sizes)), min(2, len(sizes))):
        for picks in itertools.product(*(range(sizes[choice]) for choice in pair)):
            changed = np.array(assignment)
            changed[list(pair)] = picks
            yield changed


@settings(deadline=None, max_examples=60)
@given(problem=term_graphs.problems(kinds=(Terms, Terms, Peak), several=2), seed=st.integers(0, 99))
def test_no_exchange_of_one_or_two_improves_what_is_improved(problem, seed):
    regrets, bands = problem
    random = np.random.default_rng(seed)
    start = np.array([random.integers(len(row)) for row in regrets])
    exchanges = Exchanges(regrets, bands)
    reached = exchanges.repaired(start)
    assert exchanges.excess(reached) <= exchanges.excess(start)
    inside = all(band.contains(reached) for band in bands)
    assert (exchanges.excess(reached) == 0) == inside
    assume(inside)
    improved = exchanges.improved(reached)
    assert all(band.contains(improved) for band in bands)
    best = exchanges.regret(improved)
    assert best <= exchanges.regret(reached)
    for changed in neighbours(improved, [len(row) for row in regrets]):
        if all(band.contains(changed) for band in bands):
            assert exchanges.regret(changed) >= best - 1e-6


@settings(deadline=None, max_examples=60)
@given(problem=term_graphs.problems(kinds=(Terms, Terms, Peak), several=3))
def test_duality_bounds_what_is_in_the_bands(problem):
    regrets, bands = problem
    everything = term_graphs.assignments(bands[0].cost.choices)
    inside = [all(band.contains(x) for band in bands) for x in everything]
    assume(any(inside))
    total = term_graphs.regrets_of(regrets, bands[0].cost.choices)
    dual = Dual(regrets, bands)
    dual.climb()
    assert dual.bound <= total[inside].min() + 1e-6
    for choice in range(len(regrets)):
        for k, bound in enumerate(dual.bounds_given(choice)):
            there = inside & (everything[:, choice] == k)
            assert not there.any() or bound <= total[there].min() + 1e-6
    assert set(dual.found) <= {tuple(x) for x in everything.tolist()}


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6), seed=st.integers(0, 999))
def test_levels_find_the_best_where_costs_are_independent(sizes, seed):
    random = np.random.default_rng(seed)
    of = [Choice(f"choice{c}", tuple(range(size))) for c, size in enumerate(sizes)]
    terms = [((c,), random.integers(0, 10, size)) for c, size in enumerate(sizes)]
    cost = Terms(of, [*terms, ((), np.array(1_000))])
    regrets = [random.exponential(size=size) for size in sizes]
    everything = term_graphs.assignments(of)
    start = everything[random.integers(len(everything))]
    # The levels reach a hundred beyond the band, and each cost has one of its own.
    band = Band(cost, 950.0, float(cost.value(start)))
    total = term_graphs.regrets_of(regrets, of)
    best = total[cost.values(everything) <= band.high].min()
    knapsack = Knapsack(regrets, [band], [cost], np.zeros(1))
    for forward in (True, False):
        found = knapsack.chosen_anew(start, forward)
        assert total[(everything == found).all(axis=1)] == pytest.approx(best)


@settings(deadline=None, max_examples=60)
@given(problem=term_graphs.problems(several=2), seed=st.integers(0, 99))
def test_levels_stay_in_the_bands(problem, seed):
    regrets, bands = problem
    everything = term_graphs.assignments(bands[0].cost.choices)
    inside = [x for x in everything if all(band.contains(x) for band in bands)]
    assume(inside)
    start = inside[seed % len(inside)]
    costs = [band.cost for band in bands]
    knapsack = Knapsack(regrets, bands, costs, np.full(len(costs), 0.01))
    found = knapsack.chosen_anew(start, forward=True)
    assert found is None or all(band.contains(found) for band in bands)
