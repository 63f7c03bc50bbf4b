"""Ids of channels, of which some are tied, some frozen, and the rest falls into groups.

Every tensor of a network has an array of ids of its own rank, without the batch. The array has
length 1 along every axis but one, that of the channels: a map (height, width, C) has ids (1, 1, C),
and its flattened form has (height * width * C,), in which every id comes height * width times.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tas_tf.errors import ArchitectureError


def channel_axis(ids: np.ndarray) -> int | None:
    """Returns the axis along which a tensor has channels; None if it has a single one."""
    return next((axis for axis, length in enumerate(ids.shape) if length > 1), None)


class Channels:
    """The channels of a network while it is read."""

    def __init__(self) -> None:
        self._owners: list[str] = []
        self._ties: list[np.ndarray] = []
        self._frozen: list[tuple[np.ndarray, str]] = []

    def new(self, shape: Sequence[int], owner: str) -> np.ndarray:
        """Returns new ids for a tensor, whose last axis has the channels.

        Args:
            shape: Shape of the tensor, without the batch.
            owner: Path of the layer that makes the channels.
        """
        count = shape[-1] if shape else 1
        ids = np.arange(len(self._owners), len(self._owners) + count)
        self._owners += [owner] * count
        return ids.reshape((*[1] * (len(shape) - 1), count)[: len(shape)])

    def tie(self, a: np.ndarray, b: np.ndarray) -> None:
        """Has the channels of two arrays of ids kept or dropped together, one by one."""
        a, b = np.broadcast_arrays(a, b)
        self._ties.append(np.stack([a.ravel(), b.ravel()]))

    def freeze(self, ids: np.ndarray, reason: str) -> None:
        """Has channels always kept."""
        self._frozen.append((ids.ravel(), reason))

    def along_one_axis(self, ids: np.ndarray) -> np.ndarray:
        """Returns ids that have channels along one axis, for an array that gives every entry's id.

        Where entries differ along several axes, those of one index of the last such axis are tied.

        Args:
            ids: As many as the tensor has entries.
        """
        for axis, length in enumerate(ids.shape):
            first = ids.take([0], axis)
            if length > 1 and (ids == first).all():
                ids = first
        varying = [axis for axis, length in enumerate(ids.shape) if length > 1]
        for axis in varying[:-1]:
            first = ids.take([0], axis)
            self.tie(ids, first)
            ids = first
        return ids

    def mark(self) -> tuple[int, int, int]:
        """Returns a place to go back to."""
        return len(self._owners), len(self._ties), len(self._frozen)

    def go_back(self, mark: tuple[int, int, int]) -> None:
        """Forgets what was made, tied and frozen since a mark."""
        owners, ties, frozen = mark
        del self._owners[owners:], self._ties[ties:], self._frozen[frozen:]

    def partition(self, arrays: Iterable[np.ndarray]) -> Partition:
        """Returns the classes of tied channels, and the groups of classes.

        Args:
            arrays: The ids of every tensor, and of every axis of every weight.
        """
        labels = _components(len(self._owners), self._ties)
        _, class_of = np.unique(labels, return_inverse=True)
        reasons: dict[int, str] = {}
        for ids, reason in self._frozen:
            for c in np.unique(class_of[ids]).tolist():
                reasons.setdefault(c, reason)
        owners: dict[int, dict[str, None]] = collections.defaultdict(dict)
        for owner, c in zip(self._owners, class_of.tolist(), strict=True):
            owners[c][owner] = None
        frozen: dict[str, str] = {}
        groups: list[Group] = []
        names: collections.Counter[str] = collections.Counter()
        for classes in _alike(class_of, arrays, len(owners)):
            searched = [c for c in classes if c not in reasons]
            if len(searched) == 1:
                reasons[searched.pop()] = "its channels can only be kept together"
            for c in classes:
                for owner in owners[c] if c in reasons else ():
                    frozen.setdefault(owner, reasons[c])
            if searched:
                name, *_ = of_group = tuple(owners[searched[0]])
                names[name] += 1
                name = f"{name}:{names[name]}" if names[name] > 1 else name
                groups.append(Group(name, of_group, np.array(searched)))
        return Partition(tuple(self._owners), class_of, tuple(groups), frozen)


def _components(count: int, ties: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the smallest id that each id is tied to, by labels that fall along the ties."""
    labels = np.arange(count)
    edges = np.concatenate([np.zeros((2, 0), int), *ties], axis=1)
    edges = edges[:, edges[0] != edges[1]]
    while True:
        before = labels.copy()
        low = labels[edges].min(axis=0)
        for side in edges:
            np.minimum.at(labels, before[side], low)
            np.minimum.at(labels, side, low)
        labels = labels[labels]
        if (labels == before).all():
            return labels


