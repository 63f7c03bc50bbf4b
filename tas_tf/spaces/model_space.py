"""The search space of a model that was read: a width for every group of its channels."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tas_tf import json_schema
from tas_tf.errors import ArchitectureError, SpecError
from tas_tf.json_schema import brief
from tas_tf.spaces.channels import Group
from tas_tf.spaces.graph import Graph
from tas_tf.spaces.search_space import DEFAULT_RATIOS, WidthChoice, candidate_widths, index_of

SCHEMA_VERSION = 2  # 1 is that of `architecture.Architecture`
_REQUIRED = ("schema_version", "model", "fingerprint", "widths")
_OPTIONAL = ("name", "cost", "provenance")


@dataclasses.dataclass(frozen=True, eq=False)
class ModelSpace:
    """The networks that a model becomes when it keeps only some of its channels.

    Args:
        graph: The model, read.
        choices: For every group of channels its candidate widths, one logits vector each.
        outputs: The shapes of the model's outputs, without the batch.
        model: The model itself, from which networks are built.
    """

    graph: Graph
    choices: tuple[WidthChoice, ...]
    outputs: tuple[tuple[int, ...], ...]
    model: Any = dataclasses.field(repr=False)

    @classmethod
    def of(
        cls,
        graph: Graph,
        model: Any,
        outputs: Sequence[Sequence[int]],
        ratios: Sequence[float] = DEFAULT_RATIOS,
        width_divisor: int = 1,
        frozen: Sequence[str] = (),
    ) -> ModelSpace:
        """Returns the space of a graph.

        Args:
            graph: The graph.
            model: The model that it was read from.
            outputs: The shapes of the model's outputs, without the batch.
            ratios: Candidate widths as shares of the unpruned width, in (0, 1].
            width_divisor: Candidates have a number of channels that is the nearest multiple of it.
            frozen: Paths of layers whose channels are not searched, nor those tied to them.

        Raises:
            SpecError: If an argument makes no sense, or no channels are left to search.
        """
        if not ratios or any(not 0 < ratio <= 1 for ratio in ratios):
            raise SpecError(f"ratios: expected numbers in (0, 1]. Received: {ratios}")
        if width_divisor < 1:
            raise SpecError(f"width_divisor: expected at least 1. Received: {width_divisor}")
        _check_frozen(graph, frozen)
        choices = []
        for group in graph.groups:
            shares = (1.0,) if {*group.owners} & {*frozen} else ratios
            candidates = _candidates(graph, group, shares, width_divisor)
            choices.append(WidthChoice(group.name, candidates))
        if all(len(choice.candidates) == 1 for choice in choices):
            raise SpecError(
                f"{graph.name}: expected a model that has channels to search. All are kept: "
                + "; ".join(f"{path}: {reason}" for path, reason in [*graph.frozen.items()][:5])
            )
        return cls(graph, tuple(choices), tuple(tuple(shape) for shape in outputs), model)

    @property
    def depths(self) -> tuple[tuple[int, ...], ...]:
        """Candidate depths: none, since no depth is searched."""
        return ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input, without the batch."""
        return self.graph.input_shapes[0]

    @property
    def num_classes(self) -> int:
        """Length of the first output."""
        return self.outputs[0][-1]

    def architecture(
        self,
        width_indices: Sequence[int],
        depth_indices: Sequence[int] = (),
        name: str | None = None,
    ) -> ModelArchitecture:
        """Returns the architecture of one candidate per choice.

        Args:
            width_indices: For every choice the index of its candidate.
            depth_indices: Nothing, since no depth is searched.
            name: A name for people.
        """
        del depth_indices
        widths = {
            choice.name: choice.candidates[index]
            for choice, index in zip(self.choices, width_indices, strict=True)
        }
        return ModelArchitecture(self, widths, name)

    def indices(self, architecture: ModelArchitecture) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the candidates that make an architecture, as `architecture` takes them.

        Raises:
            ArchitectureError: If a width is no candidate.
        """
        widths = architecture.widths
        found = [index_of(c.name, widths[c.name], c.candidates) for c in self.choices]
        return tuple(found), ()

    def searched(self, candidates: Mapping[str, tuple[int, ...]]) -> ModelSpace:
        """Returns the space of the same model with other candidates.

        Args:
            candidates: For every group by its name, ascending.

        Raises:
            ArchitectureError: If they are not of its groups.
        """
        if [*candidates] != [choice.name for choice in self.choices]:
            raise ArchitectureError("the candidates are of other groups of channels")
        for of_choice in zip(*candidates.values(), strict=False):
            self.graph.partition.checked(dict(zip(candidates, of_choice, strict=True)))
        choices = tuple(WidthChoice(name, widths) for name, widths in candidates.items())
        return dataclasses.replace(self, choices=choices)

    def unpruned(self) -> ModelArchitecture:
        """Returns the architecture of the whole model."""
        return ModelArchitecture(self, self.graph.partition.widths)

    def record(self) -> dict[str, Any]:
        """Returns what a run records of it, plain data."""
        return {
            "model": self.graph.name,
            "fingerprint": self.graph.fingerprint,
            "input_shape": self.input_shape,
            "num_classes": self.num_classes,
            "choices": [dataclasses.asdict(choice) for choice in self.choices],
        }

    def summary(self) -> str:
        """Returns what is searched, what is tied, what is kept and why, as lines of text."""
        graph = self.graph
        macs, parameters = graph.cost(), graph.cost(kind="parameters")
        searched = sum(len(choice.candidates) > 1 for choice in self.choices)
        lines = [f"{graph.name}: {macs:,} MACs, {parameters:,} parameters; {searched} widths"]
        for choice, group in zip(self.choices, graph.groups, strict=True):
            candidates = ", ".join(map(str, choice.candidates))
            lines.append(f"  {choice.name}: {candidates}")
            if group.owners[1:]:
                lines.append(f"    tied: {', '.join(group.owners[1:])}")
        if graph.frozen:
            lines.append("Kept whole:")
            lines += [f"  {path}: {reason}" for path, reason in graph.frozen.items()]
        if graph.uncounted:
            lines.append(f"Multiplications not counted: {', '.join(graph.uncounted)}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class ModelArchitecture:
    """A network that keeps some channels of a model.

    Args:
        space: The space of the model.
        widths: For every group of channels how many classes of it are kept.
        name: A name for people.
        cost: Costs of the network, for people: kind to number.
        provenance: Where it came from, for people: any JSON object.

    Raises:
        ArchitectureError: If there is no such group, or it does not have that width.
    """

    space: ModelSpace = dataclasses.field(compare=False, repr=False)
    widths: Mapping[str, int]
    name: str | None = None
    cost: Mapping[str, Any] | None = dataclasses.field(default=None, compare=False)
    provenance: Mapping[str, Any] | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        checked = self.space.graph.partition.checked(self.widths)
        object.__setattr__(self, "widths", checked)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input, without the batch."""
        return self.space.input_shape

    @property
    def num_classes(self) -> int:
        """Length of the first output."""
        return self.space.num_classes

    @property
    def family(self) -> str:
        """What records call the networks that it is one of: the model's name."""
        return self.space.graph.name

    def replace(self, **fields: Any) -> ModelArchitecture:
        """Returns the architecture with other values in some fields."""
        return dataclasses.replace(self, **fields)

    def to_json(self) -> str:
        """Returns the architecture as JSON text."""
        graph = self.space.graph
        fields = {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "model": graph.name,
            "fingerprint": graph.fingerprint,
            "cost": self.cost,
            "provenance": self.provenance,
            "widths": self.widths,
        }
        fields = {key: value for key, value in fields.items() if value is not None}
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(
        cls, text: str | bytes, space: ModelSpace, source: str = "architecture"
    ) -> ModelArchitecture:
        """Reads an architecture from JSON text.

        Args:
            text: The text.
            space: The space of the model that it is of.
            source: What errors call it, such as the file's path.

        Raises:
            ArchitectureError: If it is malformed, or of another model.
        """
        try:
            fields = json_schema.load(text, "architecture")
            _check_fields(fields, space)
            keys = ("widths", *_OPTIONAL)
            return cls(space, **{key: fields[key] for key in keys if key in fields})
        except (json_schema.NotJSONError, ValueError, ArchitectureError) as error:
            raise ArchitectureError(f"{source}: {error}") from None


