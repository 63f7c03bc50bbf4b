"""Costs: to the last digit for networks, the exact expectation for spaces."""

import json

import numpy as np
import pytest
import spaces
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from parity import check

from tas_tf.errors import BudgetError
from tas_tf.spaces import families
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import cost, parse_targets
from tas_tf.spaces.expected_cost import CostModel
from tas_tf.spaces.search_space import SearchSpace

KINDS = ("macs", "parameters", "latency")


pytestmark = pytest.mark.usefixtures("odd_blocks")


FILE = "architectures.json"


def published(reference_dir) -> dict:
    return json.loads((reference_dir.parent / FILE).read_text())


def check_costs(network: Architecture, entry: dict):
    check(FILE, "MACs by formula", abs(cost(network, "macs") - entry["macs"]), 0)
    difference = cost(network, "parameters") - entry["trainable_parameters"]
    check(FILE, "parameters by formula", abs(difference), 0)


def test_dense_networks(reference_dir):
    networks = published(reference_dir)["dense"]
    assert len(networks) >= 8
    for name, expected in networks.items():
        data, depth = name.split("-resnet")
        family = "imagenet_resnet" if data == "imagenet" else "cifar_resnet"
        classes = 1000 if data == "imagenet" else 10
        network = SearchSpace.resnet(int(depth), classes, family=family).unpruned()
        check_costs(network, expected)


def test_published_networks(reference_dir):
    networks = published(reference_dir)["published"]
    assert len(networks) >= 9
    for entry in networks.values():
        network = Architecture(
            "imagenet_resnet" if entry["dataset"] == "imagenet" else "cifar_resnet",
            *(entry[field] for field in ("block", "input_shape", "num_classes")),
            *(entry[field] for field in ("stem_width", "stages")),
        )
        check_costs(network, entry)


def test_small_odd_network_by_hand():
    network = Architecture(
        "cifar_resnet", "basic", (11, 13, 5), 3, 7, (((2, 7),), ((9, 8), (4, 6)), ((1, 5),))
    )
    macs = (
        (3 * 3 * 5 * 7) * (11 * 13)  # stem
        + (3 * 3 * 7 * 2 + 3 * 3 * 2 * 7) * (11 * 13)  # stage 1, identity shortcut
        + (3 * 3 * 7 * 9 + 3 * 3 * 9 * 8 + 7 * 8) * (6 * 7)  # stage 2: halved and rounded up
        + (3 * 3 * 8 * 4 + 3 * 3 * 4 * 6 + 8 * 6) * (6 * 7)  # a projection since 8 differs from 6
        + (3 * 3 * 6 * 1 + 3 * 3 * 1 * 5 + 6 * 5) * (3 * 4)  # stage 3
        + 5 * 3  # classifier
    )
    parameters = (
        (3 * 3 * 5 * 7 + 2 * 7)
        + (3 * 3 * 7 * 2 + 2 * 2 + 3 * 3 * 2 * 7 + 2 * 7)
        + (3 * 3 * 7 * 9 + 2 * 9 + 3 * 3 * 9 * 8 + 2 * 8 + 7 * 8)  # stride 2: not normalized
        + (3 * 3 * 8 * 4 + 2 * 4 + 3 * 3 * 4 * 6 + 2 * 6 + 8 * 6 + 2 * 6)  # stride 1: normalized
        + (3 * 3 * 6 * 1 + 2 * 1 + 3 * 3 * 1 * 5 + 2 * 5 + 6 * 5)
        + (5 * 3 + 3)
    )
    assert (cost(network, "macs"), cost(network, "parameters")) == (macs, parameters)


def test_odd_kernels_by_hand():
    network = Architecture(
        "imagenet_resnet", "odd", (11, 13, 5), 3, 4, (((2, 4),), ((3, 6),), ((1, 6),), ((1, 1),))
    )
    macs = (
        (7 * 7 * 5 * 4) * (6 * 7)  # stem, then pooling to 3 x 4
        + (7 * 5 * 4 * 2 + 1 * 3 * 2 * 4) * (3 * 4)
        + (7 * 5 * 4 * 3 + 1 * 3 * 3 * 6 + 4 * 6) * (2 * 2)
        + (7 * 5 * 6 * 1 + 1 * 3 * 1 * 6 + 6 * 6) * (1 * 1)
        + (7 * 5 * 6 * 1 + 1 * 3 * 1 * 1 + 6 * 1) * (1 * 1)
        + 1 * 3
    )
    assert cost(network, "macs") == macs


