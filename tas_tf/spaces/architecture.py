"""Architecture: the shape of a network as data, from text and back, with a schema version.

Loading an architecture runs no code from it: it is JSON of known fields, every one of them checked.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tas_tf import json_schema
from tas_tf.errors import ArchitectureError
from tas_tf.json_schema import brief
from tas_tf.spaces import families

SCHEMA_VERSION = 1
MAX_WIDTH = 65_536
MAX_SIDE = 65_536
MAX_BLOCKS = 1_000
MAX_PARAMETERS = 2**31

_REQUIRED = (
    "schema_version",
    "family",
    "block",
    "input_shape",
    "num_classes",
    "stem_width",
    "stages",
)
_OPTIONAL = ("name", "cost", "provenance")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network's shape: only what is really built.

    Args:
        family: Name of the family, see `families.FAMILIES`.
        block: Name of the block, see `families.BLOCKS`.
        input_shape: (height, width, channels) of the images.
        num_classes: Number of classes.
        stem_width: Output channels of the stem.
        stages: For every stage its kept blocks, each the tuple of its units' output channels.
        name: A name for people.
        cost: Costs of the network, for people: kind to number.
        provenance: Where it came from, for people: any JSON object.

    Raises:
        ArchitectureError: If a field is malformed, with its name and the value received.
    """

    family: str
    block: str
    input_shape: tuple[int, int, int]
    num_classes: int
    stem_width: int
    stages: tuple[tuple[tuple[int, ...], ...], ...]
    name: str | None = None
    cost: Mapping[str, Any] | None = dataclasses.field(default=None, compare=False)
    provenance: Mapping[str, Any] | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        _check_choice("family", self.family, families.FAMILIES)
        _check_choice("block", self.block, families.BLOCKS)
        _check_list("input_shape", self.input_shape, 3)
        for index, side in enumerate(self.input_shape):
            _check_int(f"input_shape[{index}]", side, MAX_SIDE)
        _check_int("num_classes", self.num_classes, MAX_WIDTH)
        _check_int("stem_width", self.stem_width, MAX_WIDTH)
        self._check_stages()
        if self.name is not None and not isinstance(self.name, str):
            raise ArchitectureError(f"name: expected text. Received: {brief(self.name)}")
        for field in ("cost", "provenance"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, Mapping):
                raise ArchitectureError(f"{field}: expected an object. Received: {brief(value)}")
        # Lists, as JSON has them, become tuples: the dataclass is hashable.
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        stages = tuple(tuple(tuple(block) for block in stage) for stage in self.stages)
        object.__setattr__(self, "stages", stages)
        self._check_parameters()

    def _check_stages(self) -> None:
        _check_list("stages", self.stages, len(families.FAMILIES[self.family].base_widths))
        units = len(families.BLOCKS[self.block].units)
        count = 0
        for s, stage in enumerate(self.stages):
            _check_list(f"stages[{s}]", stage)
            if not stage:
                raise ArchitectureError(f"stages[{s}]: a stage keeps at least one block")
            count += len(stage)
            if count > MAX_BLOCKS:
                raise ArchitectureError(f"stages: more than {MAX_BLOCKS} blocks in all")
            for b, widths in enumerate(stage):
                _check_list(f"stages[{s}][{b}]", widths, units)
                for u, width in enumerate(widths):
                    _check_int(f"stages[{s}][{b}][{u}]", width, MAX_WIDTH)

    def _check_parameters(self) -> None:
        total = 0
        for layer, in_channels, out_channels, _ in self.layers():
            total += layer.kernel[0] * layer.kernel[1] * in_channels * out_channels
            if total > MAX_PARAMETERS:
                raise ArchitectureError(
                    f"stages: more than {MAX_PARAMETERS} (2^31) parameters, reached at {layer.name}"
                )

    @property
    def outline(self) -> families.Outline:
        """Where every layer of this network stands."""
        return families.outline(
            families.FAMILIES[self.family],
            families.BLOCKS[self.block],
            [len(stage) for stage in self.stages],
            self.input_shape,
        )

    def layers(self) -> Iterator[families.Placed]:
        """Yields (layer, input, output, block's input channels) of all that is built, in order."""
        outline = self.outline
        channels = self.stem_width
        yield outline.stem, self.input_shape[2], channels, self.input_shape[2]
        for stage, stage_widths in zip(outline.stages, self.stages, strict=True):
            for block, widths in zip(stage, stage_widths, strict=True):
                entry = channels
                for layer, width in zip(block.units, widths, strict=True):
                    yield layer, channels, width, entry
                    channels = width
                if block.needs_projection(entry, channels):
                    yield block.projection, entry, channels, entry
        yield outline.classifier, channels, self.num_classes, channels

    def replace(self, **fields: Any) -> Architecture:
        """Returns the architecture with other values in some fields."""
        return dataclasses.replace(self, **fields)

    def to_json(self) -> str:
        """Returns the architecture as JSON text, one block a line."""
        fields = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        fields = {key: value for key, value in fields.items() if value is not None}
        stages = fields.pop("stages")
        text = json.dumps(fields, indent=2)
        rows = ",\n".join(
            "    [\n" + ",\n".join(f"      {json.dumps(block)}" for block in stage) + "\n    ]"
            for stage in stages
        )
        return text.removesuffix("\n}") + f',\n  "stages": [\n{rows}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "architecture") -> Architecture:
        """Reads an architecture from JSON text.

        Args:
            text: The text.
            source: What errors call it, such as the file's path.

        Raises:
            ArchitectureError: If it is malformed; the message names source, field and value.
        """
        try:
            return cls(**_fields(text))
        except ArchitectureError as error:
            raise ArchitectureError(f"{source}: {error}") from None


def _fields(text: str | bytes) -> dict[str, Any]:
    try:
        fields = json_schema.load(text, "architecture")
    except json_schema.NotJSONError as error:
        raise ArchitectureError(f"not valid JSON: {error}") from None
    except ValueError as error:
        raise ArchitectureError(str(error)) from None
    if not isinstance(fields, dict):
        raise ArchitectureError(f"expected a JSON object. Received: {brief(fields)}")
    if fields.get("schema_version") == 2:
        raise ArchitectureError(
            "schema_version: 2 is of a model that was read, whose base.keras must lie beside it"
        )
    missing = [key for key in _REQUIRED if key not in fields]
    unknown = [key for key in fields if key not in _REQUIRED + _OPTIONAL]
    if unknown:
        raise ArchitectureError(
            f"unknown field {brief(unknown[0])}; known are {', '.join(_REQUIRED + _OPTIONAL)}"
        )
    if missing:
        raise ArchitectureError(f"missing field {missing[0]!r}")
    version = fields.pop("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise ArchitectureError(
            f"schema_version: this release reads {SCHEMA_VERSION}. Received: {brief(version)}"
        )
    return fields


def _check_choice(field: str, value: Any, choices: Mapping[str, Any]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ArchitectureError(
            f"{field}: expected one of {', '.join(choices)}. Received: {brief(value)}"
        )


def _check_int(field: str, value: Any, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise ArchitectureError(
            f"{field}: expected a whole number from 1 to {largest}. Received: {brief(value)}"
        )


def _check_list(field: str, value: Any, length: int | None = None) -> None:
    if not isinstance(value, (list, tuple)) or length not in (None, len(value)):
        wanted = "a list" if length is None else f"a list of {length}"
        raise ArchitectureError(f"{field}: expected {wanted}. Received: {brief(value)}")
