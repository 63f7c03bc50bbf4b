"""The expected cost of a space, as a function of its candidates' probabilities (docs/method.md 5).

By linearity the expectation is a sum over the positions where a layer may be built: the probability
that it is built there, times `sum_ij p_i T_ij p_j`, with `T` the table of that layer's costs at
every pair of candidates. It is exact, since widths and depths are drawn independently.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tas_tf.spaces.cost import CostKind, kind_of
from tas_tf.spaces.families import BlockLayers, Layer
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace

# Sharpness of the log-sum-exp bound of a peak, per cost of the unpruned network: the bound of one
# architecture lies above its peak by at most log(number of places) / SHARPNESS of that cost.
SHARPNESS = 200.0


@dataclasses.dataclass(frozen=True)
class Formula:
    """Which projections are counted, and from where a stage gets its input.

    Args:
        cut_stages: Whether a stage's input is the output of the last block that is kept; otherwise
            that of the last block, cut or not.
        unpruned_projections: Whether every projection of the unpruned network is counted.
        new_projections: Whether projections are counted that stand because two widths differ.
    """

    cut_stages: bool
    unpruned_projections: bool
    new_projections: bool


# What is built; and the published code's expectation and its estimate, for comparison only.
FORMULAS = {
    "built": Formula(cut_stages=True, unpruned_projections=False, new_projections=True),
    "published_expected": Formula(False, unpruned_projections=True, new_projections=False),
    "published_estimate": Formula(False, unpruned_projections=True, new_projections=True),
}


@dataclasses.dataclass(frozen=True)
class Place:
    """A place where a layer may stand.

    Args:
        layer: The layer.
        source: Choice of its input width; None where that is fixed.
        target: Choice of its output width; None where that is fixed.
        entry: Choice of the width of its block's input.
        built_between: Whether it is built there between two widths.
        stage: Stage whose depth decides whether it is built; None if it always is.
        depths: Indices of that stage's depth candidates with which it is built.
    """

    layer: Layer
    source: int | None
    target: int | None
    entry: int | None
    built_between: Callable[[int, int], bool]
    stage: int | None
    depths: tuple[int, ...]


# A stage, and its depths with which something is built; None where it always is.
_Built = tuple[int | None, tuple[int, ...]]
# Choice of a stream's width -> when the stream has that width.
_Stream = dict[int, _Built]


def places(space: SearchSpace, formula: Formula) -> list[Place]:
    """Returns every place where a layer may stand: each layer once for each possible input."""
    outline, choice_of = space.outline, space.unit_choices
    stem = choice_of[0]
    all_places = [
        Place(
            layer=outline.stem,
            source=None,
            target=stem,
            entry=None,
            built_between=_always,
            stage=None,
            depths=(),
        )
    ]
    stream: _Stream = {stem: (None, ())}
    for s, stage in enumerate(outline.stages):
        for b, layers in enumerate(stage):
            units = space.block_units[s][b]
            if b > 0:
                kept = tuple(d for d, depth in enumerate(space.depths[s]) if depth > b)
                stream = {choice_of[space.block_units[s][b - 1][-1]]: (s, kept)}
            for entry, built in stream.items():
                choices = [entry, *(choice_of[unit] for unit in units)]
                needed = _needs_projection(space, s, b, formula)
                all_places += _block_places(layers, choices, needed, built)
        stream = _stage_outputs(space, s, formula)
    for source, built in stream.items():
        all_places.append(Place(outline.classifier, source, None, source, _always, *built))
    return all_places


def _block_places(
    layers: BlockLayers,
    choices: Sequence[int],
    needs_projection: Callable[[int, int], bool],
    built: _Built,
) -> list[Place]:
    entry = choices[0]
    units = [
        Place(layer, source, target, entry, _always, *built)
        for layer, source, target in zip(layers.units, choices, choices[1:], strict=False)
    ]
    end = choices[-1]
    return [*units, Place(layers.projection, entry, end, entry, needs_projection, *built)]


def _needs_projection(
    space: SearchSpace, stage: int, block: int, formula: Formula
) -> Callable[[int, int], bool]:
    """Returns whether the block's projection is counted between two widths."""
    layers = space.outline.stages[stage][block]
    units = space.block_units
    before = units[stage][block - 1][-1] if block else units[stage - 1][-1][-1] if stage else 0
    unpruned = layers.needs_projection(
        space.unit_candidates(before)[-1], space.unit_candidates(units[stage][block][-1])[-1]
    )
    if unpruned and formula.unpruned_projections:
        return _always
    return layers.needs_projection if formula.new_projections else _never


def _stage_outputs(space: SearchSpace, stage: int, formula: Formula) -> _Stream:
    depths = space.depths[stage]
    if not formula.cut_stages:
        return {space.unit_choices[space.block_units[stage][-1][-1]]: (None, ())}
    outputs: dict[int, tuple[int, ...]] = {}
    for d, depth in enumerate(depths):
        choice = space.unit_choices[space.block_units[stage][depth - 1][-1]]
        outputs[choice] = (*outputs.get(choice, ()), d)
    return {choice: (stage, built) for choice, built in outputs.items()}


def _always(in_channels: int, out_channels: int) -> bool:
    return True


def _never(in_channels: int, out_channels: int) -> bool:
    return False