def one_hot(space: SearchSpace, widths, depths) -> list[np.ndarray]:
    rows = [
        (widths, max(len(choice.candidates) for choice in space.choices)),
        (depths, max(map(len, space.depths))),
    ]
    return [np.eye(size)[list(indices)] for indices, size in rows]


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=40)
@given(space=spaces.small_spaces(), data=st.data())
def test_expected_equals_exact_at_one_hot(name, space, data):
    kind = spaces.kind_of(name, space)
    model = CostModel(space, kind)
    for _ in range(5):
        widths = [data.draw(st.integers(0, len(c.candidates) - 1)) for c in space.choices]
        depths = [data.draw(st.integers(0, len(d) - 1)) for d in space.depths]
        exact = cost(space.architecture(widths, depths), kind)
        assert model.expected(*one_hot(space, widths, depths)) == exact


@st.composite
def resnet_spaces(draw) -> SearchSpace:
    block = draw(st.sampled_from(sorted(families.BLOCKS)))
    layers = 3 * len(families.BLOCKS[block].units)
    return SearchSpace.resnet(
        layers * draw(st.integers(1, 5)) + 2,
        num_classes=draw(st.integers(1, 20)),
        input_shape=draw(st.sampled_from([(11, 13, 3), (32, 32, 1), (1, 7, 2)])),
        block=block,
        ratios=draw(st.lists(st.floats(0.05, 1), min_size=1, max_size=9)),
        width_divisor=draw(st.sampled_from([1, 4])),
        search=draw(st.sampled_from(["shape", "width", "depth"])),
        frozen=draw(st.sets(st.sampled_from(["stem", "stage2", "stage1_block1"]))),
        tie_streams=draw(st.booleans()),
    )


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=25)
@given(space=resnet_spaces(), seed=st.integers(0, 2**32 - 1))
def test_expected_equals_exact_at_one_hot_in_resnets(name, space, seed):
    kind = spaces.kind_of(name, space)
    random = np.random.default_rng(seed)
    model = CostModel(space, kind)
    for _ in range(3):
        widths = [random.integers(len(choice.candidates)) for choice in space.choices]
        depths = [random.integers(len(stage)) for stage in space.depths]
        exact = cost(space.architecture(widths, depths), kind)
        assert model.expected(*one_hot(space, widths, depths)) == exact


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=30)
@given(space=spaces.small_spaces(most=150), seed=st.integers(0, 999))
def test_expected_equals_the_sum_over_all_architectures(name, space, seed):
    kind = spaces.kind_of(name, space)
    probabilities = spaces.probabilities(space, spaces.random_logits(space, seed))
    summed = sum(
        spaces.probability(widths, depths, probabilities)
        * cost(space.architecture(widths, depths), kind)
        for widths, depths in spaces.all_indices(space)
    )
    assert CostModel(space, kind).expected(*probabilities) == pytest.approx(summed, rel=1e-12)


@pytest.mark.parametrize("tie_streams", [False, True])
def test_expected_agrees_with_monte_carlo(tie_streams):
    space = SearchSpace.resnet(20, tie_streams=tie_streams)
    probabilities = spaces.probabilities(space, spaces.random_logits(space, 1, scale=1.0))
    kinds = [spaces.kind_of(name, space) for name in KINDS]
    random, drawn = np.random.default_rng(2), []
    for _ in range(3_000):
        widths, depths = (
            [int((random.random() > row.cumsum()[:-1]).sum()) for row in rows]
            for rows in probabilities
        )
        network = space.architecture(widths, depths)
        drawn.append([cost(network, kind) for kind in kinds])
    mean, error = np.mean(drawn, 0), np.std(drawn, 0) / np.sqrt(len(drawn))
    expected = [CostModel(space, kind).expected(*probabilities) for kind in kinds]
    assert (np.abs(mean - expected) < 4 * error).all()
    assert (error < 0.01 * mean).all()


