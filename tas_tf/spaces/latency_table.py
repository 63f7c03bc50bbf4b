"""Latencies of a space's layers on a device, as a kind of cost."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tas_tf import json_schema
from tas_tf.errors import SpecError
from tas_tf.json_schema import ANY, count, number, positive, text, truth
from tas_tf.spaces.cost import KINDS, LATENCY, CostKind
from tas_tf.spaces.expected_cost import FORMULAS, places
from tas_tf.spaces.families import Layer
from tas_tf.spaces.search_space import SearchSpace

SCHEMA_VERSION = 1
_LAYER_KINDS = ("convolution", "projection", "classifier")


def _width(value: Any) -> bool:
    return count(value) and value > 0


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_width, value))


PATTERN: dict[str, Any] = {
    "schema_version": lambda value: value is not True and value == SCHEMA_VERSION,
    "runtime": text,
    "batch_size": _width,
    "threads": _width,
    "device": {"processor": text, "cores": count, "versions": {ANY: text}},
    "space": {"family": text, "block": text, "input_shape": [count], "num_classes": count},
    "scale": positive,
    "overhead_ns": count,
    "error": {"networks": count, "mean": number, "largest": number},
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
    """What a layer takes at a grid of widths.

    Args:
        layer: The layer, without its place.
        in_widths: Input channels, ascending.
        out_widths: Output channels, ascending.
        nanoseconds: For every input width a row of the times for every output width.
    """

    layer: Layer
    in_widths: tuple[int, ...]
    out_widths: tuple[int, ...]
    nanoseconds: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for name in ("in_widths", "out_widths"):
            widths = getattr(self, name)
            if not widths or list(widths) != sorted(set(widths)):
                raise ValueError(f"{name}: expected ascending widths. Received: {widths}")
        shape = [len(row) for row in self.nanoseconds]
        if shape != [len(self.out_widths)] * len(self.in_widths):
            raise ValueError(
                f"nanoseconds: expected a row of {len(self.out_widths)} numbers for each of "
                f"{len(self.in_widths)} input widths. Received: {shape}"
            )

    def at(self, in_channels: int, out_channels: int) -> float:
        """Returns the time at two widths, interpolated between the four around them.

        Raises:
            ValueError: If a width lies outside the grid.
        """
        (i, s), (j, t) = (
            _between(self.in_widths, in_channels),
            _between(self.out_widths, out_channels),
        )
        rows = self.nanoseconds[i], self.nanoseconds[min(i + 1, len(self.in_widths) - 1)]
        low, high = (
            (1 - t) * row[j] + t * row[min(j + 1, len(self.out_widths) - 1)] for row in rows
        )
        return (1 - s) * low + s * high


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
    """The times of the layers of a space on a device.

    Args:
        runtime: The runtime.
        batch_size: Images in a call; times are those of a call.
        threads: Number of threads.
        device: Processor, cores and versions.
        space: Family, block, images and classes that it was measured for.
        scale: What the sum of a network's layers is multiplied by.
        overhead_ns: What a network takes beside its layers.
        error: How well whole networks are predicted: number of `networks`, `mean` and `largest`
            relative error.
        grids: The layers' times.
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
            fields = json_schema.parse(content, PATTERN, "table")
            fields = {name: fields[name] for name in PATTERN if name != "schema_version"}
            fields["grids"] = tuple(map(_grid, range(len(fields["grids"])), fields["grids"]))
        except ValueError as error:
            raise SpecError(f"{source}: {error}", field="latency_table") from None
        return cls(**fields, source=source)

    def to_json(self) -> str:
        """Returns the table as JSON text, one grid a line."""
        fields = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        grids = fields.pop("grids")
        del fields["source"]
        for grid in grids:
            del grid["layer"]["name"], grid["layer"]["entry_size"]
        rows = ",\n".join(f"    {json.dumps(grid)}" for grid in grids)
        head = json.dumps(fields, indent=2).removesuffix("\n}")
        return f'{head},\n  "grids": [\n{rows}\n  ]\n}}\n'

    @property
    def kind(self) -> CostKind:
        """The kind of cost that this table makes, in nanoseconds."""
        return CostKind(LATENCY, self.layer_ns)

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
    def _layer_ns(self) -> Callable[[Layer, int, int], int]:
        grids = {grid.layer: grid for grid in self.grids}

        @functools.cache
        def looked_up(layer: Layer, in_channels: int, out_channels: int) -> int:
            try:
                value = grids[without_place(layer)].at(in_channels, out_channels)
            except (KeyError, ValueError) as error:
                raise self._other_space(layer, error) from None
            extra = self.overhead_ns if layer.kind == "classifier" else 0
            return max(1, round(self.scale * value)) + extra

        return looked_up

    def check(self, space: SearchSpace) -> None:
        """Refuses a search space whose networks have a layer that the table lacks.

        Raises:
            SpecError: With the layer.
        """
        for layer, (sources, targets) in layer_widths(space).items():
            for end in (0, -1):
                self.layer_ns(layer, sources[end], targets[end])

    def _other_space(self, layer: Layer, error: Exception) -> SpecError:
        width = f" ({error})" if isinstance(error, ValueError) else ""
        sizes = " to ".join("x".join(map(str, size)) for size in (layer.in_size, layer.size))
        return SpecError(
            f"{self.source} has no time of a {layer.kind} of kernel "
            f"{'x'.join(map(str, layer.kernel))} from {sizes}{width}. It was measured for "
            f"{self.space['family']} of {self.space['block']} blocks, images "
            f"{tuple(self.space['input_shape'])}, {self.space['num_classes']} classes: measure one "
            "for this space by python -m tas_tf.profile_device",
            field="latency_table",
        )

    def described(self) -> str:
        """Returns what was measured where, for people."""
        return (
            f"{self.runtime}, batch {self.batch_size}, {self.threads} threads, on "
            f"{self.device['processor']} ({self.device['cores']} cores)"
        )


def _grid(index: int, fields: dict[str, Any]) -> Grid:
    layer: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in fields["layer"].items()
        if name in PATTERN["grids"][0]["layer"]
    }
    try:
        return Grid(
            Layer(name="", **layer),
            tuple(fields["in_widths"]),
            tuple(fields["out_widths"]),
            tuple(map(tuple, fields["nanoseconds"])),
        )
    except ValueError as error:
        raise ValueError(f"grids[{index}].{error}") from None


def kinds(table: LatencyTable | None) -> dict[str, CostKind]:
    """Returns all kinds of cost by their names: that of a table's too, where there is one."""
    return KINDS if table is None else {**KINDS, LATENCY: table.kind}
