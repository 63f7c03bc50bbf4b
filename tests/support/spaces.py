"""Small search spaces for tests, and all of their architectures one by one."""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tas_tf.spaces import cost, families
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.choices import WidthChoice
from tas_tf.spaces.cost import CostKind
from tas_tf.spaces.latency_table import Grid, LatencyTable, layer_widths
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.pieces import piece_widths
from tas_tf.spaces.search_space import SearchSpace

# Blocks that no family has: kernels that are not square, widths that grow, a single unit.
ODD_BLOCKS = {
    "odd": families.Block(
        "odd",
        (
            families.Unit("wide", (7, 5), strided=True),
            families.Unit("flat", (1, 3), widening=2, relu=False),
        ),
    ),
    "single": families.Block("single", (families.Unit("only", (5, 3), strided=True, relu=False),)),
}


@st.composite
def small_spaces(draw, most: int = 300, sides: int = 13) -> SearchSpace:
    """Spaces of at most so many architectures, stages and units of every kind; some widths tied."""
    family = families.FAMILIES[draw(st.sampled_from(sorted(families.FAMILIES)))]
    block = families.BLOCKS[draw(st.sampled_from(sorted(families.BLOCKS)))]
    counts = [draw(st.integers(1, 3)) for _ in family.base_widths]
    unit_choices = _tied(counts, len(block.units)) if draw(st.booleans()) else None
    unit_choices = unit_choices or list(range(1 + sum(counts) * len(block.units)))
    depths, widths = [], {}
    for part in draw(st.permutations([*set(unit_choices), *(-s - 1 for s in range(len(counts)))])):
        if part < 0:
            others = draw(st.sets(st.integers(1, counts[-part - 1]), max_size=most - 1))
            widths[part] = tuple(sorted({*others, counts[-part - 1]}))
        else:
            numbers = st.sets(st.integers(1, 12), min_size=1, max_size=min(3, most))
            widths[part] = tuple(sorted(draw(numbers)))
        most //= len(widths[part])
    depths = [widths[-s - 1] for s in range(len(counts))]
    side = st.integers(1, sides)
    return SearchSpace(
        family=family.name,
        block=block.name,
        input_shape=(draw(side), draw(side), draw(st.integers(1, 4))),
        num_classes=draw(st.integers(1, 11)),
        choices=tuple(WidthChoice(f"choice{c}", widths[c]) for c in range(1 + max(unit_choices))),
        unit_choices=tuple(unit_choices),
        depths=tuple(depths),
    )


def _tied(counts: list[int], units: int) -> list[int]:
    """Choices of the units where every stage's outputs share one, the first stage's the stem's."""
    unit_choices, fresh, stream = [0], itertools.count(1), 0
    for stage, count in enumerate(counts):
        stream = next(fresh) if stage else 0
        for _ in range(count):
            unit_choices += [*itertools.islice(fresh, units - 1), stream]
    return unit_choices


@st.composite
def odd_architectures(draw) -> Architecture:
    """Small networks of odd widths, some of whose blocks keep the width of their stream."""
    widths = st.integers(1, 40)
    family, units = draw(
        st.sampled_from([("cifar_resnet", 2), ("cifar_resnet", 3), ("imagenet_resnet", 2)])
    )
    stem = draw(widths)
    stages, stream = [], stem
    for _ in range(3 if family == "cifar_resnet" else 4):
        last = draw(st.sampled_from([stream, draw(widths)]))
        stages.append(((*(draw(widths) for _ in range(units - 1)), last),))
        stream = last
    return Architecture(
        family=family,
        block="basic" if units == 2 else "bottleneck",
        input_shape=(9, 8, 3) if family == "cifar_resnet" else (33, 32, 3),
        num_classes=5,
        stem_width=stem,
        stages=tuple(stages),
    )


def latency_table(space: SearchSpace, seed: int = 0, most: int = 60) -> LatencyTable:
    """A table of a space whose times are random, up to so many nanoseconds for a layer."""
    random, grids = np.random.default_rng(seed), []
    for layer, ends in layer_widths(space).items():
        times = random.integers(1, most, size=[len(widths) for widths in ends]).tolist()
        grids.append(Grid(layer, ends, tuple(map(tuple, times))))
    return _table(
        space={
            "family": space.family,
            "block": space.block,
            "input_shape": list(space.input_shape),
            "num_classes": space.num_classes,
        },
        scale=1.5,
        overhead_ns=int(random.integers(0, most)),
        grids=tuple(grids),
    )


def _table(**fields: Any) -> LatencyTable:
    """A table of no device."""
    return LatencyTable(
        runtime="litert",
        batch_size=1,
        threads=1,
        device={"processor": "none", "cores": 1, "versions": {"tas_tf": "0"}},
        error={"networks": 30, "mean": 0.05, "largest": 0.1},
        **fields,
    )


def kind_of(name: str, space: SearchSpace) -> CostKind:
    """A kind of cost by its name; of latency that of a random table."""
    return latency_table(space).kind if name == "latency" else cost.KINDS[name]


def all_indices(space: SearchSpace) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every (width indices, depth indices) of a space, those that differ in cut blocks included."""
    for widths in itertools.product(*(range(len(c.candidates)) for c in space.choices)):
        for depths in itertools.product(*(range(len(d)) for d in space.depths)):
            yield widths, depths


def random_logits(space: SearchSpace, seed: int, scale: float = 2.0):
    """Logits of every choice and stage in matrices, entries beyond the candidates enormous."""
    random = np.random.default_rng(seed)
    matrices = []
    for sizes in ([len(c.candidates) for c in space.choices], [len(d) for d in space.depths]):
        matrix = random.normal(size=(len(sizes), max(sizes))) * scale
        matrix[np.arange(max(sizes)) >= np.array(sizes)[:, None]] = 1e30
        matrices.append(matrix)
    return matrices


def softmax_rows(rows: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Softmax over the first entries of every row, zeros beyond them."""
    result = np.zeros_like(rows)
    for row, size, into in zip(rows, sizes, result, strict=True):
        exponentials = np.exp(row[:size] - row[:size].max())
        into[:size] = exponentials / exponentials.sum()
    return result


def probabilities(space: SearchSpace, logits) -> list[np.ndarray]:
    """Probabilities of widths and depths from logits."""
    return [
        softmax_rows(logits[0], [len(choice.candidates) for choice in space.choices]),
        softmax_rows(logits[1], [len(depths) for depths in space.depths]),
    ]


def probability(widths, depths, probabilities) -> float:
    """Probability of one combination of indices."""
    return math.prod(
        row[k]
        for rows, indices in zip(probabilities, (widths, depths), strict=True)
        for row, k in zip(rows, indices, strict=True)
    )


def piece_table(space: ModelSpace, seed: int | None = 0) -> LatencyTable:
    """A table of a model's space whose times are random; or grow with widths, as on devices."""
    random, grids = np.random.default_rng(seed), []
    for piece, axes in piece_widths(space).items():
        times = random.integers(1, 10**6, size=[len(widths) for widths in axes])
        if seed is None:
            times = 1000 * functools.reduce(np.multiply.outer, axes, np.ones((), int))
        grids.append(Grid(piece, axes, tuples(times.tolist())))
    return _table(
        space={
            "model": space.graph.name,
            "fingerprint": space.graph.fingerprint,
            "input_shape": list(space.input_shape),
        },
        scale=1.25,
        overhead_ns=1000 if seed is None else int(random.integers(10**6)),
        grids=tuple(grids),
    )


def tuples(value: Any) -> Any:
    """Lists within lists as tuples within tuples."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value