def _check_fields(fields: Any, space: ModelSpace) -> None:
    if not isinstance(fields, dict):
        raise ArchitectureError(f"expected a JSON object. Received: {brief(fields)}")
    for key in fields:
        if key not in _REQUIRED + _OPTIONAL:
            known = ", ".join(_REQUIRED + _OPTIONAL)
            raise ArchitectureError(f"unknown field {brief(key)}; known are {known}")
    for key in _REQUIRED:
        if key not in fields:
            raise ArchitectureError(f"missing field {key!r}")
    version = fields["schema_version"]
    if type(version) is not int or version != SCHEMA_VERSION:
        raise ArchitectureError(
            f"schema_version: expected {SCHEMA_VERSION}, that of a model that was read. "
            f"Received: {brief(version)}"
        )
    if fields["fingerprint"] != space.graph.fingerprint:
        raise ArchitectureError(
            f"fingerprint: expected {space.graph.fingerprint}, that of {space.graph.name}. "
            f"Received: {brief(fields['fingerprint'])}, of {brief(fields['model'])}"
        )
    widths = fields["widths"]
    if not isinstance(widths, dict) or any(type(width) is not int for width in widths.values()):
        raise ArchitectureError(
            f"widths: expected whole numbers by name. Received: {brief(widths)}"
        )


def _check_frozen(graph: Graph, frozen: Sequence[str]) -> None:
    known = {owner for group in graph.groups for owner in group.owners}
    for path in frozen:
        if path not in known and path not in graph.frozen:
            raise SpecError(
                f"frozen: {path!r} is no layer of {graph.name} that makes channels; such are "
                f"{', '.join(sorted(known)[:8])}"
            )


def _candidates(
    graph: Graph, group: Group, ratios: Sequence[float], divisor: int
) -> tuple[int, ...]:
    """Returns candidates, of which each class may stand for several channels of a layer."""
    each = graph.partition.channels_of(group) // group.width
    divisor = math.lcm(each, divisor) if divisor > 1 else 1
    channels = candidate_widths(each * group.width, ratios, divisor)
    return tuple(sorted({max(1, width // each) for width in channels}))
