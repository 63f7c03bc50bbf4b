"""Profiles of a device: the times of a search space's layers, as a table of latencies."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf import json_schema
from tas_tf.deployment import runners
from tas_tf.deployment.running import Runner, random_images
from tas_tf.errors import RunDirectoryError
from tas_tf.models.spec_compiler import build_layer, build_model
from tas_tf.runtime import files
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import cost
from tas_tf.spaces.families import Layer
from tas_tf.spaces.latency_table import Grid, LatencyTable, layer_widths
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.callbacks import duration

FITTED, JUDGED = 10, 30  # whole networks
_INPUT_WIDTHS = 5  # times are nearly linear in input channels, and have steps in output channels
_QUARTERS = 4
_GROUP = 8  # networks that are timed in turn
_LINE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a table is measured in.

    Args:
        runtime: One of `formats.RUNTIMES`.
        batch_size: Images in a call.
        threads: Number of threads.
    """

    runtime: str
    batch_size: int
    threads: int

    def __str__(self) -> str:
        return f"{self.runtime}, batch {self.batch_size}, threads {self.threads}"


# A whole network, or a layer with its input and output channels.
Subject = Architecture | tuple[Layer, int, int]


def grid_widths(space: SearchSpace) -> dict[Layer, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Returns the input and output widths at which every layer of a space is measured.

    Output widths are all candidates, since vector units make steps in them, and the quarters of the
    widest; input widths are some of these, the first and the last among them. So the table also
    serves spaces of the same layers with other candidates, from a quarter of the width on.
    """
    grids = {}
    for layer, ends in layer_widths(space).items():
        sources, targets = map(_with_quarters, ends)
        picks = np.linspace(0, len(sources) - 1, _INPUT_WIDTHS).round().astype(int)
        grids[layer] = (tuple(sorted({sources[pick] for pick in picks})), targets)
    return grids


def subjects(space: SearchSpace) -> str:
    """Returns what a profile of a space measures, for people."""
    widths = grid_widths(space).values()
    layers = sum(len(sources) * len(targets) for sources, targets in widths)
    return f"{layers} layers of {len(widths)} kinds and {FITTED + JUDGED} whole networks"


def _with_quarters(widths: Sequence[int]) -> tuple[int, ...]:
    """Returns widths with the quarters of the widest; a width that is fixed stays alone."""
    if len(widths) == 1:
        return tuple(widths)
    quarters = (max(1, widths[-1] * part // _QUARTERS) for part in range(1, _QUARTERS))
    return tuple(sorted({*widths, *quarters}))


def profile(
    space: SearchSpace, output: str, setting: Setting, seconds: float = 0.1
) -> LatencyTable:
    """Measures a table of latencies, and writes it.

    What was measured so far lies beside it, in `OUTPUT.partial`: the same call goes on from there.

    Args:
        space: The search space.
        output: Path of the table.
        setting: What it is measured in.
        seconds: About how long a layer or a network is timed.

    Raises:
        RunDirectoryError: If what lies there is of another space or device, or damaged.
    """
    widths = grid_widths(space)
    layers = [(layer, *at) for layer, ends in widths.items() for at in itertools.product(*ends)]
    networks = _networks(space)
    device = runners.describe_device(setting.runtime)
    described = {
        "family": space.family,
        "block": space.block,
        "input_shape": list(space.input_shape),
        "num_classes": space.num_classes,
    }
    asked = {
        "setting": dataclasses.asdict(setting),
        "device": device,
        "space": json.loads(json.dumps(dataclasses.asdict(space))),
    }
    partial, unpruned = f"{output}.partial", space.unpruned()
    nanoseconds = _measure(
        [*layers, *networks],
        lambda group: _times(group, unpruned, setting, seconds),
        partial,
        asked,
    )
    times = iter(nanoseconds[: len(layers)])
    grids = tuple(
        Grid(layer, *ends, tuple(tuple(next(times) for _ in ends[1]) for _ in ends[0]))
        for layer, ends in widths.items()
    )
    error = {"networks": 0, "mean": 0.0, "largest": 0.0}
    table = LatencyTable(
        **dataclasses.asdict(setting), device=device, space=described, scale=1.0, overhead_ns=0,
        error=error, grids=grids, source=output,
    )  # fmt: skip
    table = calibrate(table, networks, nanoseconds[len(layers) :])
    files.write_whole(output, table.to_json())
    files.remove(partial)
    return table


def _networks(space: SearchSpace) -> list[Architecture]:
    """Returns the networks that scale and overhead are fitted to, then those that judge them."""
    random = np.random.default_rng(0)
    counts = [len(choice.candidates) for choice in space.choices]
    depths = [len(stage) for stage in space.depths]
    smallest = space.architecture([0] * len(counts), [0] * len(depths))
    drawn = [
        space.architecture(random.integers(counts).tolist(), random.integers(depths).tolist())
        for _ in range(FITTED - 2 + JUDGED)
    ]
    return [space.unpruned(), smallest, *drawn]


def calibrate(
    table: LatencyTable, networks: Sequence[Architecture], nanoseconds: Sequence[int]
) -> LatencyTable:
    """Returns the table with scale and overhead, and with how well it predicts other networks.

    Args:
        table: The table, without scale and overhead.
        networks: Those that both are fitted to (`FITTED`), then those that judge them.
        nanoseconds: What each takes.
    """
    sums = np.array([cost(network, table.kind) for network in networks[:FITTED]], np.float64)
    times = np.array(nanoseconds[:FITTED], np.float64)
    # Relative errors are what counts: each equation is divided by its time.
    equations = np.stack([sums / times, 1 / times], axis=1)
    scale, overhead = np.linalg.lstsq(equations, np.ones(FITTED))[0]
    if overhead < 0 or scale <= 0:
        ratios = equations[:, 0]
        scale, overhead = ratios.sum() / (ratios**2).sum(), 0.0
    table = dataclasses.replace(table, scale=float(scale), overhead_ns=round(overhead))
    predicted = np.array([cost(network, table.kind) for network in networks[FITTED:]])
    errors = np.abs(predicted / np.array(nanoseconds[FITTED:]) - 1)
    error = {
        "networks": len(errors),
        "mean": float(errors.mean()),
        "largest": float(errors.max()),
    }
    return dataclasses.replace(table, error=error)


def _measure(
    subjects: Sequence[Subject],
    times_of: Callable[[Sequence[Subject]], list[int]],
    partial: str,
    asked: dict[str, Any],
) -> list[int]:
    """Returns what layers and networks take, in nanoseconds; keeps what it has in a file.

    Args:
        subjects: The layers and networks.
        times_of: Measures some of them.
        partial: Path of the file.
        asked: What is measured in what; a file of other measurements is refused.
    """
    nanoseconds = _read_partial(partial, asked)
    before, start, said = len(nanoseconds), time.monotonic(), 0.0
    if nanoseconds:
        print(f"Goes on: {before} of {len(subjects)} were measured before")
    while len(nanoseconds) < len(subjects):
        nanoseconds += times_of(subjects[len(nanoseconds) : len(nanoseconds) + _GROUP])
        files.write_whole(partial, json.dumps({**asked, "nanoseconds": nanoseconds}))
        spent = time.monotonic() - start
        if spent - said >= _LINE_SECONDS:
            said, done = spent, len(nanoseconds)
            left = spent / (done - before) * (len(subjects) - done)
            print(
                f"Measured {done} of {len(subjects)} layers and networks "
                f"({duration(spent)}, {duration(left)} left)",
                flush=True,
            )
    return nanoseconds


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


def _times(
    group: Sequence[Subject], unpruned: Architecture, setting: Setting, seconds: float
) -> list[int]:
    """Returns the median times of layers, less that of an empty network, and of whole networks."""
    keras.utils.clear_session()
    make = functools.partial(_load_runner, setting=setting)
    loaded = [make(_empty_network())]
    for subject in group:
        if isinstance(subject, Architecture):
            loaded.append(make(build_model(subject)))
        else:
            loaded.append(make(build_layer(unpruned, *subject)))
    calls = {index: runner.run for index, runner in enumerate(loaded)}
    times = runners.time_calls(calls, seconds * len(loaded))
    empty, *others = (1e6 * times[index].median_ms for index in calls)
    return [
        max(1, round(value if isinstance(subject, Architecture) else value - empty))
        for subject, value in zip(group, others, strict=True)
    ]


def _empty_network() -> keras.Model:
    values = keras.layers.Input((1,))
    return keras.Model(values, keras.layers.ReLU()(values))


def _load_runner(model: keras.Model, setting: Setting) -> Runner:
    loaded = runners.runner(model, setting.runtime, setting.batch_size, setting.threads)
    loaded.load(random_images(model, setting.batch_size))
    return loaded
