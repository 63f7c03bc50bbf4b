"""Residual streams: what the shortcut of a block hands on (docs/method.md 4).

`PaperStreams` and `DerivedStreams` have the same methods. In the paper's supernet an identity hands
on every channel of its input, whatever the block's width, so a narrow block output costs nothing.
The derived network has a projection wherever a block's two widths differ: with `DerivedStreams` the
supernet has it too.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tas_tf.spaces.families import BlockLayers
from tas_tf.spaces.search_space import SearchSpace


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """What the shortcut of a block may be; where it may be both, the draw decides.

    Args:
        identity: Whether it may hand on its input as it is.
        projection: Whether it may be a projection.
    """

    identity: bool
    projection: bool

    @property
    def is_drawn(self) -> bool:
        """Whether the draw decides which of the two it is."""
        return self.identity and self.projection


@dataclasses.dataclass(frozen=True)
class Entry:
    """A unit whose output a block may read.

    Args:
        unit: Its number.
        depth: Where the weight of this case stands in the flat depth weights (stages * depths);
            None where there is no other case.
    """

    unit: int
    depth: int | None = None


@dataclasses.dataclass(frozen=True)
class Place:
    """A block in its network.

    Args:
        layers: Where its layers stand.
        entries: The units whose outputs it may read: several where the stage before may end early.
        end: Its last unit.
    """

    layers: BlockLayers
    entries: tuple[Entry, ...]
    end: int


def block_places(space: SearchSpace) -> list[Place]:
    """Returns the blocks of a space, in order."""
    most = max(map(len, space.depths))
    places = []
    entries: tuple[Entry, ...] = (Entry(0),)
    for s, (stage, units) in enumerate(zip(space.outline.stages, space.block_units, strict=True)):
        for layers, of_block in zip(stage, units, strict=True):
            places.append(Place(layers, entries, of_block[-1]))
            entries = (Entry(of_block[-1]),)
        if len(space.depths[s]) > 1:
            entries = tuple(
                Entry(units[depth - 1][-1], s * most + d) for d, depth in enumerate(space.depths[s])
            )
    return places


class PaperStreams:
    """An identity hands on all channels; a projection stands where the unpruned network has one."""

    name = "paper"
    # Whether widths never fall along identities, so that their maps have equally many channels.
    joined = True

    def __init__(self, space: SearchSpace):
        self._space = space
        self._places = block_places(space)

    def shortcuts(self) -> list[Shortcut]:
        """Returns what the shortcut of every block may be."""
        shortcuts = []
        for place in self._places:
            channels = (
                self._candidates(place.entries[0].unit)[-1],
                self._candidates(place.end)[-1],
            )
            needed = place.layers.needs_projection(*channels)
            shortcuts.append(Shortcut(identity=not needed, projection=needed))
        return shortcuts

    def identity_shares(
        self, widths: tf.Tensor, weights: tf.Tensor, depth_weights: tf.Tensor
    ) -> tf.Tensor | None:
        """Returns the shares (blocks, k) of identity in the drawn candidates of each block's end.

        They are zero where the draw does not decide (`Shortcut.is_drawn`); None if it never does.

        Args:
            widths: (units, k) int32, drawn widths.
            weights: (units, k), their weights.
            depth_weights: (stages, max depths), weights of the depths.
        """
        del widths, weights, depth_weights
        return None

    def _candidates(self, unit: int) -> tuple[int, ...]:
        return self._space.unit_candidates(unit)


class DerivedStreams(PaperStreams):
    """An identity where a block's two widths agree, a projection elsewhere, as in what is built."""

    name = "derived"
    joined = False

    def shortcuts(self) -> list[Shortcut]:
        """See `PaperStreams.shortcuts`."""
        return [self._shortcut(place) for place in self._places]

    def _shortcut(self, place: Place) -> Shortcut:
        if place.layers.projection.stride != 1:
            return Shortcut(identity=False, projection=True)
        choices = self._space.unit_choices
        if {choices[entry.unit] for entry in place.entries} == {choices[place.end]}:
            return Shortcut(identity=True, projection=False)  # tied widths are one draw
        before = {width for entry in place.entries for width in self._candidates(entry.unit)}
        after = set(self._candidates(place.end))
        return Shortcut(identity=bool(before & after), projection=len(before | after) > 1)

    def identity_shares(
        self, widths: tf.Tensor, weights: tf.Tensor, depth_weights: tf.Tensor
    ) -> tf.Tensor | None:
        """See `PaperStreams.identity_shares`.

        `s_j = sum_i p_i [c_i = c_j]`: the weight of the input's widths that agree with the j-th
        drawn one of the output. Where the stage before may end early, that is the mean over its
        depths.
        """
        cases = [
            (b, entry)
            for b, (place, shortcut) in enumerate(zip(self._places, self.shortcuts(), strict=True))
            for entry in place.entries
            if shortcut.is_drawn
        ]
        if not cases:
            return None
        before = tf.constant([entry.unit for _, entry in cases])
        after = tf.constant([self._places[b].end for b, _ in cases])
        agree = tf.gather(widths, before)[:, :, None] == tf.gather(widths, after)[:, None, :]
        shares = tf.reduce_sum(tf.where(agree, tf.gather(weights, before)[:, :, None], 0), axis=1)
        if any(entry.depth is not None for _, entry in cases):
            factors = tf.concat(
                [tf.ones([1], depth_weights.dtype), tf.reshape(depth_weights, [-1])], 0
            )
            numbers = [0 if entry.depth is None else entry.depth + 1 for _, entry in cases]
            shares *= tf.gather(tf.cast(factors, shares.dtype), tf.constant(numbers))[:, None]
        blocks = tf.constant([b for b, _ in cases])
        return tf.math.unsorted_segment_sum(shares, blocks, len(self._places))


STREAMS = {kind.name: kind for kind in (PaperStreams, DerivedStreams)}
