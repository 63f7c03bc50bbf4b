"""Tables measured on this device: what is measured, what is kept, and what is fitted."""

import json
import pathlib

import keras
import numpy as np
import pytest
import spaces
from pictures import some_architecture

from tas_tf.deployment import latency_profile, latency_subjects, runners
from tas_tf.deployment.latency_runners import Setting
from tas_tf.errors import RunDirectoryError
from tas_tf.models.spec_compiler import build_layer, build_model
from tas_tf.spaces.cost import cost
from tas_tf.spaces.latency_table import LatencyTable, layer_widths
from tas_tf.spaces.search_space import SearchSpace

# Only depths are searched: every layer has one width.
SPACE = SearchSpace.resnet(14, 10, (8, 8, 1), search="depth")
SETTING = Setting("keras", 2, 1)


@pytest.fixture(autouse=True)
def few_networks(monkeypatch):
    monkeypatch.setattr(latency_subjects, "FITTED", 3)
    monkeypatch.setattr(latency_subjects, "JUDGED", 2)


class Killed(Exception):
    """Stands for whatever ends a process."""


def test_profile_goes_on_where_it_was_killed(tmp_path, monkeypatch, capsys):
    output = str(tmp_path / "table.json")
    real, asked = runners.time_calls, []

    def killed_in_the_second_group(calls, *how):
        asked.append(len(calls))
        if len(asked) == 2:
            raise Killed
        return real(calls, *how)

    monkeypatch.setattr(runners, "time_calls", killed_in_the_second_group)
    with pytest.raises(Killed):
        latency_profile.profile(SPACE, output, SETTING, seconds=0)
    assert [path.name for path in tmp_path.iterdir()] == ["table.json.partial"]
    kept = json.loads(pathlib.Path(f"{output}.partial").read_text())["nanoseconds"]
    assert len(kept) == asked[0]

    table = latency_profile.profile(SPACE, output, SETTING, seconds=0)
    assert f"Goes on: {len(kept)} of " in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]
    assert LatencyTable.from_json(pathlib.Path(output).read_text()) == table
    found = [ns for grid in table.grids for row in grid.nanoseconds for ns in row]
    groups = -(-(len(found) + 5) // (asked[0] - 2))  # each with an empty network and a reference
    assert sum(asked) - asked[1] == len(found) + 5 + 2 * groups  # nothing is measured twice
    assert (table.runtime, table.batch_size, table.threads) == ("keras", 2, 1)
    assert table.error["networks"] == 2 and 0 <= table.error["mean"] <= table.error["largest"]
    table.check(SPACE)
    assert cost(SPACE.unpruned(), table.kind) > 10_000


def test_what_slows_down_a_group_is_taken_out_by_its_reference(tmp_path, monkeypatch):
    """Groups that other work slows down to different degrees give one table."""
    tables = []
    for slower in ((1, 1, 1), (1, 3, 1), (1, 1, 2)):
        factors = iter(slower)

        def timed(calls, *how, of=factors):
            each = 0.01 * next(of)
            return {index: runners.Times(each * (1 + index), 0, 0, 0, 1) for index in calls}

        monkeypatch.setattr(runners, "time_calls", timed)
        tables.append(latency_profile.profile(SPACE, str(tmp_path / "table.json"), SETTING))
        assert next(factors, None) is None  # every group was asked for
    assert tables[0] == tables[1] == tables[2]


def test_an_empty_network_that_is_slow_for_once_makes_no_part_slow(tmp_path, monkeypatch):
    """What a call takes by itself is that of all groups, and a reference counts with it."""
    tables = []
    for empty in (0.01, 0.05):  # the reference takes 0.02
        first = iter([0.01, empty])

        def timed(calls, *how, of=first):
            by_itself = next(of, 0.01)
            times = [by_itself, *(0.01 * (1 + index) for index in calls if index)]
            return {index: runners.Times(times[index], 0, 0, 0, 1) for index in calls}

        monkeypatch.setattr(runners, "time_calls", timed)
        tables.append(latency_profile.profile(SPACE, str(tmp_path / "table.json"), SETTING))
    assert tables[0] == tables[1]


def test_refuses_what_was_begun_otherwise_or_is_damaged(tmp_path, monkeypatch):
    output = str(tmp_path / "table.json")
    times = runners.Times(0.001, 0.001, 0.001, 0.001, 1)
    monkeypatch.setattr(runners, "time_calls", lambda calls, *_: dict.fromkeys(calls, times))
    monkeypatch.setattr(latency_profile.files, "remove", lambda path: None)
    latency_profile.profile(SPACE, output, SETTING)
    with pytest.raises(RunDirectoryError, match="begun with another setting: remove it"):
        latency_profile.profile(SPACE, output, Setting("keras", 1, 1))
    with pytest.raises(RunDirectoryError, match="begun with another space"):
        latency_profile.profile(
            SearchSpace.resnet(20, 10, (8, 8, 1), search="depth"), output, SETTING
        )
    monkeypatch.setattr(runners, "describe_device", lambda runtime: {"processor": "another"})
    with pytest.raises(RunDirectoryError, match="begun with another device"):
        latency_profile.profile(SPACE, output, SETTING)
    for text in ("", "[]", "{}", '{"nanoseconds": [0]}', '{"nanoseconds": 1}'):
        (tmp_path / "table.json.partial").write_text(text)
        with pytest.raises(RunDirectoryError, match=r"table\.json\.partial is damaged"):
            latency_profile.profile(SPACE, output, SETTING)


@pytest.mark.parametrize("depth", [20, 18])
def test_grids_cover_the_space_and_its_neighbours(depth):
    family = {20: "cifar_resnet", 18: "imagenet_resnet"}[depth]
    space = SearchSpace.resnet(depth, 10, family=family)
    grids = latency_subjects.layer_grids(space)
    for layer, (sources, targets) in layer_widths(space).items():
        measured_sources, measured_targets = grids[layer]
        assert len(measured_sources) <= 3 and set(targets) <= set(measured_targets)
        assert measured_sources[0] <= sources[0] and measured_sources[-1] == sources[-1]
    for layer, (sources, targets) in layer_widths(
        SearchSpace.resnet(depth, 10, family=family, width_divisor=8)
    ).items():
        for known, widths in zip(grids[layer], (sources, targets), strict=True):
            assert known[0] <= widths[0] and widths[-1] <= known[-1]


def test_scale_and_overhead_are_those_of_whole_networks():
    space = SearchSpace.resnet(20)
    plain = spaces.latency_table(space, most=10**6)
    plain = type(plain)(**{**vars(plain), "scale": 1.0, "overhead_ns": 0})
    networks = [some_architecture(space, seed) for seed in range(5)]
    sums = np.array([cost(network, plain.kind) for network in networks])
    table = latency_profile.calibrate(plain, networks, (1.5 * sums + 70_000).round().tolist(), 3)
    assert table.scale == pytest.approx(1.5, rel=1e-3)
    assert table.overhead_ns == pytest.approx(70_000, rel=1e-2)
    assert table.error["largest"] < 1e-4 and table.error["networks"] == len(networks) - 3
    # What the sum exceeds by more than a factor is no overhead below zero.
    table = latency_profile.calibrate(plain, networks, (1.5 * sums - 70_000).round().tolist(), 3)
    assert table.overhead_ns == 0 and 0.001 < table.error["mean"] < 0.05
    # An error is that of networks to which nothing was fitted.
    wrong = (1.5 * sums).round().tolist()
    table = latency_profile.calibrate(plain, networks, wrong[:3] + [2 * ns for ns in wrong[3:]], 3)
    assert table.error["mean"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("depth", "family"), [(8, "cifar_resnet"), (18, "imagenet_resnet")])
def test_layers_on_their_own_are_those_of_the_network(depth, family):
    space = SearchSpace.resnet(depth, 5, (33, 32, 3), family=family)
    widths = [index % 3 for index in range(len(space.choices))]
    network = space.architecture(widths, [0] * len(space.depths))
    whole = build_model(network)
    for layer, in_channels, out_channels, _ in network.layers():
        alone = build_layer(network, layer, in_channels, out_channels)
        names = {part.name for part in alone.layers if part.weights}
        assert names >= {layer.name} and len(names) == 1 + layer.normalized
        for name in names:
            expected, received = (model.get_layer(name).weights for model in (whole, alone))
            assert [w.shape for w in received] == [w.shape for w in expected]
        assert alone.input_shape == (None, *layer.in_size, in_channels)
        is_pooled_stem = layer.name == "stem" and layer.pooled_size
        size = layer.pooled_size if is_pooled_stem else layer.size
        maps = () if layer.kind == "classifier" else size
        assert alone.output_shape == (None, *maps, out_channels)
        ends = layer.kind == "convolution" and not layer.relu
        assert any(isinstance(part, keras.layers.Add) for part in alone.layers) == ends


def test_by_the_clock_on_the_wall_no_width_seems_faster_than_a_narrower_one(tmp_path, monkeypatch):
    """A derivation would choose the widths whose times came out low by chance."""
    random = np.random.default_rng(0)

    def timed(calls, *how):
        return {n: runners.Times(random.uniform(0.5, 1.5), 0, 0, 0, 1) for n in calls}

    monkeypatch.setattr(runners, "time_calls", timed)
    space = SearchSpace.resnet(8, 10, (8, 8, 1), ratios=(0.5, 1.0))
    steady = {}
    for threads in (1, 2):  # one is timed in processor time
        setting = Setting("litert", 1, threads)
        table = latency_profile.profile(space, str(tmp_path / "table.json"), setting)
        grids = [np.array(grid.nanoseconds) for grid in table.grids]
        steps = [np.diff(grid, axis=axis) for grid in grids for axis in (0, 1)]
        steady[threads] = all((step >= 0).all() for step in steps)
    assert steady == {1: False, 2: True}
