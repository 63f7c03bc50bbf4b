"""The most probable architecture within a budget, against all architectures one by one."""

import time

import numpy as np
import pytest
import spaces
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import Oracle, derive_by_levels
from parity import absolute, check, fixtures, space_of

from tas_tf.errors import BudgetError
from tas_tf.spaces import derivation, families
from tas_tf.spaces.choices import WidthChoice
from tas_tf.spaces.cost import Budget, cost, parse_targets
from tas_tf.spaces.cost import kind_of as cost_kind
from tas_tf.spaces.derivation import argmax, check_reachable, derive, reachable
from tas_tf.spaces.search_space import SearchSpace

KINDS = ("macs", "parameters", "latency")


pytestmark = pytest.mark.usefixtures("odd_blocks")


@st.composite
def problems(draw, most: int = 200):
    """A space, logits, and a budget somewhere in its reachable range."""
    space = draw(spaces.small_spaces(most=most, sides=5))
    logits = spaces.random_logits(space, draw(st.integers(0, 999)), draw(st.sampled_from([0.3, 3])))
    kind = spaces.kind_of(draw(st.sampled_from(KINDS)), space)
    low, high = reachable(space, kind)
    amount = low + (high - low) * draw(st.integers(0, 1_000)) / 1_000
    tolerance = draw(st.sampled_from([0.0, 0.01, 0.05, 0.3]))
    return space, logits, Budget(kind, amount, cost(space.unpruned(), kind), tolerance)


@settings(deadline=None, max_examples=60)
@given(space=spaces.small_spaces(most=100), name=st.sampled_from(KINDS))
def test_reachable_is_smallest_and_largest(space, name):
    kind = spaces.kind_of(name, space)
    costs = Oracle(space, spaces.random_logits(space, 0), [kind]).costs
    assert reachable(space, kind) == (costs.min(), costs.max())


@settings(deadline=None, max_examples=80)
@given(problem=problems())
def test_best_of_all_in_the_band(problem):
    space, logits, budget = problem
    derived = derive(space, *logits, [budget])
    oracle = Oracle(space, logits, [budget.kind])
    best, found = oracle.best([budget]), cost(derived.architecture, budget.kind)
    assert derived.in_band == (best is not None) == budget.contains(found)
    if derived.in_band:
        assert derived.log_probability == pytest.approx(best, abs=1e-9)
        assert derived.optimality_gap == 0
    else:
        nearest, log_probability = oracle.nearest_below([budget])
        assert found == nearest
        assert derived.log_probability == pytest.approx(log_probability, abs=1e-9)
        assert derived.optimality_gap is None


@settings(deadline=None, max_examples=60)
@given(problem=problems())
def test_levels_as_fine_as_the_costs_are_exact(problem):
    space, logits, budget = problem
    derived = derive_by_levels(space, *logits, [budget], levels=int(budget.amount) + 1)
    oracle = Oracle(space, logits, [budget.kind])
    best, found = oracle.best([budget]), cost(derived.architecture, budget.kind)
    assert derived.in_band == (best is not None) == budget.contains(found)
    if derived.in_band:
        assert derived.log_probability == pytest.approx(best, abs=1e-9)
    else:
        assert found == oracle.nearest_below([budget])[0]


@settings(deadline=None, max_examples=80)
@given(problem=problems(), levels=st.sampled_from([1, 7, 40, 300]))
def test_coarse_levels_stay_within_budget_and_gap(problem, levels):
    space, logits, budget = problem
    derived = derive_by_levels(space, *logits, [budget], levels=levels)
    best = Oracle(space, logits, [budget.kind]).best([budget])
    found = cost(derived.architecture, budget.kind)
    assert found <= budget.amount
    assert derived.in_band == budget.contains(found)
    if derived.in_band:
        assert derived.log_probability <= best + 1e-9
        assert best <= derived.log_probability + derived.optimality_gap + 1e-9


@settings(deadline=None, max_examples=40)
@given(problem=problems(), shares=st.lists(st.integers(1, 1_000), min_size=1, max_size=6))
def test_many_budgets_at_once(problem, shares):
    space, logits, budget = problem
    top = reachable(space, budget.kind)[1]
    amounts = sorted(top * share / 1_000 for share in (*shares, 1_000))
    budgets = [Budget(budget.kind, amount, budget.unpruned, 0.1) for amount in amounts]
    oracle = Oracle(space, logits, [budget.kind])
    best = [value for value in (oracle.best([each]) for each in budgets) if value is not None]
    found = derivation.derive_each(space, *logits, budgets)
    assert found and len(found) <= len(best)
    if top <= derivation.LEVELS:  # every cost has a level of its own
        received = [
            derivation.of_measured(space, logits, budgets, each).log_probability for each in found
        ]
        whole = derive(space, *logits, budgets[-1:]).argmax_log_probability
        assert received == pytest.approx([value - whole for value in best], abs=1e-9)
    for architecture in found:
        assert any(each.contains(cost(architecture, each.kind)) for each in budgets)
    assert budgets[-1].contains(cost(found[-1], budget.kind))


