"""Several budgets, peaks among them, and the bound of the gap, against all architectures."""

import numpy as np
import pytest
import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle, derive_by_levels

from tas_tf.errors import BudgetError
from tas_tf.spaces.budget_solver import Programme
from tas_tf.spaces.choices import WidthChoice
from tas_tf.spaces.cost import Budget, cost, parse_targets
from tas_tf.spaces.derivation import derive
from tas_tf.spaces.dynamic_program import reachable
from tas_tf.spaces.search_space import SearchSpace

pytestmark = pytest.mark.usefixtures("odd_blocks")


KINDS = [
    ("memory",),
    ("macs", "memory"),
    ("parameters", "memory"),
    ("macs", "parameters", "memory"),
    ("latency", "memory"),
    ("latency", "macs", "memory"),
]


@st.composite
def problems(draw, kinds=KINDS):
    """A space, logits, and budgets of several kinds, each somewhere in its reachable range."""
    space = draw(spaces.small_spaces(most=150, sides=5))
    logits = spaces.random_logits(space, draw(st.integers(0, 999)), draw(st.sampled_from([0.3, 3])))
    budgets = []
    for name in draw(st.sampled_from(kinds)):
        kind = spaces.kind_of(name, space)
        low, high = reachable(space, kind)
        # Rather loose, so that several meet often enough.
        amount = low + (high - low) * draw(st.integers(200, 1_000)) / 1_000
        tolerance = draw(st.sampled_from([0.0, 0.05, 0.5, 0.9]))
        budgets.append(Budget(kind, amount, cost(space.unpruned(), kind), tolerance))
    return space, logits, budgets


def costs_of(architecture, budgets) -> list[int]:
    return [cost(architecture, budget.kind) for budget in budgets]


def in_bands(architecture, budgets) -> bool:
    costs = costs_of(architecture, budgets)
    return all(budget.contains(c) for budget, c in zip(budgets, costs, strict=True))


@settings(deadline=None, max_examples=100)
@given(problem=problems())
def test_best_of_all_in_the_bands(problem):
    space, logits, budgets = problem
    oracle = Oracle(space, logits, [budget.kind for budget in budgets])
    best, below = oracle.best(budgets), oracle.nearest_below(budgets)
    if below is None:
        with pytest.raises(BudgetError):
            derive(space, *logits, budgets)
        return
    # A peak may be named first: budgets of sums are met before it.
    derived = derive(space, *logits, [budgets[-1], *budgets[:-1]])
    assert derived.in_band == (best is not None) == in_bands(derived.architecture, budgets)
    if best is not None:
        assert derived.log_probability == pytest.approx(best, abs=1e-9)
        assert derived.optimality_gap == 0
    else:
        assert costs_of(derived.architecture, budgets)[0] == below[0]
        assert derived.log_probability == pytest.approx(below[1], abs=1e-9)
        assert derived.optimality_gap is None


@settings(deadline=None, max_examples=100)
@given(problem=problems([*KINDS[1:], ("macs", "parameters")]), levels=st.sampled_from([40, 4_000]))
def test_levels_keep_the_budgets_and_what_they_say_of_the_gap(problem, levels):
    space, logits, budgets = problem
    oracle = Oracle(space, logits, [budget.kind for budget in budgets])
    try:
        derived = derive_by_levels(space, *logits, budgets, levels=levels)
    except BudgetError:
        # With several sums at once a way within all of them may be missed.
        sums = [budget for budget in budgets if not budget.kind.peak]
        assert oracle.nearest_below(budgets) is None or len(sums) > 1
        return
    costs = costs_of(derived.architecture, budgets)
    assert all(c <= budget.amount for budget, c in zip(budgets, costs, strict=True))
    assert derived.in_band == in_bands(derived.architecture, budgets)
    if derived.in_band:
        best = oracle.best(budgets)
        assert derived.log_probability <= best + 1e-9
        if derived.optimality_gap is not None:
            assert best <= derived.log_probability + derived.optimality_gap + 1e-9


