"""The least regret within bands on graphs of terms, against all assignments one by one."""

import time

import numpy as np
import pytest
import spaces
import term_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle

from tas_tf.errors import BudgetError
from tas_tf.spaces import dynamic_program, term_solver
from tas_tf.spaces.cost import Budget, cost, parse_targets
from tas_tf.spaces.derivation import derive
from tas_tf.spaces.exchanges import Band
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.space_terms import choices_of, cost_of
from tas_tf.spaces.term_solver import reachable, solve
from tas_tf.spaces.terms import Choice, Peak, Terms


def solve_by_messages(regrets, bands):
    """Solves as where there are too many assignments to look at all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(term_solver, "FEW", 0)
        return solve(regrets, bands)


def best_of_all(regrets, bands) -> tuple[bool, float, float] | None:
    """Whether anything is in the bands, the first cost and the regret of the best; None below."""
    of = bands[0].cost.choices
    total = term_graphs.regrets_of(regrets, of)
    costs = [band.cost.values(term_graphs.assignments(of)) for band in bands]
    below = np.all([c <= band.high for c, band in zip(costs, bands, strict=True)], axis=0)
    inside = below & np.all([c >= band.low for c, band in zip(costs, bands, strict=True)], axis=0)
    if not below.any():
        return None
    allowed = inside if inside.any() else below & (costs[0] == costs[0][below].max())
    best = np.where(allowed, total, np.inf).argmin()
    return bool(inside.any()), costs[0][best], total[best]


def check_against_all(regrets, bands, solver) -> None:
    expected = best_of_all(regrets, bands)
    if expected is None:
        with pytest.raises(BudgetError, match="within all of a budget"):
            solver(regrets, bands)
        return
    in_band, spent, regret = expected
    found = solver(regrets, bands)
    assert found.in_band == in_band == all(band.contains(found.assignment) for band in bands)
    assert found.regret == pytest.approx(regret, abs=1e-9)
    total = sum(row[k] for row, k in zip(regrets, found.assignment, strict=True))
    assert found.regret == pytest.approx(total, abs=1e-9)
    if in_band:
        assert found.optimality_gap >= 0
    else:
        assert found.optimality_gap is None
        assert bands[0].cost.value(found.assignment) == spent


# Small graphs of terms: with loops, over one to three choices, of which some are tied.
@settings(deadline=None, max_examples=80, derandomize=True)
@given(problem=term_graphs.problems())
def test_best_of_all_in_a_band(problem):
    check_against_all(*problem, solve_by_messages)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(problem=term_graphs.problems(kinds=(Peak,)))
def test_best_of_all_below_a_peak(problem):
    check_against_all(*problem, solve_by_messages)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(problem=term_graphs.problems(kinds=(Terms, Terms, Peak), several=3))
def test_few_assignments_are_all_looked_at(problem):
    regrets, bands = problem
    bands.sort(key=lambda band: isinstance(band.cost, Peak))
    check_against_all(regrets, bands, solve)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(problem=term_graphs.problems(kinds=(Terms, Terms, Peak), several=3))
def test_several_bands_are_kept_and_the_gap_holds(problem):
    regrets, bands = problem
    expected = best_of_all(regrets, bands)
    try:
        found = solve_by_messages(regrets, bands)
    except BudgetError:
        assert expected is None
        return
    assert all(band.cost.value(found.assignment) <= band.high for band in bands)
    assert found.in_band == all(band.contains(found.assignment) for band in bands)
    if found.in_band:
        assert found.regret - found.optimality_gap <= expected[2] + 1e-9 <= found.regret + 2e-9


@settings(deadline=None, derandomize=True)
@given(problem=term_graphs.problems(kinds=(Terms, Peak)))
def test_nothing_lies_beyond_what_is_reachable(problem):
    of_problem = problem[1][0].cost
    values = of_problem.values(term_graphs.assignments(of_problem.choices))
    low, high = reachable(of_problem)
    assert low <= values.min() + 1e-6 and high >= values.max() - 1e-6


def terms_of(space, logits, budgets):
    """Regrets and bands of a ResNet's space."""
    sizes = [len(choice.candidates) for choice in choices_of(space)]
    rows = [row[:n] for row, n in zip([*logits[0], *logits[1]], sizes, strict=True)]
    bands = [Band.of(cost_of(space, budget.kind), budget) for budget in budgets]
    return [row.max() - row for row in rows], bands


