"""SearchSpace: the networks among which a search chooses, by candidate widths and depths."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Sequence
from typing import Any, cast

from tas_tf.errors import ArchitectureError, SpecError
from tas_tf.spaces import families
from tas_tf.spaces.architecture import MAX_BLOCKS, Architecture
from tas_tf.spaces.choices import (
    DEFAULT_RATIOS,
    ChoiceBuilder,
    WidthChoice,
    index_of,
    stage_depths_of,
)

SEARCH_MODES = ("shape", "width", "depth")


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Candidate widths of every unit and candidate depths of every stage.

    Args:
        family: Name of the family.
        block: Name of the block.
        input_shape: (height, width, channels) of the images.
        num_classes: Number of classes.
        choices: The width choices, one logits vector each.
        unit_choices: For every unit the index of its choice: the stem first, then block by block.
            Tied units share one choice.
        depths: For every stage its candidate depths, ascending; the last is the whole stage.
    """

    family: str
    block: str
    input_shape: tuple[int, int, int]
    num_classes: int
    choices: tuple[WidthChoice, ...]
    unit_choices: tuple[int, ...]
    depths: tuple[tuple[int, ...], ...]

    @classmethod
    def resnet(
        cls,
        depth: int,
        num_classes: int = 10,
        input_shape: Sequence[int] | None = None,
        family: str = "cifar_resnet",
        block: str | None = None,
        ratios: Sequence[float] = DEFAULT_RATIOS,
        width_divisor: int = 1,
        search: str = "shape",
        depths: Sequence[Sequence[int]] | None = None,
        frozen: Sequence[str] = (),
        tie_streams: bool = False,
    ) -> SearchSpace:
        """Returns the search space of a ResNet (docs/method.md 1).

        Args:
            depth: Layers of the unpruned network, such as 20 or 50.
            num_classes: Number of classes.
            input_shape: (height, width, channels) of the images; by default the family's.
            family: `cifar_resnet` or `imagenet_resnet`.
            block: `basic` or `bottleneck`; by default the usual one of that depth.
            ratios: Candidate widths as shares of the unpruned width, in (0, 1]. Candidates are the
                distinct `int(C * r)`.
            width_divisor: Candidates are rounded to the nearest multiple of it (at least one, at
                most the unpruned width).
            search: `width`, `depth` or `shape` (both). What is not searched stays whole.
            depths: Candidate depths of every stage, in place of the family's rule.
            frozen: What is not searched: `stem`, `stage2`, `stage2_block1` or
                `stage2_block1_conv1`. A frozen stage keeps widths and depth.
            tie_streams: Whether the blocks' outputs along a stage's residual stream share one
                width (and the stem's, where it has the stage's width).

        Raises:
            SpecError: If an argument does not fit; it names the argument and the value.
        """
        _check_arguments(family, search, ratios, width_divisor)
        family_data = families.FAMILIES[family]
        block_data, counts = families.resnet_blocks(depth, family_data, block)
        if sum(counts) > MAX_BLOCKS:
            raise SpecError(f"depth: a network has at most {MAX_BLOCKS} blocks. Received: {depth}")
        builder = ChoiceBuilder(ratios if search != "depth" else (1.0,), width_divisor, frozen)
        unit_choices = builder.units(family_data, block_data, counts, tie_streams)
        stage_depths = stage_depths_of(family_data, counts, depths, search, builder)
        builder.check_frozen()
        space = cls(
            family=family,
            block=block_data.name,
            # Whether it has three sides is checked below.
            input_shape=cast(tuple[int, int, int], tuple(input_shape or family_data.input_shape)),
            num_classes=num_classes,
            choices=tuple(builder.choices),
            unit_choices=tuple(unit_choices),
            depths=stage_depths,
        )
        try:
            space.unpruned()
        except ArchitectureError as error:
            raise SpecError(str(error)) from None
        return space

    @staticmethod
    def from_model(model: Any, **options: Any) -> Any:
        """Returns the search space of any Keras model, a `ModelSpace`.

        Args:
            model: A functional or Sequential model.
            options: Ratios, a divisor and more: see `models.model_spaces.space_of`.
        """
        # Reading needs Keras, which nothing here loads by itself.
        spaces = importlib.import_module("tas_tf.models.model_spaces")
        return spaces.space_of(model, **options)

    @property
    def blocks_per_stage(self) -> tuple[int, ...]:
        """Blocks of every stage of the unpruned network."""
        return tuple(depths[-1] for depths in self.depths)

    @functools.cached_property
    def outline(self) -> families.Outline:
        """Where every layer of the unpruned network stands."""
        return families.outline(
            families.FAMILIES[self.family],
            families.BLOCKS[self.block],
            self.blocks_per_stage,
            self.input_shape,
        )

    @functools.cached_property
    def block_units(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """For every stage and block the indices of its units; the stem is unit 0."""
        size = len(families.BLOCKS[self.block].units)
        first = 1
        stages = []
        for count in self.blocks_per_stage:
            stages.append(
                tuple(tuple(range(first + size * b, first + size * (b + 1))) for b in range(count))
            )
            first += size * count
        return tuple(stages)

    @property
    def depth_names(self) -> tuple[str, ...]:
        """What each of the depths is called: the stages."""
        return tuple(f"stage{s + 1}" for s in range(len(self.depths)))

    @functools.cached_property
    def places(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For every choice where its units stand, as (stage, first depth that has them).

        It falls away where every stage is less deep, by the indices of depths; without a place it
        always stands.
        """
        found: list[set[tuple[int, int]]] = [set() for _ in self.choices]
        for s, (depths, blocks) in enumerate(zip(self.depths, self.block_units, strict=True)):
            for b, units in enumerate(blocks):
                first = next(d for d, depth in enumerate(depths) if depth > b)
                for unit in units:
                    found[self.unit_choices[unit]].add((s, first))
        found[self.unit_choices[0]] = set()
        return tuple(tuple(sorted(places)) for places in found)

    def unit_candidates(self, unit: int) -> tuple[int, ...]:
        """Candidate widths of a unit, ascending."""
        return self.choices[self.unit_choices[unit]].candidates

    def architecture(
        self, width_indices: Sequence[int], depth_indices: Sequence[int], name: str | None = None
    ) -> Architecture:
        """Returns the architecture of one candidate per choice and per stage.

        Args:
            width_indices: For every width choice the index of its candidate.
            depth_indices: For every stage the index of its depth.
            name: A name for people.
        """

        def width(unit: int) -> int:
            choice = self.unit_choices[unit]
            return self.choices[choice].candidates[width_indices[choice]]

        stages = tuple(
            tuple(tuple(width(unit) for unit in units) for units in stage[: depths[index]])
            for stage, depths, index in zip(
                self.block_units, self.depths, depth_indices, strict=True
            )
        )
        return Architecture(
            family=self.family,
            block=self.block,
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            stem_width=width(0),
            stages=stages,
            name=name,
        )

    def indices(self, architecture: Architecture) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the candidates that make an architecture, as `architecture` takes them.

        Args:
            architecture: An architecture of the space. Choices of cut units alone are at their
                smallest width.

        Raises:
            ArchitectureError: If a width or a depth is no candidate.
        """
        width_indices = [0] * len(self.choices)
        widths = {0: architecture.stem_width}
        for units, stage in zip(self.block_units, architecture.stages, strict=True):
            for block_units, block_widths in zip(units, stage, strict=False):
                widths.update(zip(block_units, block_widths, strict=True))
        for unit, width in widths.items():
            choice = self.unit_choices[unit]
            candidates = self.choices[choice].candidates
            width_indices[choice] = index_of(self.choices[choice].name, width, candidates)
        depth_indices = [
            index_of(name, len(stage), depths)
            for name, stage, depths in zip(
                self.depth_names, architecture.stages, self.depths, strict=True
            )
        ]
        return tuple(width_indices), tuple(depth_indices)

    def stream_shares(self, architecture: Architecture) -> list[float]:
        """Returns which share of its width the residual stream keeps, block by block.

        The stem counts too where the first stream begins with it, at a width of its own.
        """
        whole = self.unpruned()
        kept = [block[-1] for stage in architecture.stages for block in stage]
        of_whole = [
            block[-1]
            for stage, depth in zip(whole.stages, map(len, architecture.stages), strict=True)
            for block in stage[:depth]
        ]
        tied = self.unit_choices[0] == self.unit_choices[self.block_units[0][0][-1]]
        if whole.stem_width == of_whole[0] and not tied:
            kept, of_whole = [architecture.stem_width, *kept], [whole.stem_width, *of_whole]
        return [width / of for width, of in zip(kept, of_whole, strict=True)]

    def record(self) -> dict[str, Any]:
        """Returns what a run records of it, plain data."""
        return dataclasses.asdict(self)

    def unpruned(self) -> Architecture:
        """Returns the unpruned network's architecture, whether its widths are candidates or not."""
        return unpruned(
            self.family, self.block, self.blocks_per_stage, self.input_shape, self.num_classes
        )


def unpruned(
    family: str,
    block: str,
    blocks_per_stage: Sequence[int],
    input_shape: tuple[int, int, int],
    num_classes: int,
) -> Architecture:
    """Returns the architecture of an unpruned network.

    Args:
        family: Name of the family.
        block: Name of the block.
        blocks_per_stage: Number of blocks of every stage.
        input_shape: (height, width, channels) of the images.
        num_classes: Number of classes.
    """
    data, units = families.FAMILIES[family], families.BLOCKS[block].units
    stages = tuple(
        (tuple(base * unit.widening for unit in units),) * count
        for base, count in zip(data.base_widths, blocks_per_stage, strict=True)
    )
    return Architecture(
        family=family,
        block=block,
        input_shape=input_shape,
        num_classes=num_classes,
        stem_width=data.stem_width,
        stages=stages,
    )


def _check_arguments(family: str, search: str, ratios: Sequence[float], width_divisor: int) -> None:
    """Refuses arguments of `SearchSpace.resnet` that make no sense by themselves."""
    if family not in families.FAMILIES:
        raise SpecError(f"family: expected one of {list(families.FAMILIES)}. Received: {family}")
    if search not in SEARCH_MODES:
        raise SpecError(f"search: expected one of {list(SEARCH_MODES)}. Received: {search!r}")
    if not ratios or any(not 0 < ratio <= 1 for ratio in ratios):
        raise SpecError(f"ratios: expected numbers in (0, 1]. Received: {ratios}")
    if width_divisor < 1:
        raise SpecError(f"width_divisor: expected at least 1. Received: {width_divisor}")