def _alike(class_of: np.ndarray, arrays: Iterable[np.ndarray], count: int) -> list[list[int]]:
    """Returns sets of classes that every array has equally often, in the order of their ids."""
    kinds, fresh = np.zeros(count, int), 1
    for ids in {array.tobytes(): array for array in arrays}.values():
        classes, counts = np.unique(class_of[ids], return_counts=True)
        pairs = np.stack([kinds[classes], counts])
        _, inverse = np.unique(pairs, axis=1, return_inverse=True)
        kinds[classes] = fresh + inverse.ravel()
        fresh += count + 1
    found: dict[int, list[int]] = collections.defaultdict(list)
    for c, kind in enumerate(kinds.tolist()):
        found[kind].append(c)
    return list(found.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Channels whose number is one choice.

    Args:
        name: Path of the first layer that makes them; `:2` and so on for further groups of it.
        owners: Paths of all layers that make them.
        classes: The classes of tied channels (n,), one for each step of the width.
    """

    name: str
    owners: tuple[str, ...]
    classes: np.ndarray

    @property
    def width(self) -> int:
        """The number of classes, which is that of channels unless some are tied to each other."""
        return len(self.classes)


@dataclasses.dataclass(frozen=True)
class Form:
    """A number of channels as a function of widths: `constant + sum_g multiples[g] * width_g`."""

    constant: int
    multiples: Mapping[str, int]

    def at(self, widths: Mapping[str, int]) -> int:
        """Returns the number of channels at widths, by the names of groups."""
        return self.constant + sum(m * widths[name] for name, m in self.multiples.items())

    @classmethod
    def sum_of(cls, forms: Sequence[Form]) -> Form:
        """Returns the sum of several."""
        multiples: collections.Counter[str] = collections.Counter()
        for form in forms:
            multiples.update(form.multiples)
        return cls(sum(form.constant for form in forms), dict(multiples))


@dataclasses.dataclass(frozen=True, eq=False)
class Partition:
    """The channels of a network, read.

    Args:
        owners: For every id the path of the layer that made it.
        class_of: For every id its class (ids,).
        groups: The groups of channels that are searched.
        frozen: For layers whose channels are always kept, by their paths, the reason.
    """

    owners: tuple[str, ...]
    class_of: np.ndarray
    groups: tuple[Group, ...]
    frozen: Mapping[str, str]

    @functools.cached_property
    def widths(self) -> dict[str, int]:
        """The widths of the whole network."""
        return {group.name: group.width for group in self.groups}

    def checked(self, widths: Mapping[str, int]) -> dict[str, int]:
        """Returns a width for every group: the whole of it where none is given.

        Raises:
            ArchitectureError: If there is no such group, or it does not have that width.
        """
        for name, width in widths.items():
            self._check_name(name)
            if not 1 <= width <= self.widths[name]:
                raise ArchitectureError(
                    f"{name}: expected a width from 1 to {self.widths[name]}. Received: {width}"
                )
        return {**self.widths, **widths}

    def kept(self, keep: Mapping[str, Sequence[int] | np.ndarray]) -> np.ndarray:
        """Returns for every id whether it is kept (ids,).

        Args:
            keep: By the names of groups the positions in them that are kept; a group that is
                missing is kept whole.

        Raises:
            ArchitectureError: If there is no such group, or no such positions in it.
        """
        kept = np.ones(int(self.class_of.max(initial=-1)) + 1, bool)
        classes = {group.name: group.classes for group in self.groups}
        for name, positions in keep.items():
            self._check_name(name)
            width, found = len(classes[name]), np.unique(np.asarray(positions))
            whole = np.issubdtype(found.dtype, np.integer) and len(found) == len(positions)
            if not whole or not len(found) or found[0] < 0 or found[-1] >= width:
                raise ArchitectureError(
                    f"{name}: expected the positions of the channels to keep, at least one, "
                    f"each once, from 0 to {width - 1}. Received: {positions!r}"
                )
            kept[np.delete(classes[name], found)] = False
        return kept[self.class_of]

    def channels_of(self, group: Group) -> int:
        """Returns how many channels of a group its first layer makes."""
        members = np.isin(self.class_of, group.classes)
        return sum(self.owners[i] == group.name.split(":")[0] for i in np.flatnonzero(members))

    def form(self, ids: np.ndarray) -> Form:
        """Returns how many of some ids are kept, as a function of widths.

        Args:
            ids: Those of a tensor, or of an axis of a weight.

        Raises:
            ValueError: If the ids of a group do not all stand there equally often.
        """
        of_group, groups = self._group_of, self.groups
        found = collections.Counter(of_group[self.class_of[ids]].ravel().tolist())
        constant = found.pop(-1, 0)
        multiples = {groups[g].name: n // groups[g].width for g, n in sorted(found.items())}
        if any(n % groups[g].width for g, n in found.items()):
            raise ValueError("the ids of a group do not stand there equally often")
        return Form(constant, multiples)

    def summed(self, values: np.ndarray) -> list[np.ndarray]:
        """Returns for every group the sums (n,) over each class of values of all ids (ids,)."""
        sums = np.bincount(self.class_of, values)
        return [sums[group.classes] for group in self.groups]

    @functools.cached_property
    def _group_of(self) -> np.ndarray:
        of_group = np.full(int(self.class_of.max(initial=-1)) + 1, -1)
        for g, group in enumerate(self.groups):
            of_group[group.classes] = g
        return of_group

    def _check_name(self, name: str) -> None:
        if name not in self.widths:
            raise ArchitectureError(
                f"expected a group of channels among {', '.join(self.widths) or 'none'}. "
                f"Received: {name!r}"
            )
