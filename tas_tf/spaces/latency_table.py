"""Latencies on a device, as a kind of cost: of a ResNet's layers, or of a read model's pieces."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tas_tf import json_schema
from tas_tf.errors import SpecError
from tas_tf.json_schema import ANY, count, number, positive, text, truth
from tas_tf.spaces.cost import KINDS, LATENCY, CostKind
from tas_tf.spaces.expected_cost import FORMULAS, places
from tas_tf.spaces.families import Layer
from tas_tf.spaces.graph import Graph
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.pieces import Piece, PieceTimes, piece_widths, times_of
from tas_tf.spaces.search_space import SearchSpace

_LAYER_KINDS = ("convolution", "projection", "classifier")


def _width(value: Any) -> bool:
    return count(value) and value > 0


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_width, value))


def _version(number: int) -> Callable[[Any], bool]:
    return lambda value: value is not True and value == number


def _times(value: Any) -> bool:
    """Whole numbers, in lists within lists for several axes; `Grid` checks how many."""
    return all(map(_times, value)) if isinstance(value, list) else count(value)


_COMMON: dict[str, Any] = {
    "runtime": text,
    "batch_size": _width,
    "threads": _width,
    "device": {"processor": text, "cores": count, "versions": {ANY: text}},
    "scale": positive,
    "overhead_ns": count,
    "error": {"networks": count, "mean": number, "largest": number},
}
# By the schema's version: 1 is of ResNets, 2 of models that were read.
PATTERNS: dict[int, dict[str, Any]] = {
    1: {
        "schema_version": _version(1),
        **_COMMON,
        "space": {"family": text, "block": text, "input_shape": [count], "num_classes": count},
        "grids": [
            {
                "layer": {
                    "kind": lambda value: value in _LAYER_KINDS,
                    "kernel": _pair,
                    "stride": _width,
                    "size": _pair,
                    "in_size": _pair,
                    "normalized": truth,
                    "relu": truth,
                    "pooled_size": lambda value: value is None or _pair(value),
                },
                "in_widths": [_width],
                "out_widths": [_width],
                "nanoseconds": [[count]],
            }
        ],
    },
    2: {
        "schema_version": _version(2),
        **_COMMON,
        "space": {"model": text, "fingerprint": text, "input_shape": [count]},
        "grids": [
            {
                "piece": {"calls": [text], "size": text, "sums": [truth], "digest": text},
                "widths": [[_width]],
                "nanoseconds": _times,
            }
        ],
    },
}


def without_place(layer: Layer) -> Layer:
    """Returns a layer without what tells where it stands: layers that take equally long are equal.

    A convolution without ReLU ends its block: addition and ReLU count as its own.
    """
    return dataclasses.replace(layer, name="", entry_size=None)


def layer_widths(space: SearchSpace) -> dict[Layer, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Returns the layers of a space's networks, each with its input and its output widths."""
    of_layer: dict[Layer, tuple[set[int], set[int]]] = {}

    def add(layer: Layer, *ends: Sequence[int]) -> None:
        for known, widths in zip(
            of_layer.setdefault(without_place(layer), (set(), set())), ends, strict=True
        ):
            known.update(widths)

    for place in places(space, FORMULAS["built"]):
        ends = (place.source, space.input_shape[2]), (place.target, space.num_classes)
        add(place.layer, *([n] if c is None else space.choices[c].candidates for c, n in ends))
    for layer, in_channels, out_channels, _ in space.unpruned().layers():
        add(layer, [in_channels], [out_channels])
    return {
        layer: (tuple(sorted(sources)), tuple(sorted(targets)))
        for layer, (sources, targets) in of_layer.items()
    }


