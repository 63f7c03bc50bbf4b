"""Choices: what of a network is decided, each with its candidates; and how a ResNet gets them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tas_tf.errors import ArchitectureError, SpecError
from tas_tf.spaces import families

DEFAULT_RATIOS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclasses.dataclass(frozen=True)
class WidthChoice:
    """A width that is searched: candidates in ascending order; several units may share one."""

    name: str
    candidates: tuple[int, ...]


def index_of(name: str, value: int, candidates: tuple[int, ...]) -> int:
    """Returns the index of a candidate.

    Raises:
        ArchitectureError: If it is none.
    """
    if value not in candidates:
        raise ArchitectureError(f"{name}: expected one of {list(candidates)}. Received: {value}")
    return candidates.index(value)


def candidate_widths(width: int, ratios: Sequence[float], divisor: int = 1) -> tuple[int, ...]:
    """Returns the sorted, distinct candidate widths `int(width * r)` of a unit.

    Args:
        width: Output channels of the unpruned unit.
        ratios: Shares of it, in (0, 1].
        divisor: Candidates are rounded to the nearest multiple, at least one multiple and at most
            the unpruned width.
    """
    # A width such as 10 * 0.7 = 7.000000000000001 or 6.999...: int() of the product, as published.
    widths = {max(1, int(width * ratio)) for ratio in ratios}
    if divisor > 1:
        widths = {min(width, max(1, round(w / divisor)) * divisor) for w in widths}
    return tuple(sorted(widths))


class ChoiceBuilder:
    """Collects width choices while walking over the units, and what of `frozen` was used."""

    def __init__(self, ratios: Sequence[float], divisor: int, frozen: Sequence[str]):
        self.ratios = ratios
        self.divisor = divisor
        self.frozen = frozenset(frozen)
        self.known: set[str] = set()
        self.choices: list[WidthChoice] = []

    def units(
        self,
        family: families.Family,
        block: families.Block,
        counts: Sequence[int],
        tie_streams: bool,
    ) -> list[int]:
        unit_choices = [self._add("stem", family.stem_width, ("stem",))]
        for s, count in enumerate(counts):
            base = family.base_widths[s]
            stream_width = base * block.units[-1].widening
            stream = None
            if tie_streams and s == 0 and family.stem_width == stream_width:
                stream = unit_choices[0]
            for b in range(count):
                scopes = (f"stage{s + 1}", f"stage{s + 1}_block{b + 1}")
                for unit in block.units:
                    name = f"{scopes[1]}_{unit.name}"
                    last = unit is block.units[-1]
                    if tie_streams and last and stream is not None:
                        self._share(stream, stream_width, (*scopes, name))
                        unit_choices.append(stream)
                        continue
                    unit_choices.append(self._add(name, base * unit.widening, (*scopes, name)))
                    if last:
                        stream = unit_choices[-1]
        return unit_choices

    def _add(self, name: str, width: int, scopes: tuple[str, ...]) -> int:
        self.known.update(scopes)
        frozen = self.frozen.intersection(scopes)
        candidates = (width,) if frozen else candidate_widths(width, self.ratios, self.divisor)
        self.choices.append(WidthChoice(name, candidates))
        return len(self.choices) - 1

    def _share(self, choice: int, width: int, scopes: tuple[str, ...]) -> None:
        # What several units share is frozen if one of them is.
        self.known.update(scopes)
        if self.frozen.intersection(scopes):
            self.choices[choice] = WidthChoice(self.choices[choice].name, (width,))

    def check_frozen(self) -> None:
        unknown = sorted(self.frozen - self.known)
        if unknown:
            raise SpecError(
                f"frozen: {unknown[0]!r} is no part of this network; parts are called stem, "
                "stage1, stage1_block1 or stage1_block1_conv1"
            )


def stage_depths_of(
    family: families.Family,
    counts: Sequence[int],
    depths: Sequence[Sequence[int]] | None,
    search: str,
    builder: ChoiceBuilder,
) -> tuple[tuple[int, ...], ...]:
    if depths is not None:
        candidates = [tuple(sorted(set(stage))) for stage in depths]
        if len(candidates) != len(counts) or any(
            not stage or stage[0] < 1 or stage[-1] != count
            for stage, count in zip(candidates, counts, strict=False)
        ):
            raise SpecError(
                f"depths: expected for each of the stages, which have {list(counts)} blocks, "
                f"a list of depths that ends with the whole. Received: {depths}"
            )
    elif family.proportional_depths:
        shallowest = min(counts)
        candidates = [
            tuple(count * j // shallowest for j in range(1, shallowest + 1)) for count in counts
        ]
    else:
        candidates = [tuple(sorted({*_odd_depths(count), count})) for count in counts]
    return tuple(
        (count,) if search == "width" or f"stage{s + 1}" in builder.frozen else stage
        for s, (stage, count) in enumerate(zip(candidates, counts, strict=True))
    )


def _odd_depths(count: int) -> range:
    """1, 3, 5, ... for long stages; every depth for stages of up to three blocks."""
    return range(1, count + 1) if count <= 3 else range(1, count + 1, 2)