def test_many_budgets_of_a_whole_network_are_as_good_as_one_by_one():
    space = SearchSpace.resnet(20, 10, (8, 8, 1))
    logits = spaces.random_logits(space, 0)
    kind, unpruned = cost_kind("macs"), cost(space.unpruned(), "macs")
    amounts = np.linspace(*reachable(space, kind), 13)[1:]
    budgets = [Budget(kind, float(amount), unpruned) for amount in amounts]
    found = derivation.derive_each(space, *logits, budgets)
    assert len(found) == len(budgets)
    for budget, architecture in zip(budgets, found, strict=True):
        alone = derive(space, *logits, [budget])
        assert budget.contains(cost(architecture, kind))
        received = derivation.of_measured(space, logits, [budget], architecture).log_probability
        best = derivation.of_measured(space, logits, [budget], alone.architecture).log_probability
        assert best - 0.05 <= received <= best + 0.05


@pytest.mark.parametrize("levels", [1, 40, 4_000])
def test_cheapest_architecture_is_found_among_more_probable_ones(levels):
    space = SearchSpace.resnet(20, search="width")
    low, high = reachable(space, "macs")
    logits = [np.tile(np.arange(8.0), (19, 1)), np.zeros((3, 1))]
    derived = derive_by_levels(space, *logits, [Budget(cost_kind("macs"), low, high, 0.0)], levels)
    assert derived.in_band and cost(derived.architecture) == low


@settings(deadline=None, max_examples=60)
@given(problem=problems(), name=st.sampled_from(KINDS), other=st.integers(0, 1_000))
def test_two_budgets(problem, name, other):
    space, logits, budget = problem
    assume(name != budget.kind.name)
    kind = spaces.kind_of(name, space)
    low, high = reachable(space, kind)
    second = Budget(kind, low + (high - low) * other / 1_000, high, 0.2)
    oracle = Oracle(space, logits, [budget.kind, kind])
    best, below = oracle.best([budget, second]), oracle.nearest_below([budget, second])
    if below is None:
        with pytest.raises(BudgetError, match="within all of .* from .*; .* from "):
            derive(space, *logits, [budget, second])
        return
    derived = derive(space, *logits, [budget, second])
    assert derived.in_band == (best is not None)
    expected = below[1] if best is None else best
    assert derived.log_probability == pytest.approx(expected, abs=1e-9)
    costs = [cost(derived.architecture, b.kind) for b in (budget, second)]
    assert derived.in_band == (budget.contains(costs[0]) and second.contains(costs[1]))


def test_two_budgets_of_a_whole_network():
    space = SearchSpace.resnet(20)
    logits = spaces.random_logits(space, 5, scale=0.5)
    budgets = parse_targets([0.5, "parameters: 0.4"], space)
    derived = derive(space, *logits, budgets)
    assert derived.in_band and derived.optimality_gap is None
    assert all(budget.contains(cost(derived.architecture, budget.kind)) for budget in budgets)
    single = derive(space, *logits, budgets[:1])
    assert derived.log_probability <= single.log_probability + single.optimality_gap
    assert set(derived.summary(budgets)["budgets"]) == {"macs", "parameters"}


@pytest.mark.parametrize("tie_streams", [False, True])
def test_ties_hold(tie_streams):
    space = SearchSpace.resnet(20, tie_streams=tie_streams)
    logits = spaces.random_logits(space, 7)
    network = derive(space, *logits, parse_targets(0.5, space)).architecture
    outputs = [{block[-1] for block in stage} for stage in network.stages]
    assert all(len(stage) == 1 for stage in outputs) == tie_streams
    assert (outputs[0] == {network.stem_width}) == tie_streams


def test_a_tied_width_counts_once():
    choices = (WidthChoice("stream", (1, 2)), *(WidthChoice(f"c{i}", (1,)) for i in range(5)))
    space = SearchSpace(
        *("cifar_resnet", "basic", (4, 4, 1), 2, choices),
        unit_choices=(0, 1, 0, 1, 0, 2, 3, 4, 5),
        depths=((1, 2), (1,), (1,)),
    )
    logits = [np.zeros((6, 2)), np.zeros((3, 2))]
    (budget,) = parse_targets(reachable(space, "macs")[1], space)
    derived = derive(space, *logits, [budget])
    assert derived.architecture.stages[0] == ((1, 2), (1, 2))
    assert derived.log_probability == pytest.approx(2 * np.log(0.5))