def test_what_levels_round_past_is_in_the_bands_nonetheless():
    """Of a band of one cost, which few levels miss, the nearest below is in the band."""
    widths = [
        (1,),
        (8,),
        (1, 4),
        (3,),
        (1,),
        (2,),
        (1,),
        (5,),
        (2,),
        (1,),
        (1, 3, 4),
        (1,),
        (2, 7, 9),
    ]
    space = SearchSpace(
        family="imagenet_resnet",
        block="single",
        input_shape=(1, 1, 1),
        num_classes=1,
        choices=tuple(WidthChoice(f"choice{n}", each) for n, each in enumerate(widths)),
        unit_choices=tuple(range(len(widths))),
        depths=((1, 3), (1, 2, 3), (3,), (3,)),
    )
    logits = np.zeros((len(widths), 3)), np.zeros((4, 3))
    parameters, memory = (spaces.kind_of(name, space) for name in ("parameters", "memory"))
    budgets = [
        Budget(parameters, 885.0, cost(space.unpruned(), parameters), 0.0),
        Budget(memory, 69.6, cost(space.unpruned(), memory)),
    ]
    derived = derive_by_levels(space, *logits, budgets, levels=40)
    assert in_bands(derived.architecture, budgets) and derived.in_band


def programme(space, logits, budgets, levels=4_000) -> Programme:
    sizes = [len(choice.candidates) for choice in space.choices], [len(d) for d in space.depths]
    regrets = (
        [row[:size].max() - row[:size] for row, size in zip(rows, counts, strict=True)]
        for rows, counts in zip(logits, sizes, strict=True)
    )
    return Programme(space, *regrets, budgets, levels)


@settings(deadline=None, max_examples=150)
@given(problem=problems([("macs",), ("parameters",), ("latency",)]))
def test_dual_bound_lies_below_every_regret_in_the_band(problem):
    space, logits, budgets = problem
    oracle = Oracle(space, logits, [budgets[0].kind])
    best = oracle.best(budgets)
    bound = programme(space, logits, budgets).dual_bound()
    if best is not None:
        assert bound <= oracle.log_probabilities.max() - best + 1e-9


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_dual_bound_is_close(share):
    # Argmax costs some 60 %: the best lies below it, or above.
    space = SearchSpace.resnet(20)
    logits = spaces.random_logits(space, 3, scale=0.5)
    (budget,) = parse_targets(share, space)
    problem = programme(space, logits, [budget])
    (regret, _), in_band, gap = problem.solve()
    bound = problem.dual_bound()
    assert in_band and 0 < bound <= regret
    assert gap == pytest.approx(regret - bound)
    assert gap < 0.2 * regret


def test_bisection_takes_the_best_that_it_meets(monkeypatch):
    space = SearchSpace.resnet(20, ratios=(0.3, 0.5, 0.8, 1.0))
    logits = spaces.random_logits(space, 23, scale=0.5)
    budgets = parse_targets(["macs: 0.5", "parameters: 0.3"], space, tolerance=0.2)
    problem = programme(space, logits, budgets, levels=500)
    met, architecture = [], SearchSpace.architecture

    def watched(self, widths, depths):
        built = architecture(self, widths, depths)
        if in_bands(built, budgets):
            regrets = zip([*problem.widths, *problem.depths], [*widths, *depths], strict=True)
            met.append(sum(row[index] for row, index in regrets))
        return built

    monkeypatch.setattr(SearchSpace, "architecture", watched)
    (found, _), in_band, _ = problem.solve()
    assert in_band and found == pytest.approx(min(met))
    # The best is neither the first nor the last, nor are all alike.
    assert min(met) + 1e-3 < min(met[0], met[-1]) <= max(met)


def test_three_budgets_of_a_whole_network():
    space = SearchSpace.resnet(20)
    logits = spaces.random_logits(space, 5, scale=0.5)
    budgets = parse_targets(["memory: 0.8", "macs: 0.5", "parameters: 0.5"], space, tolerance=0.2)
    derived = derive(space, *logits, budgets)
    assert derived.in_band and in_bands(derived.architecture, budgets)
    assert set(derived.summary(budgets)["budgets"]) == {"memory", "macs", "parameters"}


def test_peak_in_steps_between_which_nothing_lies():
    # One width of the stem fixes the peak: it can only be the one or the other.
    space = SearchSpace.resnet(8, ratios=(0.5, 1.0), search="width")
    low, high = reachable(space, "memory")
    (budget,) = parse_targets(f"memory: {(low + high) // 2}", space, tolerance=0.001)
    logits = [np.zeros((len(space.choices), 2)), np.zeros((3, 1))]
    derived = derive(space, *logits, [budget])
    found = cost(derived.architecture, "memory")
    assert not derived.in_band and low <= found < budget.floor