@dataclasses.dataclass(frozen=True)
class Grid:
    """What a layer or a piece takes at a grid of widths.

    Args:
        subject: The layer, without its place; or the piece.
        widths: Of every axis its numbers of channels, ascending: of a layer input and output.
        nanoseconds: The times: for every width of the first axis those of the others, in tuples.
    """

    subject: Layer | Piece
    widths: tuple[tuple[int, ...], ...]
    nanoseconds: Any

    def __post_init__(self) -> None:
        names = self.axis_names
        if len(names) != len(self.widths):
            raise ValueError(
                f"widths: expected those of {len(names)} axes. Received: {len(self.widths)}"
            )
        for name, widths in zip(names, self.widths, strict=True):
            if not widths or list(widths) != sorted(set(widths)):
                raise ValueError(f"{name}: expected ascending widths. Received: {widths}")
        expected = tuple(map(len, self.widths))
        try:
            shape = self._times.shape
        except ValueError:  # rows of several lengths
            shape = None
        if shape != expected:
            raise ValueError(
                f"nanoseconds: expected numbers {expected}, one for each combination of widths. "
                f"Received: {shape or 'rows that differ in length'}"
            )

    @property
    def axis_names(self) -> tuple[str, ...]:
        """What the fields of a table's file call the axes."""
        if isinstance(self.subject, Layer):
            return "in_widths", "out_widths"
        return tuple(f"widths[{axis}]" for axis in range(len(self.subject.sums)))

    @functools.cached_property
    def _times(self) -> np.ndarray:
        return np.array(self.nanoseconds, np.float64)

    def at(self, *channels: int) -> float:
        """Returns the time at a width of every axis, interpolated linearly along each.

        Raises:
            ValueError: If a width lies outside the grid.
        """
        times = self._times
        for widths, width in zip(self.widths, channels, strict=True):
            index, share = _between(widths, width)
            following = times[min(index + 1, len(widths) - 1)]
            times = (1 - share) * times[index] + share * following
        return float(times)


def _between(widths: Sequence[int], width: int) -> tuple[int, float]:
    """Returns the index of the width below, and how far it is from there to the next, 0 to 1."""
    if not widths[0] <= width <= widths[-1]:
        raise ValueError(f"width {width} is not in {widths[0]} to {widths[-1]}")
    index = bisect.bisect_right(widths, width) - 1
    if widths[index] == width:
        return index, 0.0
    return index, (width - widths[index]) / (widths[index + 1] - widths[index])


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """The times of the layers, or of the pieces, of a space's networks on a device.

    Args:
        runtime: The runtime.
        batch_size: Images in a call; times are those of a call.
        threads: Number of threads.
        device: Processor, cores and versions.
        space: What it was measured for: family, block, images and classes; or model and images.
        scale: What the sum of a network's layers or pieces is multiplied by.
        overhead_ns: What a network takes beside them.
        error: How well whole networks are predicted: number of `networks`, `mean` and `largest`
            relative error.
        grids: The times of the layers, or of the pieces.
        source: What errors call it, such as the file's path.
    """

    runtime: str
    batch_size: int
    threads: int
    device: Mapping[str, Any]
    space: Mapping[str, Any]
    scale: float
    overhead_ns: int
    error: Mapping[str, Any]
    grids: tuple[Grid, ...]
    source: str = dataclasses.field(default="table", compare=False)

    @classmethod
    def from_json(cls, content: str, source: str = "table") -> LatencyTable:
        """Reads a table from JSON text.

        Args:
            content: The text.
            source: What errors call it, such as the file's path.

        Raises:
            SpecError: If it is malformed; the message names source, field and value.
        """
        try:
            fields = json_schema.load(content, "table")
            version = fields.get("schema_version") if isinstance(fields, dict) else None
            pattern = PATTERNS[2 if _version(2)(version) else 1]
            json_schema.check(fields, pattern)
            fields = {name: fields[name] for name in pattern if name != "schema_version"}
            fields["grids"] = tuple(map(_grid, range(len(fields["grids"])), fields["grids"]))
        except ValueError as error:
            raise SpecError(f"{source}: {error}", field="latency_table") from None
        return cls(**fields, source=source)

    def to_json(self) -> str:
        """Returns the table as JSON text, one grid a line."""
        of_pieces = any(isinstance(grid.subject, Piece) for grid in self.grids)
        fields = {"schema_version": 2 if of_pieces else 1, **dataclasses.asdict(self)}
        del fields["source"], fields["grids"]
        rows = ",\n".join(f"    {json.dumps(_grid_fields(grid))}" for grid in self.grids)
        head = json.dumps(fields, indent=2).removesuffix("\n}")
        return f'{head},\n  "grids": [\n{rows}\n  ]\n}}\n'

    @property
    def kind(self) -> CostKind:
        """The kind of cost that this table makes, in nanoseconds."""
        return CostKind(LATENCY, self.layer_ns, times=self._times_of)

    def layer_ns(
        self, layer: Layer, in_channels: int, out_channels: int, entry_channels: int = 0
    ) -> int:
        """Nanoseconds of one layer; the classifier bears what the network takes beside its layers.

        Raises:
            SpecError: If the table does not have the layer, or not so wide or narrow.
        """
        del entry_channels
        return self._layer_ns(layer, in_channels, out_channels)

    @functools.cached_property
    def _grids(self) -> dict[Layer | Piece, Grid]:
        return {grid.subject: grid for grid in self.grids}

    @functools.cached_property
    def _layer_ns(self) -> Callable[[Layer, int, int], int]:
        @functools.cache
        def looked_up(layer: Layer, in_channels: int, out_channels: int) -> int:
            value = self._looked_up(without_place(layer), (in_channels, out_channels))
            extra = self.overhead_ns if layer.kind == "classifier" else 0
            return max(1, round(value)) + extra

        return looked_up

    @functools.cached_property
    def _times_of(self) -> Callable[[Graph], PieceTimes]:
        time = functools.cache(self._piece_ns)
        return functools.cache(lambda graph: times_of(graph, self.overhead_ns, time))

    def _piece_ns(self, piece: Piece, widths: tuple[int, ...]) -> float:
        """Nanoseconds of a piece; whole ones, where nothing has to be linear in a sum of widths."""
        value = self._looked_up(piece, widths)
        return value if any(piece.sums) else round(value)

    def _looked_up(self, subject: Layer | Piece, widths: tuple[int, ...]) -> float:
        try:
            return self.scale * self._grids[subject].at(*widths)
        except (KeyError, ValueError) as error:
            raise self._other_space(subject, error) from None

    def check(self, space: SearchSpace | ModelSpace) -> None:
        """Refuses a search space whose networks have a layer or a piece that the table lacks.

        Raises:
            SpecError: With the layer, or the piece.
        """
        if isinstance(space, ModelSpace):
            for piece, axes in piece_widths(space).items():
                for end in (0, -1):
                    self._piece_ns(piece, tuple(widths[end] for widths in axes))
            return
        for layer, (sources, targets) in layer_widths(space).items():
            for end in (0, -1):
                self.layer_ns(layer, sources[end], targets[end])

    def _other_space(self, subject: Layer | Piece, error: Exception) -> SpecError:
        width = f" ({error})" if isinstance(error, ValueError) else ""
        if isinstance(subject, Layer):
            sizes = (subject.in_size, subject.size)
            ends = " to ".join("x".join(map(str, size)) for size in sizes)
            kernel = "x".join(map(str, subject.kernel))
            lacking = f"a {subject.kind} of kernel {kernel} from {ends}"
        else:
            lacking = str(subject)
        return SpecError(
            f"{self.source} has no time of {lacking}{width}. It was measured for "
            f"{self._measured_for()}: measure one for this space by python -m "
            "tas_tf.profile_device",
            field="latency_table",
        )

    def _measured_for(self) -> str:
        images = f"images {tuple(self.space['input_shape'])}"
        if "model" in self.space:
            return f"{self.space['model']} ({self.space['fingerprint']}), {images}"
        return (
            f"{self.space['family']} of {self.space['block']} blocks, {images}, "
            f"{self.space['num_classes']} classes"
        )

    def described(self) -> str:
        """Returns what was measured where, for people."""
        return (
            f"{self.runtime}, batch {self.batch_size}, {self.threads} threads, on "
            f"{self.device['processor']} ({self.device['cores']} cores)"
        )


