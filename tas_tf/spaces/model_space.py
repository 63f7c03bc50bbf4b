"""The search space of a model that was read: a width for every group of its channels."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tas_tf import json_schema
from tas_tf.errors import ArchitectureError, SpecError
from tas_tf.json_schema import brief
from tas_tf.spaces.branches import ADDITIONS, Branch
from tas_tf.spaces.channels import Form, Group
from tas_tf.spaces.choices import DEFAULT_RATIOS, WidthChoice, candidate_widths, index_of
from tas_tf.spaces.graph import Graph

SCHEMA_VERSION = 2  # 1 is that of `architecture.Architecture`
_REQUIRED = ("schema_version", "model", "fingerprint", "widths")
_OPTIONAL = ("name", "cost", "provenance", "left_out")


@dataclasses.dataclass(frozen=True, eq=False)
class ModelSpace:
    """The networks that a model becomes when it keeps only some of its channels.

    Args:
        graph: The model, read.
        choices: For every group of channels its candidate widths, one logits vector each.
        model: The model itself, from which networks are built.
        branches: The residual branches that may be left out.
    """

    graph: Graph
    choices: tuple[WidthChoice, ...]
    model: Any = dataclasses.field(repr=False)
    branches: tuple[Branch, ...] = ()

    @classmethod
    def of(
        cls,
        graph: Graph,
        model: Any,
        ratios: Sequence[float] = DEFAULT_RATIOS,
        width_divisor: int = 1,
        frozen: Sequence[str] = (),
        leave_out_branches: bool = False,
    ) -> ModelSpace:
        """Returns the space of a graph.

        Args:
            graph: The graph.
            model: The model that it was read from.
            ratios: Candidate widths as shares of the unpruned width, in (0, 1].
            width_divisor: Candidates have a number of channels that is the nearest multiple of it.
            frozen: Paths of layers whose channels are not searched, nor those tied to them.
            leave_out_branches: Whether residual branches may be left out.

        Raises:
            SpecError: If an argument makes no sense, or nothing is left to search.
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
        branches = graph.branches if leave_out_branches else ()
        if all(len(choice.candidates) == 1 for choice in choices) and not branches:
            raise SpecError(
                f"{graph.name}: expected a model that has channels to search. All are kept: "
                + "; ".join(f"{path}: {reason}" for path, reason in [*graph.frozen.items()][:5])
            )
        return cls(graph, tuple(choices), model, branches)

    @property
    def depths(self) -> tuple[tuple[int, ...], ...]:
        """Candidate depths: for every branch 0, left out, and 1."""
        return ((0, 1),) * len(self.branches)

    @property
    def depth_names(self) -> tuple[str, ...]:
        """What each of the depths is called: the additions of the branches."""
        return tuple(branch.name for branch in self.branches)

    @functools.cached_property
    def places(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For every choice the branch without which it falls away; see `SearchSpace.places`."""
        of_group = self.graph.branch_of_group
        return tuple(
            ((self.depth_names.index(of_group[choice.name]), 1),)
            if of_group.get(choice.name) in self.depth_names
            else ()
            for choice in self.choices
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input, without the batch."""
        return self.graph.input_shapes[0]

    @property
    def num_classes(self) -> int:
        """Length of the first output."""
        return self.graph.output_shapes[0][-1]

    def architecture(
        self,
        width_indices: Sequence[int],
        depth_indices: Sequence[int] = (),
        name: str | None = None,
    ) -> ModelArchitecture:
        """Returns the architecture of one candidate per choice.

        Args:
            width_indices: For every choice the index of its candidate.
            depth_indices: For every branch 0, if it is left out, or 1.
            name: A name for people.
        """
        widths = {
            choice.name: choice.candidates[index]
            for choice, index in zip(self.choices, width_indices, strict=True)
        }
        kept = zip(self.branches, depth_indices, strict=True)
        left_out = tuple(branch.name for branch, index in kept if index == 0)
        return ModelArchitecture(self, widths, name, left_out)

    def indices(self, architecture: ModelArchitecture) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the candidates that make an architecture, as `architecture` takes them.

        Choices of branches that are left out are at their smallest width.

        Raises:
            ArchitectureError: If a width is no candidate, or a branch that is left out none.
        """
        widths, left_out = architecture.widths, architecture.left_out
        found = [
            index_of(c.name, widths[c.name], c.candidates) if c.name in widths else 0
            for c in self.choices
        ]
        for name in left_out:
            if name not in self.depth_names:
                raise ArchitectureError(f"{name}: expected no branch to be left out")
        return tuple(found), tuple(int(name not in left_out) for name in self.depth_names)

    def searched(
        self, candidates: Mapping[str, tuple[int, ...]], branches: Sequence[str] = ()
    ) -> ModelSpace:
        """Returns the space of the same model with other candidates.

        Args:
            candidates: For every group by its name, ascending.
            branches: The names of the branches that may be left out.

        Raises:
            ArchitectureError: If they are not of its groups.
        """
        if [*candidates] != [choice.name for choice in self.choices]:
            raise ArchitectureError("the candidates are of other groups of channels")
        for of_choice in zip(*candidates.values(), strict=False):
            self.graph.partition.checked(dict(zip(candidates, of_choice, strict=True)))
        choices = tuple(WidthChoice(name, widths) for name, widths in candidates.items())
        known = {branch.name: branch for branch in self.graph.branches}
        if not known.keys() >= {*branches}:
            raise ArchitectureError("the branches are not of this model")
        return dataclasses.replace(
            self, choices=choices, branches=tuple(known[name] for name in branches)
        )

    def stream_shares(self, architecture: ModelArchitecture) -> list[float]:
        """Returns which share of its channels every tensor of the residual streams keeps.

        That is what an addition gives, and with untied additions what the first of them reads.
        """
        widths = {**self.graph.partition.widths, **architecture.widths}
        return [
            form.at(widths) / size
            for path, form, size in self._streams
            if path not in architecture.left_out
        ]

    @functools.cached_property
    def _streams(self) -> list[tuple[str, Form, int]]:
        """For every addition its path, and its channels as a function of widths and in whole.

        Where a stream begins that is projected there is no path: it is never left out.
        """
        partition = self.graph.partition
        given = [
            (call.path, partition.form(call.outputs[0]), call.outputs[0].size)
            for call in self.graph.calls
            if call.kind in ADDITIONS
        ]
        by_additions = {group for _, form, _ in given for group in form.multiples}
        read = {group for group, _ in self.graph.projections.values()}
        begun = sorted(read - by_additions)
        return [*given, *(("", Form(0, {name: 1}), partition.widths[name]) for name in begun)]

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
            "branches": self.depth_names,
        }

    def summary(self) -> str:
        """Returns what is searched, what is tied, what is kept and why, as lines of text."""
        graph = self.graph
        macs, parameters = graph.cost(), graph.cost(kind="parameters")
        searched = sum(len(choice.candidates) > 1 for choice in self.choices)
        count = f"{searched} widths" + f", {len(self.branches)} branches" * bool(self.branches)
        lines = [f"{graph.name}: {macs:,} MACs, {parameters:,} parameters; {count}"]
        for choice, group in zip(self.choices, graph.groups, strict=True):
            candidates = ", ".join(map(str, choice.candidates))
            lines.append(f"  {choice.name}: {candidates}")
            if group.owners[1:]:
                lines.append(f"    tied: {', '.join(group.owners[1:])}")
        if self.branches:
            lines.append("May be left out, what is added at:")
            lines += [f"  {name}" for name in self.depth_names]
        if graph.projections:
            lines.append("Projected, where the widths at both sides differ:")
            lines += [f"  {graph.calls[place].config['addition']}" for place in graph.projections]
        if graph.frozen:
            lines.append("Kept whole:")
            lines += [f"  {path}: {reason}" for path, reason in graph.frozen.items()]
        if graph.uncounted:
            lines.append(f"Multiplications not counted: {', '.join(graph.uncounted)}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class ModelArchitecture:
    """A network that keeps some channels of a model, and some of its residual branches.

    Args:
        space: The space of the model.
        widths: For every group of channels how many classes of it are kept; of groups that are
            left out with a branch none is said.
        name: A name for people.
        left_out: The names of the branches that are left out.
        cost: Costs of the network, for people: kind to number.
        provenance: Where it came from, for people: any JSON object.

    Raises:
        ArchitectureError: If there is no such group or branch, or it does not have that width.
    """

    space: ModelSpace = dataclasses.field(compare=False, repr=False)
    widths: Mapping[str, int]
    name: str | None = None
    left_out: tuple[str, ...] = ()
    cost: Mapping[str, Any] | None = dataclasses.field(default=None, compare=False)
    provenance: Mapping[str, Any] | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        graph = self.space.graph
        for name in self.left_out:
            if name not in [branch.name for branch in graph.branches]:
                raise ArchitectureError(
                    f"left_out: expected additions of residual branches of {graph.name}. "
                    f"Received: {brief(name)}"
                )
        object.__setattr__(self, "left_out", tuple(sorted({*self.left_out})))
        checked = graph.partition.checked(self.widths)
        of_group = graph.branch_of_group
        kept = {g: n for g, n in checked.items() if of_group.get(g) not in self.left_out}
        object.__setattr__(self, "widths", kept)

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
            "left_out": [*self.left_out] or None,
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
            known = {key: fields[key] for key in keys if key in fields}
            return cls(space, **{**known, "left_out": tuple(fields.get("left_out", ()))})
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
    left_out = fields.get("left_out", [])
    if not isinstance(left_out, list) or any(type(name) is not str for name in left_out):
        raise ArchitectureError(f"left_out: expected a list of names. Received: {brief(left_out)}")


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
