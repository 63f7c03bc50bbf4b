"""Bounds by messages against the minimum over all assignments, and on trees equal to it."""

import time

import numpy as np
import pytest
import term_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_tf.spaces.messages import Messages
from tas_tf.spaces.terms import Choice, Terms


@st.composite
def energies(draw):
    """Choices, regrets, two costs, and weights (batch, 2) of any sign."""
    of = draw(term_graphs.choices())
    random = np.random.default_rng(draw(st.integers(0, 9_999)))
    regrets = [random.exponential(size=len(choice.candidates)) for choice in of]
    costs = [Terms(of, draw(term_graphs.term_lists(of))) for _ in range(2)]
    return of, regrets, costs, random.normal(size=(3, 2)) * draw(st.sampled_from([0.0, 0.01, 1.0]))


def values_of(of, regrets, costs, weights) -> np.ndarray:
    """The energies (assignments, batch) of all assignments."""
    everything = term_graphs.assignments(of)
    values = np.stack([cost.values(everything) for cost in costs])
    return term_graphs.regrets_of(regrets, of)[:, None] + values.T @ weights.T


@settings(deadline=None)
@given(energy=energies(), sweeps=st.integers(0, 8))
def test_bounds_are_never_above_the_minimum(energy, sweeps):
    of, regrets, costs, weights = energy
    values = values_of(of, regrets, costs, weights)
    messages = Messages(regrets, costs)
    messages.start(weights)
    before = messages.bounds()
    for sweep in range(sweeps):
        messages.sweep(sweep % 2 == 0)
        bounds = messages.bounds()
        assert (bounds >= before - 1e-6).all()
        before = bounds
    least = values.min(axis=0)
    assert (before <= least + 1e-9 * (1 + np.abs(least))).all()


@settings(deadline=None)
@given(energy=energies(), member=st.integers(0, 2))
def test_bounds_hold_for_other_weights_and_each_candidate(energy, member):
    of, regrets, costs, weights = energy
    messages = Messages(regrets, costs)
    messages.start(weights)
    messages.sweep(forward=True)
    messages.go_on(weights[:1] * 0.5, member)
    values = values_of(of, regrets, costs, weights[:1] * 0.5)[:, 0]
    tolerance = 1e-6 * (1 + np.abs(values).max())
    assert messages.bounds()[0] <= values.min() + tolerance
    everything = term_graphs.assignments(of)
    for choice in range(len(of)):
        given_each = messages.bounds_given(choice, 0)
        assert len(given_each) == len(of[choice].candidates)
        for k, bound in enumerate(given_each):
            assert bound <= values[everything[:, choice] == k].min() + tolerance


@st.composite
def trees(draw):
    """Choices joined in a tree, in an order that sweeps can follow: each to one before it."""
    of = [Choice(f"choice{c}", tuple(range(n))) for c, n in enumerate(draw(_SIZES))]
    random = np.random.default_rng(draw(st.integers(0, 9_999)))
    terms = []
    for choice in range(1, len(of)):
        scope = (choice - 1, choice)
        terms.append((scope, random.normal(size=[len(of[c].candidates) for c in scope])))
    return of, [random.normal(size=len(choice.candidates)) for choice in of], Terms(of, terms)


_SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=6)


@settings(deadline=None)
@given(tree=trees(), forward=st.booleans())
def test_on_chains_one_sweep_finds_the_minimum(tree, forward):
    of, regrets, cost = tree
    weights = np.array([[1.0], [-2.0]])
    values = values_of(of, regrets, [cost], weights)
    messages = Messages(regrets, [cost])
    messages.start(weights)
    messages.sweep(forward)
    np.testing.assert_allclose(messages.bounds(), values.min(axis=0), atol=1e-9)
    # Back from where the sweep ended, each choice is the best given those already chosen.
    everything = {tuple(x): row for x, row in zip(term_graphs.assignments(of), values, strict=True)}
    for b, x in enumerate(messages.decode(not forward)):
        assert everything[tuple(x)][b] == pytest.approx(values[:, b].min(), abs=1e-9)


@settings(deadline=None)
@given(energy=energies(), forward=st.booleans())
def test_what_is_decoded_is_an_assignment(energy, forward):
    of, regrets, costs, weights = energy
    messages = Messages(regrets, costs)
    messages.start(weights)
    messages.sweep(forward)
    found = messages.decode(not forward)
    assert found.shape == (3, len(of))
    assert (found < [len(choice.candidates) for choice in of]).all() and (found >= 0).all()


def test_a_growing_network_takes_milliseconds():
    of, cost = term_graphs.dense((6, 12, 24, 16))
    assert sum(len(scope) == 2 for scope in cost.tables) > 600
    regrets = [np.linspace(1, 0, len(choice.candidates)) for choice in of]
    messages = Messages(regrets, [cost])
    messages.start(np.array([[1e-8], [1e-7]]))
    start = time.process_time()
    for sweep in range(10):
        messages.sweep(sweep % 2 == 0)
    assert time.process_time() - start < 2
    found = messages.decode(forward=True)
    reached = [sum(row[k] for row, k in zip(regrets, x, strict=True)) for x in found]
    reached += messages.weights[:, 0] * cost.values(found)
    assert (messages.bounds() <= np.array(reached) + 1e-9).all()
    assert (messages.bounds() > 0.95 * np.array(reached)).all()