def _grid_fields(grid: Grid) -> dict[str, Any]:
    """Returns a grid as a table's file has it."""
    subject = dataclasses.asdict(grid.subject)
    if isinstance(grid.subject, Piece):
        return {"piece": subject, "widths": grid.widths, "nanoseconds": grid.nanoseconds}
    del subject["name"], subject["entry_size"]
    ends = dict(zip(grid.axis_names, grid.widths, strict=True))
    return {"layer": subject, **ends, "nanoseconds": grid.nanoseconds}


def _grid(index: int, fields: dict[str, Any]) -> Grid:
    fields = {name: _tuples(value) for name, value in fields.items()}
    try:
        if "piece" in fields:
            known = {name: fields["piece"][name] for name in PATTERNS[2]["grids"][0]["piece"]}
            return Grid(
                Piece(**{name: _tuples(value) for name, value in known.items()}),
                fields["widths"],
                fields["nanoseconds"],
            )
        known = {name: fields["layer"][name] for name in PATTERNS[1]["grids"][0]["layer"]}
        return Grid(
            Layer(name="", **{name: _tuples(value) for name, value in known.items()}),
            (fields["in_widths"], fields["out_widths"]),
            fields["nanoseconds"],
        )
    except ValueError as error:
        raise ValueError(f"grids[{index}].{error}") from None


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def kinds(table: LatencyTable | None) -> dict[str, CostKind]:
    """Returns all kinds of cost by their names: that of a table's too, where there is one."""
    return KINDS if table is None else {**KINDS, LATENCY: table.kind}