class CostModel:
    """The expected cost of a space.

    Constants are built once; a call is a handful of batched operations, whatever the number of
    units, on NumPy arrays and TensorFlow tensors alike.

    Args:
        space: The search space.
        kind: The kind of cost, or the name of one of `cost.KINDS`.
        formula: One of `FORMULAS`.
    """

    def __init__(self, space: SearchSpace, kind: str | CostKind = "macs", formula: str = "built"):
        self.space = space
        self.kind = kind_of(kind)
        of_space = places(space, FORMULAS[formula])
        self._scale = 1.0
        if self.kind.peak:
            largest = [self.kind.layer(*placed) for placed in space.unpruned().layers()]
            self._scale = SHARPNESS / max(largest)
        self._choices, self._size = len(space.choices), max_candidates(space)
        self._tables = np.stack([self._table(place) for place in of_space])
        slots = [self._slots(place) for place in of_space]
        self._entries, self._sources, self._targets = (
            self._selector(column) for column in zip(*slots, strict=True)
        )
        self._built = np.zeros((len(of_space), len(space.depths), max_depths(space)))
        self._always = np.array([float(place.stage is None) for place in of_space])
        for row, place in enumerate(of_space):
            if place.stage is not None:
                self._built[row, place.stage, list(place.depths)] = 1

    def expected(
        self,
        width_probabilities: Any,
        depth_probabilities: Any,
        log: Callable[[Any], Any] = np.log,
        total: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Returns the expectation of the built network's cost (docs/method.md 5).

        For sums it is exact: `sum_e P(e is built) * p_in^T T_e p_out`, at one-hot probabilities
        the exact cost. For a peak it is the log-sum-exp bound
        `E max_e X_e <= (1/b) log sum_e P(e is built) E exp(b X_e)`; with one-hot probabilities and
        a maximum as `total` it is the exact peak.

        Args:
            width_probabilities: (choices, max candidates) float64, zeros where absent.
            depth_probabilities: (stages, max depths) float64, likewise.
            log: Logarithm of that kind of array; only a peak needs it.
            total: Maximum of that kind of array, in place of the sum.
        """
        sources = self._selected(self._sources, width_probabilities)
        targets = self._selected(self._targets, width_probabilities)
        entries = self._selected(self._entries, width_probabilities)
        # (places, entries, 1, 1) by products with a row and a column for each place.
        pairs = sources[:, None, None, :] @ self._tables @ targets[:, None, :, None]
        values = (entries[:, None, : self._tables.shape[1]] @ pairs[:, :, :, 0])[:, 0, 0]
        built = self._always
        for stage in range(len(self.space.depths)):
            built = built + (self._built[:, stage] @ depth_probabilities[stage][:, None])[:, 0]
        result = total(built * values) if total else (built[None] @ values[:, None])[0, 0]
        return log(result) / self._scale if self.kind.peak else result

    def _slots(self, place: Place) -> tuple[int | None, int | None, int | None]:
        """Returns the choices of entry, source and target that are independent of each other.

        Tied widths are one draw: the second place of a choice is None, as a fixed width is.
        """
        source, target = place.source, place.target
        entry = place.entry if self.kind.peak and place.entry not in (source, target) else None
        return entry, source, target if target != source else None

    def _table(self, place: Place) -> np.ndarray:
        """Returns (entries, sources, targets): costs, or their exponentials for a peak."""
        table = np.zeros((self._size if self.kind.peak else 1, self._size, self._size))
        fixed = (0, self.space.input_shape[2], self.space.num_classes)
        slots = [self._candidates(slot) for slot in self._slots(place)]
        for picks in itertools.product(*(range(len(widths)) for widths in slots)):
            drawn = {
                choice: widths[k]
                for choice, widths, k in zip(self._slots(place), slots, picks, strict=True)
            }
            entry, source, target = (
                width if choice is None else drawn[choice]
                for choice, width in zip(
                    (self._entry(place), place.source, place.target), fixed, strict=True
                )
            )
            if place.built_between(source, target):
                value = self.kind.layer(place.layer, source, target, entry)
                table[picks] = np.exp(self._scale * value) if self.kind.peak else value
        return table

    def _entry(self, place: Place) -> int | None:
        return place.entry if self.kind.peak else None

    def _candidates(self, choice: int | None) -> tuple[int, ...]:
        return (0,) if choice is None else self.space.choices[choice].candidates

    def _selector(self, choices: Sequence[int | None]) -> np.ndarray:
        """Returns (places, choices + 1): which choice a slot takes; the last stands for none."""
        rows = np.zeros((len(choices), self._choices + 1))
        columns = [self._choices if choice is None else choice for choice in choices]
        rows[np.arange(len(choices)), columns] = 1
        return rows

    def _selected(self, selector: np.ndarray, probabilities: Any) -> Any:
        """Returns (places, candidates), one-hot at 0 where a width is not drawn."""
        fixed = selector[:, -1:] * np.eye(1, self._size)
        return selector[:, :-1] @ probabilities + fixed


def max_candidates(space: SearchSpace | ModelSpace) -> int:
    """The largest number of candidate widths of any unit."""
    return max(len(choice.candidates) for choice in space.choices)


def max_depths(space: SearchSpace | ModelSpace) -> int:
    """The largest number of candidate depths of any stage."""
    return max((len(depths) for depths in space.depths), default=1)


def table_shapes(space: SearchSpace | ModelSpace) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the shapes of tables of all widths (choices, n) and of all depths (stages, m)."""
    widths, depths = len(space.choices), len(space.depths)
    return (widths, max_candidates(space)), (depths, max_depths(space))