@pytest.mark.parametrize("name", KINDS)
def test_gradient_agrees_with_finite_differences(name):
    import tensorflow as tf

    space = SearchSpace.resnet(14, ratios=(0.3, 0.5, 1.0), input_shape=(11, 13, 3))
    logits = spaces.random_logits(space, 3)
    probabilities = [tf.constant(rows) for rows in spaces.probabilities(space, logits)]
    model = CostModel(space, spaces.kind_of(name, space))
    with tf.GradientTape() as tape:
        tape.watch(probabilities)
        expected = model.expected(*probabilities)
    gradients = tape.gradient(expected, probabilities)
    assert expected.dtype == tf.float64
    values = [rows.numpy() for rows in probabilities]
    for which, gradient in enumerate(gradients):
        for index in np.ndindex(*gradient.shape):
            costs = []
            for step in (0.5, -0.5):
                moved = [rows.copy() for rows in values]
                moved[which][index] += step
                costs.append(model.expected(*moved))
            # Linear in every single probability, so a large step is exact.
            difference = costs[0] - costs[1]
            assert gradient.numpy()[index] == pytest.approx(difference, rel=1e-9, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(space=spaces.small_spaces(), data=st.data())
def test_wider_costs_more_where_no_projection_comes_or_goes(space, data):
    assume(len(families.BLOCKS[space.block].units) > 1)
    network = space.unpruned()
    stages = [[list(block) for block in stage] for stage in network.stages]
    stage = data.draw(st.sampled_from(stages))
    block = data.draw(st.sampled_from(stage))
    block[data.draw(st.integers(0, len(block) - 2))] += data.draw(st.integers(1, 5))
    wider = Architecture(
        *(network.family, network.block, network.input_shape, network.num_classes),
        *(network.stem_width, stages),
    )
    assert all(cost(wider, kind) > cost(network, kind) for kind in ("macs", "parameters"))


@pytest.mark.parametrize("kind", ["macs", "parameters"])
def test_wider_costs_less_where_projections_go(kind):
    def network(width: int) -> Architecture:
        stages = (((4, width), (4, 16)), ((4, 4),), ((4, 4),))
        return Architecture("cifar_resnet", "basic", (32, 32, 3), 10, 16, stages)

    # With 15 both blocks of the first stage have a projection, with 16 neither.
    assert cost(network(16), kind) < cost(network(15), kind)


class TestTargets:
    space = SearchSpace.resnet(20)
    dense = {"macs": 40_813_184, "parameters": 272_282}

    @pytest.mark.parametrize(
        ("target", "kind", "amount"),
        [
            (0.47, "macs", 0.47 * 40_813_184),
            ("0.47", "macs", 0.47 * 40_813_184),
            (1, "macs", 40_813_184),
            (1.0, "macs", 40_813_184),
            (20_000_000, "macs", 20_000_000),
            ("2e7", "macs", 20_000_000),
            ("macs: 19M", "macs", 19_000_000),
            ("19.5 M", "macs", 19_500_000),
            ("macs:1M", "macs", 1_000_000),
            ("0.02G", "macs", 20_000_000),
            ("parameters: 0.5", "parameters", 136_141),
            (" parameters : 120k ", "parameters", 120_000),
            ("parameters: 120K", "parameters", 120_000),
        ],
    )
    def test_forms(self, target, kind, amount):
        (budget,) = parse_targets(target, self.space)
        assert (budget.kind.name, budget.unpruned) == (kind, self.dense[kind])
        assert budget.amount == pytest.approx(amount)

    def test_several(self):
        budgets = parse_targets([0.5, "parameters: 100k"], self.space, tolerance=0.1)
        assert [budget.kind.name for budget in budgets] == ["macs", "parameters"]
        assert budgets[1].floor == pytest.approx(90_000)

    def test_band(self):
        (budget,) = parse_targets("macs: 100k", self.space)
        inside = [94_999, 95_000, 100_000, 100_001]
        assert list(map(budget.contains, inside)) == [False, True, True, False]
        assert str(budget) == "macs from 95 k to 100 k (0.2% of the unpruned 40.81 M)"

    def test_share_is_of_the_unpruned_network_even_where_no_candidate_is(self):
        (budget,) = parse_targets(0.5, SearchSpace.resnet(20, ratios=(0.25, 0.5)))
        assert budget.amount == 40_813_184 / 2

    @pytest.mark.parametrize(
        "target",
        ["", "half", "macs", "macs:", "-0.5", -1, "50%", "1..2", ".", "macs: 1T", "flops: 0.5"]
        + ["nan", float("nan"), float("inf"), None, True, {"macs": 0.5}, [[0.5]], b"0.5"]
        + ["latency: 3M", "macs: 0.5; parameters: 0.5"],
    )
    def test_refuses_what_it_cannot_read(self, target):
        with pytest.raises(BudgetError, match="^target: expected .* Received: "):
            parse_targets(target, self.space)

    @pytest.mark.parametrize("targets", [[], [0.5, 0.4], ["macs: 1M", "0.5"]])
    def test_refuses_two_of_a_kind_or_none(self, targets):
        with pytest.raises(BudgetError, match="one target of each kind. Received: "):
            parse_targets(targets, self.space)