def test_argmax_is_the_reference(reference_dir):
    for file, data in fixtures(reference_dir, "supernet_*.npz").items():
        space = space_of(data)
        network = argmax(space, data["width_logits"], data["depth_logits"])
        kept = [len(stage) for stage in network.stages]
        check(file, "argmax depths", absolute(kept, data["derived_xblocks"]), 0)
        # The image's channels, the stem's, and those of all units, cut ones included.
        image, stem, *units = data["derived_xchannels"].tolist()
        assert image == network.input_shape[2]
        size = len(families.BLOCKS[space.block].units)
        whole = [units[i : i + size] for i in range(0, len(units), size)]
        check(file, "argmax widths", abs(stem - network.stem_width), 0)
        for stage, count in zip(network.stages, space.blocks_per_stage, strict=True):
            check(file, "argmax widths", absolute(stage, whole[: len(stage)]), 0)
            whole = whole[count:]


def test_argmax_stands_where_it_is_in_the_band():
    space = SearchSpace.resnet(32)
    logits = spaces.random_logits(space, 11)
    plain = argmax(space, *logits)
    (budget,) = parse_targets(cost(plain) * 1.02, space)
    derived = derive(space, *logits, [budget])
    assert derived.architecture == derived.argmax == plain
    assert derived.log_probability == pytest.approx(derived.argmax_log_probability)
    assert derived.summary([budget])["is_argmax"]


def test_nothing_in_the_band_takes_the_nearest_below():
    space = SearchSpace.resnet(20, search="depth", depths=[[1, 3], [3], [3]])
    low, high = reachable(space, "macs")
    (budget,) = parse_targets((low + high) / 2 + 0.4 * (high - low), space, tolerance=0.01)
    derived = derive(space, np.zeros((19, 1)), np.array([[0.0, 9.0], [0, 0], [0, 0]]), [budget])
    assert not derived.in_band and derived.optimality_gap is None
    assert cost(derived.architecture) == low
    assert derived.log_probability == pytest.approx(-9, abs=1e-3)
    summary = derived.summary([budget])
    assert not summary["in_band"] and summary["budgets"]["macs"]["cost"] == low


@pytest.mark.parametrize(
    ("target", "range_"),
    [
        (0.001, "1.002 M to 40.81 M macs, that is 0.025 to 1.000"),
        ("macs: 1G", "1.002 M to 40.81 M macs, that is 0.025 to 1.000"),
        ("parameters: 2M", "to 272.3 k parameters, that is 0.0"),
        ([0.5, "parameters: 10"], "to 272.3 k parameters"),
        ("0", "1.002 M to 40.81 M macs"),
    ],
)
def test_refuses_what_no_architecture_meets(target, range_):
    space = SearchSpace.resnet(20)
    budgets = parse_targets(target, space)
    for refuse in (
        lambda: check_reachable(space, budgets),
        lambda: derive(space, *spaces.random_logits(space, 0), budgets),
    ):
        with pytest.raises(BudgetError) as caught:
            refuse()
        assert str(caught.value).startswith("target: no architecture of the space has ")
        assert range_ in str(caught.value)


def test_refuses_what_is_dearer_than_the_widest_candidates():
    space = SearchSpace.resnet(20, ratios=(0.25, 0.5))
    budgets = parse_targets(0.9, space)
    with pytest.raises(BudgetError, match=r"that is 0\.0\d+ to 0\.\d+ of the unpruned"):
        check_reachable(space, budgets)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.72])
def test_resnet164_is_quick_and_close(share):
    space = SearchSpace.resnet(164)
    logits = spaces.random_logits(space, 13, scale=0.5)
    (budget,) = parse_targets(share, space)
    start = time.process_time()
    derived = derive(space, *logits, [budget])
    assert time.process_time() - start < 5
    assert derived.in_band and budget.contains(cost(derived.architecture))
    assert derived.optimality_gap < 0.02 * abs(derived.log_probability)
    assert derived.log_probability <= derived.argmax_log_probability


@settings(deadline=None)
@given(space=spaces.small_spaces(), seed=st.integers(0, 999))
def test_most_probable_has_the_largest_probability(space, seed):
    logits = spaces.random_logits(space, seed, 3.0)
    tables = derivation.probabilities(space, *logits)
    for table, expected in zip(tables, spaces.probabilities(space, logits), strict=True):
        np.testing.assert_allclose(table, expected, rtol=1e-12, atol=1e-15)
    indices = derivation.most_probable(space, *logits)
    assert space.architecture(*indices) == argmax(space, *logits)
    for table, chosen in zip(tables, indices, strict=True):
        assert list(table.argmax(axis=1)) == chosen


@pytest.mark.parametrize("kind", ["macs", "parameters", "latency"])
def test_of_equally_probable_networks_the_dearest_is_taken(kind):
    space = SearchSpace.resnet(20)
    logits = spaces.random_logits(space, 0, scale=0.0)
    kind = spaces.kind_of(kind, space)
    budget = Budget(kind, 0.6 * cost(space.unpruned(), kind), cost(space.unpruned(), kind))
    derived = derive(space, *logits, [budget])
    assert 0.995 * budget.amount <= cost(derived.architecture, kind) <= budget.amount
