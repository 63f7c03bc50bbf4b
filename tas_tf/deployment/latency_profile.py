"""Profiles of a device: what the parts of a space's networks take, as a table of latencies."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import isotonic_regression

from tas_tf import json_schema
from tas_tf.deployment import runners
from tas_tf.deployment.latency_runners import Loader, Setting
from tas_tf.deployment.latency_subjects import Subjects, subjects_of
from tas_tf.deployment.runners import Clock
from tas_tf.deployment.running import Runner
from tas_tf.errors import RunDirectoryError
from tas_tf.runtime import files
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import cost
from tas_tf.spaces.latency_table import Grid, LatencyTable
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.callbacks import duration

_GROUP = 9  # networks that are timed in turn, the next two among them
_EMPTY, _REFERENCE = "empty", "reference"  # what stands first in every group
_LONGER = 15  # whole networks are timed so many times as long as parts: all else is fitted to them
_LOADINGS = 5  # of a network whose share of the time is asked
_SWEEPS = 3  # of a smoothing along each axis
_POWERS = 0.25, 4.0  # of a table by which a network's time may grow
_LINE_SECONDS = 10.0


# A whole network, a layer or a piece with a width for each of its axes, or a name of the two that
# stand in every group.
Subject = Architecture | ModelArchitecture | tuple[Any, tuple[int, ...]] | str


def profile(
    space: SearchSpace | ModelSpace, output: str, setting: Setting, seconds: float = 0.1
) -> LatencyTable:
    """Measures a table of latencies, and writes it.

    What was measured so far lies beside it, in `OUTPUT.partial`: the same call goes on from there.

    Args:
        space: The search space.
        output: Path of the table.
        setting: What it is measured in.
        seconds: About how long a layer, a piece or a network is timed.

    Raises:
        RunDirectoryError: If what lies there is of another space or device, or damaged.
        SpecError: If the space's networks cannot be measured.
    """
    subjects = subjects_of(space)
    parts = [(part, at) for part, axes in subjects.grids.items() for at in itertools.product(*axes)]
    device = runners.describe_device(setting.runtime)
    asked = {
        "setting": dataclasses.asdict(setting),
        "device": device,
        "space": subjects.record,
    }
    partial = f"{output}.partial"
    loader = Loader(subjects, setting)
    clock = runners.clock_of(setting.runtime, setting.threads)
    order = _order(len(parts), len(subjects.networks))
    everything = [*parts, *subjects.networks]
    grouped = _grouped([everything[place] for place in order])
    timed = functools.partial(_times, loader=loader, clock=clock, seconds=seconds)
    measured = _steadied(grouped, _measure(grouped, timed, partial, asked))
    nanoseconds = [ns for _, ns in sorted(zip(order, measured, strict=True))]
    times = iter(nanoseconds)
    grids = []
    for part, axes in subjects.grids.items():
        shape = [len(widths) for widths in axes]
        values = np.array([next(times) for _ in range(math.prod(shape))]).reshape(shape)
        if not runners.is_alone(setting.runtime, setting.threads):
            values = _rising(values)
        grids.append(Grid(part, axes, _nested(values)))
    error = {"networks": 0, "mean": 0.0, "largest": 0.0}
    table = LatencyTable(
        **dataclasses.asdict(setting), device=device, space=subjects.space, scale=1.0,
        overhead_ns=0, error=error, grids=tuple(grids), source=output,
    )  # fmt: skip
    table = calibrate(table, subjects.networks, nanoseconds[len(parts) :], subjects.fitted)
    files.write_whole(output, table.to_json())
    files.remove(partial)
    return table


def _order(parts: int, networks: int) -> list[int]:
    """Returns the places of parts, and of networks behind them, in the order of measuring.

    Networks are spread among the parts, so that what slows the machine down meets both. One comes
    first: what a runtime cannot take is found at once.
    """
    place_of = {parts + index: index * parts / networks for index in range(networks)}
    return sorted(range(parts + networks), key=lambda place: (place_of.get(place, place), -place))


def _grouped(subjects: Sequence[Subject]) -> list[Subject]:
    """Returns subjects with an empty network and a reference before every few of them."""
    size = _GROUP - 2
    steps = range(0, len(subjects), size)
    return [each for at in steps for each in (_EMPTY, _REFERENCE, *subjects[at : at + size])]


def _steadied(subjects: Sequence[Subject], nanoseconds: Sequence[int]) -> list[int]:
    """Returns what parts take less an empty network, and what whole networks take.

    It is what they would take if the reference had always taken what it mostly does: other work on
    the machine takes caches and halves of cores, for seconds at a time.
    """
    steps = range(0, len(subjects), _GROUP)
    groups = [np.array(nanoseconds[at : at + _GROUP], np.float64) for at in steps]
    usual = np.median([group[1] for group in groups])
    steady = [group * usual / group[1] for group in groups]
    empty = np.median([group[0] for group in steady])
    return [
        max(1, round(value - empty if _is_part(subject) else value))
        for subject, value in zip(subjects, np.concatenate(steady), strict=True)
        if not isinstance(subject, str)
    ]


def _rising(values: np.ndarray) -> np.ndarray:
    """Returns times that fall along no axis, as near to those of an array as averages are.

    By the clock on the wall times differ more than widths do, and a derivation would choose the
    widths that seem fast.
    """
    for _ in range(_SWEEPS):
        for axis in range(values.ndim):
            values = np.apply_along_axis(lambda row: isotonic_regression(row).x, axis, values)
    return values.round().astype(np.int64)


def _nested(values: np.ndarray) -> Any:
    """Returns an array as tuples within tuples."""
    return tuple(map(_nested, values)) if values.ndim else int(values)


def calibrate(
    table: LatencyTable,
    networks: Sequence[Architecture] | Sequence[ModelArchitecture],
    nanoseconds: Sequence[int],
    fitted: int,
) -> LatencyTable:
    """Returns the table with scale and overhead, and with how well it predicts other networks.

    Budgets are shares of the unpruned network's time, which the table therefore says as measured.

    Args:
        table: The table, without scale and overhead.
        networks: Those that both are fitted to, the unpruned one first, then those that judge them.
        nanoseconds: What each takes.
        fitted: How many are fitted to.
    """
    sums = np.array([cost(network, table.kind) for network in networks[:fitted]], np.float64)
    times = np.array(nanoseconds[:fitted], np.float64)
    scale, overhead = _line(sums, times)
    table = dataclasses.replace(table, scale=scale, overhead_ns=round(overhead))
    predicted = np.array([cost(network, table.kind) for network in networks[fitted:]])
    errors = np.abs(predicted / np.array(nanoseconds[fitted:]) - 1)
    error = {
        "networks": len(errors),
        "mean": float(errors.mean()),
        "largest": float(errors.max()),
    }
    return dataclasses.replace(table, error=error)


def _line(sums: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """Returns factor and constant, not below 0, from sums to times: the first is met exactly."""
    # Relative errors are what counts: each equation is divided by its time.
    slopes, rises = (sums - sums[0]) / times, (times - times[0]) / times
    scale = float(slopes @ rises / max(slopes @ slopes, 1e-12))
    overhead = times[0] - scale * sums[0]
    if overhead < 0 or scale <= 0:
        return float(times[0] / sums[0]), 0.0
    return scale, overhead


def corrected(
    table: LatencyTable,
    unpruned: Any,
    networks: Sequence[Any],
    times: Sequence[float],
    amount: float,
    *,
    with_constant: bool = True,
) -> LatencyTable:
    """Returns the table that is right of the unpruned network, and as far as it can be of others.

    Where that would take a constant below 0, the table is right of networks that take `amount`, if
    times grow with a power of what the table says, as the last of them does.

    Args:
        table: The table.
        unpruned: The unpruned network.
        networks: The others.
        times: Nanoseconds that the unpruned network and they take.
        amount: Nanoseconds that are wanted.
        with_constant: Whether the table may have a constant.
    """
    plain = dataclasses.replace(table, scale=1.0, overhead_ns=0).kind
    sums = np.array([cost(each, plain) for each in (unpruned, *networks)], np.float64)
    scale, overhead = _line(sums, np.array(times))
    if not overhead or not with_constant:
        overhead = 0.0
        least, most = _POWERS
        rise = min(np.log(sums[-1] / sums[0]), -1e-3)
        power = np.clip(np.log(times[-1] / times[0]) / rise, least, most)
        scale = float(amount / (sums[0] * (amount / times[0]) ** (1 / power)))
    return dataclasses.replace(table, scale=scale, overhead_ns=round(overhead))


def share_of_time(
    space: SearchSpace | ModelSpace, network: Any, setting: Setting, seconds: float = 1.5
) -> float:
    """Returns what a network takes of the unpruned one's time, both timed now in turn.

    It is the median of some loadings, which differ by a per cent.
    """
    loader = Loader(subjects_of(space), setting)
    loads = [loader.loads(each) for each in (network, space.unpruned())]
    clock = runners.clock_of(setting.runtime, setting.threads)
    shares = []
    for _ in range(_LOADINGS):
        calls = {number: load().run for number, load in enumerate(loads)}
        times = runners.time_calls(calls, seconds / _LOADINGS, clock)
        shares.append(times[0].p25_ms / times[1].p25_ms)
    return statistics.median(shares)


def times_of(
    subjects: Subjects, networks: Sequence[Any], setting: Setting, seconds: float
) -> list[float]:
    """Returns what networks take, in nanoseconds, all timed now in turn.

    Args:
        subjects: What is measured for their space.
        networks: Their architectures.
        setting: What they are timed in.
        seconds: About how long.
    """
    loader = Loader(subjects, setting)
    calls = {number: loader.network(each).run for number, each in enumerate(networks)}
    clock = runners.clock_of(setting.runtime, setting.threads)
    times = runners.time_calls(calls, seconds, clock)
    return [1e6 * times[number].p25_ms for number in calls]


def _measure(
    subjects: Sequence[Subject],
    times_of: Callable[[Sequence[Subject]], list[int]],
    partial: str,
    asked: dict[str, Any],
) -> list[int]:
    """Returns what parts and whole networks take, in nanoseconds; keeps what it has in a file.

    Args:
        subjects: The parts and networks.
        times_of: Measures some of them.
        partial: Path of the file.
        asked: What is measured in what; a file of other measurements is refused.
    """
    nanoseconds = _read_partial(partial, asked)
    start, said = time.monotonic(), 0.0
    # Of whole networks and of parts, as far as they were measured by this process.
    seconds: dict[bool, list[float]] = {False: [], True: []}
    if nanoseconds:
        print(f"Goes on: {len(nanoseconds)} of {len(subjects)} were measured before")
    while len(nanoseconds) < len(subjects):
        group, begun = subjects[len(nanoseconds) :][:_GROUP], time.monotonic()
        nanoseconds += times_of(group)
        files.write_whole(partial, json.dumps({**asked, "nanoseconds": nanoseconds}))
        each = (time.monotonic() - begun) / len(group)
        for subject in group:
            seconds[_is_part(subject)].append(each)
        spent = time.monotonic() - start
        if spent - said >= _LINE_SECONDS:
            said, left = spent, _left(subjects[len(nanoseconds) :], seconds)
            print(
                f"Measured {len(nanoseconds)} of {len(subjects)} networks and parts of them "
                f"({duration(spent)}, {duration(left)} left)",
                flush=True,
            )
    return nanoseconds


def _left(subjects: Sequence[Subject], seconds: dict[bool, list[float]]) -> float:
    """Returns the seconds that subjects will take, by those of networks and parts before."""
    known = {kind: times or seconds[not kind] for kind, times in seconds.items()}
    return sum(float(np.mean(known[_is_part(subject)])) for subject in subjects)


def _is_part(subject: Subject) -> bool:
    return isinstance(subject, (str, tuple))


def _read_partial(partial: str, asked: dict[str, Any]) -> list[int]:
    if not tf.io.gfile.exists(partial):
        return []
    try:
        recorded = json_schema.load(files.read_text(partial))
        nanoseconds = recorded.pop("nanoseconds")
        if not all(isinstance(value, int) and value > 0 for value in nanoseconds):
            raise ValueError("nanoseconds: expected whole numbers above 0")
    # Whatever a damaged file raises.
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunDirectoryError(
            f"{partial} is damaged ({files.first_line(error)}): remove it to begin again"
        ) from None
    if recorded != asked:
        differing = [name for name in asked if recorded.get(name) != asked[name]]
        raise RunDirectoryError(
            f"{partial} was begun with another {' and another '.join(differing)}: remove it, or "
            "give another `output`"
        )
    return nanoseconds


def _times(group: Sequence[Subject], loader: Loader, clock: Clock, seconds: float) -> list[int]:
    """Returns what calls take.

    They are lower quartiles: beside other work, medians differ ten times as much from time to time.
    """
    if not all(map(_is_part, group)):  # now and then: it takes longer than a group of parts
        keras.utils.clear_session()
    calls = {index: _loaded(subject, loader).run for index, subject in enumerate(group)}
    longer = sum(1 if _is_part(subject) else _LONGER for subject in group)
    times = runners.time_calls(calls, seconds * longer, clock)
    return [max(1, round(1e6 * times[index].p25_ms)) for index in calls]


def _loaded(subject: Subject, loader: Loader) -> Runner:
    if isinstance(subject, tuple):
        return loader.part(*subject)
    if isinstance(subject, str):
        return {_EMPTY: loader.empty, _REFERENCE: loader.reference}[subject]
    return loader.network(subject)
