"""Tables of latencies: what is read, what is refused, and what lies between their widths."""

import dataclasses
import json

import numpy as np
import pytest
import spaces

from tas_tf.errors import BudgetError, SpecError
from tas_tf.spaces import cost, latency_table
from tas_tf.spaces.cost import parse_targets
from tas_tf.spaces.derivation import check_reachable, derive, reachable
from tas_tf.spaces.latency_table import LatencyTable
from tas_tf.spaces.search_space import SearchSpace

SPACE = SearchSpace.resnet(20)
TABLE = spaces.latency_table(SPACE, most=10**6)


def test_text_and_back():
    assert LatencyTable.from_json(TABLE.to_json()) == TABLE


def test_a_network_takes_what_its_layers_and_it_itself_take():
    network = SPACE.architecture([3] * 19, [1, 0, 2])
    layers = [TABLE.layer_ns(*placed) for placed in network.layers()]
    assert cost.cost(network, TABLE.kind) == sum(layers)
    heavier = dataclasses.replace(TABLE, overhead_ns=TABLE.overhead_ns + 5_000)
    assert cost.cost(network, heavier.kind) == sum(layers) + 5_000
    twice = dataclasses.replace(TABLE, scale=2 * TABLE.scale, overhead_ns=0)
    own = sum(layers) - TABLE.overhead_ns
    assert cost.cost(network, twice.kind) == pytest.approx(2 * own, abs=len(layers))


def test_between_widths_it_is_bilinear():
    layer = SPACE.outline.stages[1][1].units[0]
    grid = next(g for g in TABLE.grids if g.subject == latency_table.without_place(layer))
    (a, b), (c, d) = grid.widths[0][2:4], grid.widths[1][4:6]
    times = np.array(grid.nanoseconds, float)
    for source in range(a, b + 1):
        for target in range(c, d + 1):
            s, t = (source - a) / (b - a), (target - c) / (d - c)
            corners = times[2:4, 4:6]
            expected = np.array([1 - s, s]) @ corners @ np.array([1 - t, t])
            assert grid.at(source, target) == pytest.approx(expected)


def test_a_table_serves_other_depths_and_widths_of_its_layers():
    for other in (SearchSpace.resnet(56), SearchSpace.resnet(32, ratios=(0.33, 0.77, 1.0))):
        TABLE.check(other)
        assert cost.cost(other.unpruned(), TABLE.kind) > cost.cost(SPACE.unpruned(), TABLE.kind) / 4


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (SearchSpace.resnet(20, 100), "classifier .*width 100 is not in 10 to 10"),
        (SearchSpace.resnet(20, ratios=(0.1, 1.0)), "width . is not in "),
        (SearchSpace.resnet(20, input_shape=(28, 28, 3)), "from 28x28 to 28x28"),
        (SearchSpace.resnet(29, block="bottleneck"), "kernel 1x1"),
        (SearchSpace.resnet(18, 1000, family="imagenet_resnet"), "kernel 7x7 from 224x224"),
    ],
)
def test_refuses_another_space(other, what):
    with pytest.raises(SpecError, match=f"latency_table: table has no time of .*{what}.*profile"):
        TABLE.check(other)


def damaged(path: str, value) -> str:
    fields = json.loads(TABLE.to_json())
    *parents, last = path.split(".")
    inner = fields
    for name in parents:
        inner = inner[int(name) if name.isdigit() else name]
    inner[int(last) if last.isdigit() else last] = value
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema_version", 3),
        ("schema_version", True),
        ("scale", 0),
        ("scale", "fast"),
        ("overhead_ns", -1),
        ("device.processor", None),
        ("batch_size", 0),
        ("threads", 1.5),
        ("grids", {}),
        ("grids.0.layer.kind", "attention"),
        ("grids.0.layer.kernel", [3]),
        ("grids.0.layer.stride", 0),
        ("grids.0.in_widths", [2, 1]),
        ("grids.0.in_widths", []),
        ("grids.0.out_widths.0", "4"),
        ("grids.0.nanoseconds", [[]]),
        ("grids.0.nanoseconds.0.0", 1.5),
        ("error.mean", "small"),
    ],
)
def test_refuses_what_is_malformed_by_its_field(path, value):
    field = path.replace("grids.0", "grids[0]").removesuffix(".0").removesuffix(".0")
    with pytest.raises(SpecError) as refused:
        LatencyTable.from_json(damaged(path, value), "t.json")
    assert str(refused.value).startswith(f"latency_table: t.json: {field}")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": NaN}', "[" * 10_000])
def test_refuses_what_is_no_table(text):
    with pytest.raises(SpecError, match="latency_table: t.json: "):
        LatencyTable.from_json(text, "t.json")


@pytest.mark.parametrize(
    ("target", "amount"),
    [
        ("latency: 4.0 ms", 4e6),
        ("latency:4ms", 4e6),
        ("latency: 1500 us", 1.5e6),
        ("latency: 0.004 s", 4e6),
        ("latency: 0.6", 0.6 * cost.cost(SPACE.unpruned(), TABLE.kind)),
    ],
)
def test_targets(target, amount):
    (budget,) = parse_targets(target, SPACE, kinds=latency_table.kinds(TABLE))
    assert budget.kind.name == "latency" and budget.amount == pytest.approx(amount)
    assert f"to {amount / 1e6:.4g} ms (" in str(budget)


@pytest.mark.parametrize("target", ["macs: 4 ms", "latency: 4 M", "4 ms", "parameters: 1 s"])
def test_units_belong_to_their_kind(target):
    with pytest.raises(BudgetError, match="^target: expected .* Received: "):
        parse_targets(target, SPACE, kinds=latency_table.kinds(TABLE))


def test_a_latency_needs_a_table():
    with pytest.raises(BudgetError, match="expected a table of latencies .*profile_device"):
        parse_targets("latency: 0.6", SPACE)


def test_a_latency_out_of_reach_is_refused_with_the_range_in_milliseconds():
    budgets = parse_targets("latency: 0.01 ms", SPACE, kinds=latency_table.kinds(TABLE))
    smallest, largest = (f"{ns / 1e6:.4g} ms" for ns in reachable(SPACE, TABLE.kind))
    with pytest.raises(BudgetError, match=f"Reachable are {smallest} to {largest} latency"):
        check_reachable(SPACE, budgets)


def test_a_whole_network_keeps_its_budget():
    budgets = parse_targets(
        ["latency: 0.6", "parameters: 0.6"], SPACE, 0.05, latency_table.kinds(TABLE)
    )
    for kept in (budgets[:1], budgets):
        derived = derive(SPACE, *spaces.random_logits(SPACE, 3), kept)
        found = [cost.cost(derived.architecture, budget.kind) for budget in kept]
        assert derived.in_band
        assert all(b.contains(c) for b, c in zip(kept, found, strict=True))
        assert derived.summary(kept)["budgets"]["latency"]["cost"] == found[0]
