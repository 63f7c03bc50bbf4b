"""Terms against their tables one by one, and ResNets' costs as terms against the networks'."""

import math

import numpy as np
import pytest
import spaces
import term_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_tf.spaces.cost import cost
from tas_tf.spaces.expected_cost import FORMULAS, CostModel
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.space_terms import choices_of, cost_of
from tas_tf.spaces.terms import Choice, Peak, Terms

pytestmark = pytest.mark.usefixtures("odd_blocks")


@st.composite
def sums(draw):
    """Choices, terms, and their values for all assignments."""
    of = draw(term_graphs.choices())
    terms = draw(term_graphs.term_lists(of))
    values = [
        sum(int(table[tuple(x[choice] for choice in scope)]) for scope, table in terms)
        for x in term_graphs.assignments(of)
    ]
    return of, terms, np.array(values)


@settings(deadline=None)
@given(problem=sums())
def test_merged_terms_have_the_value_of_all_of_them(problem):
    of, terms, expected = problem
    cost = Terms(of, terms)
    everything = term_graphs.assignments(of)
    np.testing.assert_array_equal(cost.values(everything), expected)
    assert [cost.value(x) for x in everything] == expected.tolist()
    assert all(isinstance(cost.value(x), int) for x in everything)
    low, high = cost.limits()
    assert low <= expected.min() and expected.max() <= high


@settings(deadline=None)
@given(problem=sums())
def test_scopes_are_ascending_and_no_choice_in_them_is_idle(problem):
    of, terms, _ = problem
    for scope, table in Terms(of, terms).tables.items():
        assert list(scope) == sorted(set(scope)) and scope
        assert all(np.ptp(table, axis=axis).any() for axis in range(table.ndim))


@settings(deadline=None)
@given(problem=sums(), seed=st.integers(0, 999))
def test_expected_is_that_of_all_assignments(problem, seed):
    of, terms, values = problem
    random = np.random.default_rng(seed)
    rows = [random.dirichlet(np.ones(len(choice.candidates))) for choice in of]
    weights = [
        math.prod(row[k] for row, k in zip(rows, x, strict=True))
        for x in term_graphs.assignments(of)
    ]
    assert Terms(of, terms).expected(rows) == pytest.approx(weights @ values)


@settings(deadline=None)
@given(problem=sums(), data=st.data())
def test_given_some_choices_it_is_a_function_of_the_others(problem, data):
    of, terms, values = problem
    fixed = data.draw(st.dictionaries(st.integers(0, len(of) - 1), st.just(0)))
    left = Terms(of, terms).given(fixed)
    assert not {choice for scope in left.tables for choice in scope} & set(fixed)
    for x, value in zip(term_graphs.assignments(of), values, strict=True):
        if all(x[choice] == k for choice, k in fixed.items()):
            assert left.value(x) == value


@settings(deadline=None)
@given(problem=sums())
def test_a_peak_is_the_largest_of_its_parts(problem):
    of, terms, _ = problem
    parts = [Terms(of, [term]) for term in terms]
    everything = term_graphs.assignments(of)
    expected = [max(part.value(x) for part in parts) for x in everything]
    peak = Peak(tuple(parts))
    assert [peak.value(x) for x in everything] == expected
    np.testing.assert_array_equal(peak.values(everything), expected)


def test_a_table_of_another_shape_is_refused():
    of = [Choice("stem", (1, 2)), Choice("stage1", (1, 2, 3))]
    with pytest.raises(ValueError, match=r"stem, stage1: expected \(2, 3\). Received: \(3, 2\)"):
        Terms(of, [((0, 1), np.zeros((3, 2)))])


@settings(deadline=None, max_examples=60)
@given(space=spaces.small_spaces(most=100), name=st.sampled_from(["macs", "parameters", "memory"]))
def test_cost_of_every_architecture_to_the_unit(space, name):
    of_space = cost_of(space, name)
    for widths, depths in spaces.all_indices(space):
        assert of_space.value((*widths, *depths)) == cost(space.architecture(widths, depths), name)


@settings(deadline=None, max_examples=40)
@given(space=spaces.small_spaces(most=100))
def test_milliseconds_of_every_architecture_to_the_unit(space):
    kind = spaces.kind_of("latency", space)
    of_space = cost_of(space, kind)
    for widths, depths in spaces.all_indices(space):
        assert of_space.value((*widths, *depths)) == cost(space.architecture(widths, depths), kind)


@pytest.mark.parametrize("name", ["macs", "parameters", "memory"])
@pytest.mark.parametrize(
    ("depth", "options"),
    [
        (20, {}),
        (110, {"tie_streams": True}),
        (164, {}),
        (50, {"family": "imagenet_resnet"}),
        (18, {"family": "imagenet_resnet", "tie_streams": True}),
    ],
)
def test_cost_of_whole_networks_to_the_unit(depth, options, name):
    space = SearchSpace.resnet(depth, **options)
    of_space, random = cost_of(space, name), np.random.default_rng(depth)
    widths = len(space.choices)
    for _ in range(10):
        x = [int(random.integers(len(choice.candidates))) for choice in choices_of(space)]
        assert of_space.value(x) == cost(space.architecture(x[:widths], x[widths:]), name)


@settings(deadline=None, max_examples=40)
@given(
    space=spaces.small_spaces(),
    seed=st.integers(0, 999),
    name=st.sampled_from(["macs", "parameters"]),
    formula=st.sampled_from(sorted(FORMULAS)),
)
def test_expected_cost_is_that_of_the_cost_model(space, seed, name, formula):
    tables = spaces.probabilities(space, spaces.random_logits(space, seed))
    sizes = [len(choice.candidates) for choice in choices_of(space)]
    rows = [row[:n] for row, n in zip([*tables[0], *tables[1]], sizes, strict=True)]
    model = CostModel(space, name, formula)
    assert cost_of(space, name, formula).expected(rows) == pytest.approx(model.expected(*tables))


def test_what_is_decided_has_names_and_candidates():
    space = SearchSpace.resnet(8, ratios=(0.5, 1.0))
    found = choices_of(space)
    assert [choice.candidates for choice in found[:2]] == [(8, 16), (8, 16)]
    assert [choice.name for choice in found if choice.decides] == ["stage1", "stage2", "stage3"]
    assert found[-1].candidates == space.depths[-1]
