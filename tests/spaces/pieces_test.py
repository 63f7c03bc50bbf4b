"""Pieces of models that were read, and milliseconds as a sum over them."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest
import random_models
import small_models
import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers
from model_parts import classified, image, unit

import tas_tf
from tas_tf.errors import BudgetError, SpecError
from tas_tf.spaces.branches import holds
from tas_tf.spaces.cost import cost, costs, parse_targets
from tas_tf.spaces.derivation import check_reachable, derive, probabilities
from tas_tf.spaces.expected_terms import cost_model
from tas_tf.spaces.latency_table import LatencyTable, kinds
from tas_tf.spaces.pieces import piece_widths, pieces_of
from tas_tf.spaces.space_terms import cost_of

RATIOS = (0.3, 0.6, 1.0)


def space_of(model, **options):
    return tas_tf.SearchSpace.from_model(model, **{"ratios": RATIOS, **options})


def two_blocks(depth=2):
    """A network with an addition, a depthwise convolution and a concatenation."""
    i = image()
    x = unit(i, 6)
    for _ in range(depth):
        x = layers.Add()([x, unit(unit(x, 9, 1), 6)])
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    return classified(i, unit(layers.Concatenate()([x, unit(y, 5)]), 7))


def random_picks(space, rng):
    widths = [int(rng.integers(len(choice.candidates))) for choice in space.choices]
    return widths, rng.integers(2, size=len(space.branches)).tolist()


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(plan=random_models.plans(most=4), seed=st.integers(0, 99))
def test_milliseconds_as_terms_are_the_sum_of_the_pieces(plan, seed):
    try:
        space = space_of(random_models.build(plan), leave_out_branches=True)
    except SpecError:  # nothing to search
        return
    table = spaces.piece_table(space, seed)
    grids = {grid.subject: grid for grid in table.grids}
    terms, rng = cost_of(space, table.kind), np.random.default_rng(seed)
    for _ in range(5):
        widths, built = random_picks(space, rng)
        network = space.architecture(widths, built)
        known = space.graph.partition.checked(network.widths)
        times = [
            table.scale * grids[placed.piece].at(*placed.at(known))
            for placed in pieces_of(space.graph)
            if holds(placed.condition, known, network.left_out)
        ]
        found = cost(network, table.kind)
        assert found == pytest.approx(table.overhead_ns + sum(times), abs=len(times) + 1)
        assert terms.value([*widths, *built]) == pytest.approx(found, abs=1)


def test_a_projection_takes_time_only_where_widths_differ():
    space = space_of(two_blocks(), tie_additions=False)
    table = spaces.piece_table(space)
    kinds_of = [placed.piece.calls for placed in pieces_of(space.graph)]
    assert kinds_of.count(("Projection",)) == 2
    grids = {grid.subject: grid for grid in table.grids}
    whole = space.graph.partition.widths
    times = [
        table.scale * grids[placed.piece].at(*placed.at(whole))
        for placed in pieces_of(space.graph)
        if not isinstance(placed.condition, tuple)
    ]
    found = cost(space.unpruned(), table.kind)
    assert found == pytest.approx(table.overhead_ns + sum(times), abs=len(times) + 1)


@pytest.mark.parametrize("name", sorted(small_models.ALL))
def test_every_call_is_in_one_piece_that_has_widths(name):
    try:
        space = space_of(small_models.ALL[name]())
    except SpecError:
        return
    placed = pieces_of(space.graph)
    places = sorted(place for each in placed for place in each.places)
    assert places == list(range(len(space.graph.calls)))
    widths = piece_widths(space)
    for each in placed:
        for network in (space.unpruned(), space.architecture([0] * len(space.choices), [])):
            at = each.at(space.graph.partition.checked(network.widths))
            ends = [(axis[0], axis[-1]) for axis in widths[each.piece]]
            assert all(low <= n <= high for n, (low, high) in zip(at, ends, strict=True))


@pytest.mark.parametrize("tie", [True, False])
def test_the_expectation_is_exact(tie):
    options = {"ratios": (0.5, 1.0), "leave_out_branches": True, "tie_additions": tie}
    space = space_of(two_blocks(1), **options)
    table = spaces.piece_table(space)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(len(space.choices), 2)), rng.normal(size=(len(space.branches), 2))
    rows = probabilities(space, *logits)
    expected = 0.0
    sizes = [len(choice.candidates) for choice in space.choices]
    for picks in itertools.product(*map(range, sizes), *([0, 1] for _ in space.branches)):
        widths, built = picks[: len(sizes)], picks[len(sizes) :]
        chance = np.prod([
            row[pick] for table_, of in zip(rows, (widths, built), strict=True)
            for row, pick in zip(table_, of, strict=True)
        ])  # fmt: skip
        expected += chance * cost(space.architecture(widths, built), table.kind)
    found = cost_model(space, table.kind).expected(*rows)
    assert float(found) == pytest.approx(expected, abs=1)  # every cost is rounded


def test_a_table_is_exact_at_its_widths_and_linear_between_them():
    space = space_of(two_blocks())
    grid = max(spaces.piece_table(space).grids, key=lambda grid: len(grid.widths))
    times = np.array(grid.nanoseconds, float)
    for index in np.ndindex(*times.shape):
        at = [widths[i] for widths, i in zip(grid.widths, index, strict=True)]
        assert grid.at(*at) == times[index]
    (a, b), *others = [widths[:2] for widths in grid.widths]
    low, high = (grid.at(end, *(o[0] for o in others)) for end in (a, b))
    for width in range(a, b + 1):
        share = (width - a) / (b - a)
        expected = (1 - share) * low + share * high
        assert grid.at(width, *(o[0] for o in others)) == pytest.approx(expected)


def test_pieces_that_differ_in_place_alone_are_one():
    one, two = (pieces_of(space_of(two_blocks(depth)).graph) for depth in (1, 3))
    assert {each.piece for each in one} == {each.piece for each in two}
    assert len(two) > len(one)
    convolutions = [each for each in one if each.piece.calls[0] == "Conv2D"]
    assert all(len(each.places) > 1 for each in convolutions)  # with what is normalized
    other = pieces_of(space_of(two_blocks(1), ratios=(0.5, 1.0)).graph)
    assert [each.piece for each in other] == [each.piece for each in one]
    strided = keras.Sequential([image(), layers.Conv2D(6, 3, strides=2), layers.Flatten()])
    plain = keras.Sequential([image(), layers.Conv2D(6, 3), layers.Flatten()])
    pieces = [pieces_of(tas_tf.models.reading.read(model))[0].piece for model in (strided, plain)]
    assert pieces[0].calls == pieces[1].calls and pieces[0] != pieces[1]


def test_text_and_back():
    table = spaces.piece_table(space_of(two_blocks()))
    text = table.to_json()
    assert LatencyTable.from_json(text) == table
    assert json.loads(text)["schema_version"] == 2


def test_refuses_the_table_of_another_model_and_of_a_resnet():
    space, other = space_of(two_blocks()), space_of(small_models.ALL["dense_blocks"]())
    said = (
        r"latency_table: table has no time of .*It was measured for functional\w* \(\w+\), images"
    )
    with pytest.raises(SpecError, match=said):
        spaces.piece_table(other).check(space)
    resnet = tas_tf.SearchSpace.resnet(8, 10, (8, 8, 1))
    with pytest.raises(SpecError, match="It was measured for cifar_resnet of basic blocks"):
        spaces.latency_table(resnet).check(space)
    with pytest.raises(SpecError, match="has no time of a convolution of kernel 3x3"):
        spaces.piece_table(space).check(resnet)
    narrow = space_of(two_blocks(), ratios=(0.6, 1.0))
    with pytest.raises(SpecError, match="width 1 is not in 3 to 6"):
        spaces.piece_table(narrow).check(space)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("schema_version", 3, "schema_version"),
        ("space.fingerprint", None, "space.fingerprint"),
        ("grids.1.piece.digest", 1, "grids[1].piece.digest"),
        ("grids.1.piece.sums", [True], "grids[1].widths: expected those of 1 axes"),
        ("grids.1.widths", [], "grids[1].widths: expected those of"),
        ("grids.1.widths.0", [3, 2], "grids[1].widths[0]: expected ascending"),
        ("grids.1.nanoseconds", [[1], 2], "grids[1].nanoseconds: expected numbers"),
        ("grids.1.nanoseconds", "1", "grids[1].nanoseconds"),
        ("grids.1.nanoseconds.0", -1, "grids[1].nanoseconds"),
    ],
)
def test_refuses_what_is_malformed_by_its_field(path, value, said):
    table = spaces.piece_table(space_of(two_blocks()))
    two_axes = [grid for grid in table.grids if len(grid.widths) == 2]
    fields = json.loads(dataclasses.replace(table, grids=tuple(two_axes)).to_json())
    *parents, last = [int(name) if name.isdigit() else name for name in path.split(".")]
    inner = fields
    for name in parents:
        inner = inner[name]
    inner[last] = value
    with pytest.raises(SpecError) as refused:
        LatencyTable.from_json(json.dumps(fields), "t.json")
    assert str(refused.value).startswith(f"latency_table: t.json: {said}")


def test_a_whole_network_keeps_several_budgets():
    space = space_of(two_blocks(), ratios=tuple(np.arange(1, 11) / 10), leave_out_branches=True)
    table = spaces.piece_table(space, seed=None)
    budgets = parse_targets(["latency: 0.6", "parameters: 0.6"], space, 0.05, kinds(table))
    most = max(len(choice.candidates) for choice in space.choices)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(len(space.choices), most)), rng.normal(size=(len(space.branches), 2))
    derived = derive(space, *logits, budgets)
    assert derived.in_band
    assert all(budget.contains(cost(derived.architecture, budget.kind)) for budget in budgets)
    found = costs(derived.architecture, kinds(table))
    assert found["latency"] == cost(derived.architecture, table.kind)
    with pytest.raises(BudgetError, match=r"Reachable are [\d.e-]+ ms to [\d.e-]+ ms latency"):
        check_reachable(space, parse_targets("latency: 1 us", space, 0.05, kinds(table)))