@pytest.mark.usefixtures("odd_blocks")
@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    space=spaces.small_spaces(most=150, sides=5),
    seed=st.integers(0, 999),
    name=st.sampled_from(["macs", "parameters", "latency", "memory"]),
    share=st.integers(0, 100),
)
def test_best_architecture_of_small_spaces(space, seed, name, share):
    kind = spaces.kind_of(name, space)
    low, high = dynamic_program.reachable(space, kind)
    least, most = reachable(cost_of(space, kind))
    assert least <= low and most >= high
    budget = Budget(kind, low + (high - low) * share / 100, high, 0.2)
    logits = spaces.random_logits(space, seed)
    regrets, bands = terms_of(space, logits, [budget])
    found = solve_by_messages(regrets, bands)
    oracle = Oracle(space, logits, [kind])
    best = oracle.best([budget])
    assert found.in_band == (best is not None)
    expected = oracle.nearest_below([budget])[1] if best is None else best
    assert oracle.log_probabilities.max() - found.regret == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("options", [{}, {"search": "width"}, {"tie_streams": True}])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.72])
def test_as_good_as_the_dynamic_programme(options, share):
    space = SearchSpace.resnet(56, **options)
    logits = spaces.random_logits(space, 1, scale=0.5)
    (budget,) = parse_targets(share, space)
    derived = derive(space, *logits, [budget])
    found = solve(*terms_of(space, logits, [budget]))
    assert found.in_band and budget.contains(cost(architecture(space, found)))
    lost = derived.argmax_log_probability - derived.log_probability
    assert found.regret <= lost + 1e-3
    assert found.optimality_gap <= derived.optimality_gap + 0.01


def test_several_budgets_of_a_whole_network():
    space = SearchSpace.resnet(20)
    logits = spaces.random_logits(space, 5, scale=0.5)
    budgets = parse_targets([0.5, "parameters: 0.4", "memory: 0.8"], space)
    derived = derive(space, *logits, budgets)
    found = solve(*terms_of(space, logits, budgets))
    assert found.in_band
    for budget in budgets:
        assert budget.contains(cost(architecture(space, found), budget.kind))
    assert found.regret <= derived.argmax_log_probability - derived.log_probability + 1e-3
    assert found.optimality_gap < 0.5


def architecture(space, found):
    widths = len(space.choices)
    return space.architecture(found.assignment[:widths], found.assignment[widths:])


@pytest.mark.parametrize("share", [0.2, 0.5, 0.72])
def test_a_network_that_concatenates_is_quick_and_close(share):
    of, macs = term_graphs.dense((6, 12, 24, 16))
    assert sum(len(scope) == 2 for scope in macs.tables) > 600
    random = np.random.default_rng(3)
    regrets = [random.normal(scale=0.5, size=len(choice.candidates)) for choice in of]
    regrets = [row - row.min() for row in regrets]
    low, high = reachable(macs)
    assert (low, high) == (macs.value([0] * len(of)), macs.value([7] * len(of)))
    band = Band(macs, 0.95 * share * high, share * high)
    start = time.process_time()
    found = solve(regrets, [band])
    assert time.process_time() - start < 20
    assert found.in_band and band.contains(found.assignment)
    assert found.optimality_gap < 0.2


def test_nothing_within_names_the_budgets():
    of = [Choice("stem", (1, 2)), Choice("stage1", (1, 2))]
    macs = Terms(of, [((0, 1), np.array([[5, 6], [7, 8]]))])
    regrets = [np.array([0.0, 1.0])] * 2
    for solver in (solve, solve_by_messages):
        with pytest.raises(BudgetError, match="target: no architecture .* all of 4 macs; others"):
            solver(regrets, [Band(macs, 3, 4, "4 macs"), Band(macs, 3, 9, "others")])
