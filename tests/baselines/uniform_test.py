"""Uniform and random networks: within the band where a network is, and as they say."""

import re

import numpy as np
import pytest
import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_tf.baselines import random_draw, uniform
from tas_tf.spaces.cost import Budget, cost, kind_of, parse_targets
from tas_tf.spaces.derivation import derive, reachable
from tas_tf.spaces.search_space import SearchSpace

RESNET = SearchSpace.resnet(20)
pytestmark = pytest.mark.usefixtures("odd_blocks")


@st.composite
def problems(draw):
    """A small space, and a budget somewhere in its reachable range."""
    space = draw(spaces.small_spaces(most=100, sides=5))
    low, high = reachable(space, "macs")
    amount = low + (high - low) * draw(st.integers(0, 1_000)) / 1_000
    kind = kind_of("macs")
    return space, Budget(kind, amount, cost(space.unpruned(), kind), 0.1)


def values_of(kind, space, budgets, seed=0):
    if kind == "random":
        return random_draw.draw(space, budgets, seed)[0]
    return uniform.uniform(space, budgets, kind)[0]


@pytest.mark.parametrize("kind", ["width", "depth", "random"])
@settings(deadline=None, max_examples=25)
@given(problem=problems())
def test_in_the_band_where_any_network_is(kind, problem):
    space, budget = problem
    values = values_of(kind, space, [budget])
    derived = derive(space, *values, [budget])
    costs = [cost(space.architecture(*indices)) for indices in spaces.all_indices(space)]
    assert derived.in_band == any(map(budget.contains, costs))
    assert derived.in_band == budget.contains(cost(derived.architecture))


@settings(deadline=None, max_examples=40)
@given(problem=problems())
def test_what_is_not_to_change_changes_only_where_it_must(problem):
    space, budget = problem
    everything = [space.architecture(*indices) for indices in spaces.all_indices(space)]
    inside = [a for a in everything if budget.contains(cost(a, budget.kind))]
    if not inside:
        return
    blocks = space.blocks_per_stage
    derived = derive(space, *values_of("width", space, [budget]), [budget]).architecture
    whole = any(tuple(map(len, a.stages)) == blocks for a in inside)
    assert (tuple(map(len, derived.stages)) == blocks) == whole


@settings(deadline=None, max_examples=8)
@given(targets=st.lists(st.floats(0.08, 1.0), min_size=2, max_size=4))
@pytest.mark.parametrize("what", ["width", "depth"])
def test_share_grows_with_the_budget(what, targets):
    several = [parse_targets(target, RESNET) for target in sorted(targets)]
    shares = [uniform.uniform(RESNET, budgets, what)[1] for budgets in several]
    assert shares == sorted(shares)


def test_network_that_fits_is_uniform():
    """At 40 % of the MACs every width is the candidate nearest to 0.64 of it."""
    (budget,) = parse_targets(0.4, RESNET)
    values, share = uniform.uniform(RESNET, [budget], "width")
    found = derive(RESNET, *values, [budget]).architecture
    nearest = [
        min(c.candidates, key=lambda w, c=c: abs(w / c.candidates[-1] - share))
        for c in RESNET.choices
    ]
    expected = RESNET.architecture(
        [c.candidates.index(w) for c, w in zip(RESNET.choices, nearest, strict=True)], [2] * 3
    )
    assert found == expected
    assert budget.floor <= cost(found) <= budget.amount
    assert uniform.told(RESNET, found, "width", share) == f"{share:.1%} of every width"
    wider = RESNET.architecture(
        [min(c.candidates.index(w) + 1, 7) for c, w in zip(RESNET.choices, nearest, strict=True)],
        [2] * 3,
    )
    assert cost(wider) > budget.amount


@pytest.mark.parametrize(
    ("what", "target", "expected"),
    [
        ("width", 0.05, r"25.0% of every width; .*blocks cut: \d"),
        ("depth", 0.4, r"33.3% of every depth; .*layers narrowed: \d"),
        ("depth", 0.55, r"33.3% of every depth$"),
    ],
)
def test_says_what_else_changed(what, target, expected):
    budgets = parse_targets(target, RESNET)
    values, share = uniform.uniform(RESNET, budgets, what)
    derived = derive(RESNET, *values, budgets)
    assert derived.in_band
    told = uniform.told(RESNET, derived.architecture, what, share)
    assert re.match(expected, told), told


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10_000), target=st.floats(0.2, 0.8))
def test_random_networks_are_functions_of_the_seed(seed, target):
    budgets = parse_targets(target, RESNET)
    one, other = (random_draw.draw(RESNET, budgets, seed) for _ in range(2))
    assert one[1] == other[1]
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    derived = derive(RESNET, *one[0], budgets)
    assert derived.in_band
    if "uniformly" in one[1]:
        assert derived.architecture == derived.argmax


def test_random_networks_are_uniform_where_draws_are_cheap():
    """Of a space of nine networks, those in the band are drawn equally often."""
    space = SearchSpace.resnet(
        8, ratios=(0.5, 0.75, 1.0), search="width", frozen=("stem", "stage1", "stage2")
    )
    budgets = parse_targets(0.9, space, tolerance=0.15)
    drawn = [random_draw.draw(space, budgets, seed) for seed in range(600)]
    assert all("uniformly" in how for _, how in drawn)
    found = [derive(space, *values, budgets).architecture for values, _ in drawn]
    everything = {space.architecture(*indices) for indices in spaces.all_indices(space)}
    inside = [a for a in everything if budgets[0].contains(cost(a))]
    assert len(inside) > 2
    counts = np.array([found.count(a) for a in inside])
    assert counts.sum() == 600
    expected = 600 / len(inside)
    # Chi-square far beyond its 99.9th percentile for so few degrees of freedom.
    assert ((counts - expected) ** 2 / expected).sum() < 30


def test_random_values_where_the_band_is_rare():
    budgets = parse_targets(0.97, RESNET, tolerance=0.01)
    values, how = random_draw.draw(RESNET, budgets, 0)
    assert "random values" in how
    assert derive(RESNET, *values, budgets).in_band
    other, _ = random_draw.draw(RESNET, budgets, 1)
    assert (values.widths != other.widths).any()
