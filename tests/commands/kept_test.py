"""Budgets of milliseconds where the table is wrong: what is derived takes what was asked."""

import dataclasses

import numpy as np
import pytest
import spaces

from tas_tf.deployment import runners
from tas_tf.experiments import kept
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.cost import cost, parse_targets
from tas_tf.spaces.derivation import derive
from tas_tf.spaces.latency_table import kinds
from tas_tf.spaces.search_space import SearchSpace

SPACE = SearchSpace.resnet(8, 10, (8, 8, 1))
HERE = runners.describe_device("litert")
TABLE = dataclasses.replace(
    spaces.latency_table(SPACE, most=10**6), device=HERE, scale=1.0, overhead_ns=1_000_000
)

PLAIN = dataclasses.replace(TABLE, overhead_ns=0)


def kept_within(share, table, truth, monkeypatch, directory=None, power=1.0):
    """Returns what is kept and the shares that were timed.

    Networks take what another table says, to a power.
    """
    timed = []

    def share_of_time(space, network, setting):
        assert (space, str(setting)) == (SPACE, "litert, batch 1, threads 1")
        timed.append((cost(network, truth.kind) / cost(SPACE.unpruned(), truth.kind)) ** power)
        return timed[-1]

    monkeypatch.setattr(kept, "share_of_time", share_of_time)
    values = [
        np.random.default_rng(0).normal(size=shape)
        for shape in ((len(SPACE.choices), 8), (len(SPACE.depths), 3))
    ]
    budgets = parse_targets(f"latency: {share}", SPACE, kinds=kinds(table))
    found = kept.keep(
        lambda each: (derive(SPACE, *values, each), each), SPACE, budgets, table, directory
    )
    # What is derived again leaves the top of the band free.
    (asked,), (budget,) = found.told, found.budgets
    assert asked.floor == pytest.approx(budget.floor) and asked.unpruned == budget.unpruned
    free = 0.0 if found.latency is table else kept.MARGIN
    assert asked.amount == pytest.approx((1 - free) * budget.amount)
    return found, timed


def other_line(slope: float, constant: int):
    return dataclasses.replace(TABLE, scale=slope, overhead_ns=constant)


@pytest.mark.parametrize(
    ("share", "line"),
    [(0.5, (2.0, 0)), (0.6, (2.0, 0)), (0.6, (1.0, 2_000_000)), (0.8, (1.0, 5_000_000))],
)
def test_a_wrong_table_is_corrected(share, line, monkeypatch, capsys):
    truth = other_line(*line)
    found, timed = kept_within(share, TABLE, truth, monkeypatch)
    assert 2 <= len(timed) <= kept.MOST
    assert not 0.95 * share <= timed[0] <= share
    low, high = 0.95 * (1 - kept.SLACK), 1 + kept.SLACK
    assert low * share <= timed[-1] <= high * share
    assert found.derived.in_band and [each["share"] for each in found.record["timed"]] == timed
    # The corrected table says so itself, of the same unpruned network.
    (budget,) = found.budgets
    by_table = cost(found.derived.architecture, found.latency.kind) / budget.unpruned
    assert by_table == pytest.approx(timed[-1], abs=0.01)
    unpruned = (cost(SPACE.unpruned(), table.kind) for table in (TABLE, found.latency))
    assert next(unpruned) == pytest.approx(next(unpruned), rel=1e-3)
    assert capsys.readouterr().out.count("Timed: ") == len(timed)


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_a_table_that_flatters_the_unpruned_network_is_corrected(share, monkeypatch):
    found, timed = kept_within(share, PLAIN, PLAIN, monkeypatch, power=1.25)
    low = 0.95 * (1 - kept.SLACK)
    assert timed[0] < low * share <= timed[-1] <= share
    assert found.derived.in_band and found.latency.overhead_ns == 0


def test_where_no_network_is_left_by_a_constant_the_table_is_scaled(monkeypatch):
    found, timed = kept_within(0.6, PLAIN, PLAIN, monkeypatch, power=0.45)
    assert timed[0] > 0.75 and 0.57 * (1 - kept.SLACK) <= timed[-1] <= 0.6 * (1 + kept.SLACK)
    assert found.derived.in_band and found.latency.overhead_ns == 0


def test_a_run_that_goes_on_derives_what_it_derived_before(monkeypatch, tmp_path):
    directory = RunDirectory(str(tmp_path))
    first, timed = kept_within(0.6, TABLE, other_line(2.0, 0), monkeypatch, directory)
    # The machine is another now, and only what was not timed before is timed.
    again, none = kept_within(0.6, TABLE, other_line(0.5, 10**7), monkeypatch, directory)
    assert len(timed) > 1 and none == []
    assert again.derived == first.derived and again.record == first.record
    known = directory.read_json(kept.TIMED)["shares"]
    directory.write_json(kept.TIMED, {"shares": dict([*known.items()][:1])})
    again, rest = kept_within(0.6, TABLE, other_line(2.0, 0), monkeypatch, directory)
    assert rest == timed[1:] and again.derived == first.derived


def test_a_right_table_is_left_as_it_is(monkeypatch):
    found, timed = kept_within(0.6, TABLE, TABLE, monkeypatch)
    assert len(timed) == 1 and found.latency is TABLE and found.derived.in_band


def test_a_budget_that_no_network_keeps_is_outside_the_band(monkeypatch):
    found, timed = kept_within(0.6, TABLE, other_line(0.001, 10**9), monkeypatch)
    assert min(timed) > 0.9 and not found.derived.in_band


def test_a_table_of_another_device_is_taken_at_its_word(monkeypatch):
    table = dataclasses.replace(TABLE, device={**HERE, "processor": "that of a phone"})
    found, timed = kept_within(0.6, table, other_line(2.0, 0), monkeypatch)
    assert timed == [] and found.record == {} and found.derived.in_band


def test_a_table_that_was_measured_with_more_cores_is_of_this_device(monkeypatch):
    table = dataclasses.replace(TABLE, device={**HERE, "cores": HERE["cores"] + 2})
    _, timed = kept_within(0.6, table, other_line(2.0, 0), monkeypatch)
    assert timed
    table = dataclasses.replace(table, threads=HERE["cores"] + 2)
    _, timed = kept_within(0.6, table, other_line(2.0, 0), monkeypatch)
    assert timed == []
