"""Folders of images as a source: listed whole, and known by a sample of what is in the files."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tas_tf.data import identity, listing
from tas_tf.data.account import Account
from tas_tf.data.decoding import decode, decode_any, is_grey, opened
from tas_tf.data.identity import Group, Identity, digest
from tas_tf.data.listing import File
from tas_tf.data.sources import ListedSource, unreadable_text
from tas_tf.errors import DataError
from tas_tf.runtime.files import first_line

# Images that are decoded to infer what all are like: evenly spaced in each class, one at least.
SAMPLE = 1000
# Of more images, or more bytes, the contents of the sample alone are part of the identity.
HASHED_FILES = 50_000
_READERS = 8
_ORIENTATION = 0x0112  # of EXIF
_UPRIGHT = (None, 1)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What is known of a file that was read.

    Args:
        contents: Digest of its bytes.
        fault: Why it cannot be decoded; "" if it can be, or was not tried.
        size: Height and width; 0 where they are not known.
        kinds: What its image is like.
    """

    contents: bytes = b""
    fault: str = ""
    size: tuple[int, int] = (0, 0)
    kinds: tuple[str, ...] = ()


class FolderSource(ListedSource):
    """A folder with one sub-folder of images for each class, or such folders for each split.

    Args:
        path: The folder. If it has `train/` and `test/` or `validation/`, by these or other usual
            names, these are the splits.
        resized: Whether images are resized later; if not, all must have one size.

    Raises:
        DataError: If the folder is missing or cannot be listed, or its classes or images are
            missing, or none of those looked at can be read.
    """

    def __init__(self, path: str, resized: bool):
        self.location = os.path.expanduser(path)
        self.account = Account()
        self._listing = listing.read_folder(self.location, self.account)
        files = self._listing.files
        self.label_names = tuple(files["train"])
        self.account.classes = {
            split: {name: len(of_class) for name, of_class in of_split.items()}
            for split, of_split in files.items()
        }
        # Bytes, because names of files need not be UTF-8.
        keys = {split: np.array(self._paths(split), object) for split in files}
        labels = {
            split: np.repeat(
                np.arange(len(by), dtype=np.int32), [len(of_class) for of_class in by.values()]
            )
            for split, by in files.items()
        }
        super().__init__(keys, labels)
        self._hashed, self._sample = self._chosen()
        self._seen = self._read()
        self.shape = self._infer(resized)

    def decode(self, key: tf.Tensor) -> tf.Tensor:
        return decode(tf.io.read_file(key), self.shape)

    def identity(self) -> Identity:
        splits = {}
        for split, by_class in self._listing.files.items():
            starts = np.cumsum([0, *map(len, by_class.values())])
            splits[split] = {
                name: self._group(split, files, int(start))
                for (name, files), start in zip(by_class.items(), starts, strict=False)
            }
        total, read = sum(self.counts.values()), len(self._hashed)
        few = f"{read:,} of {total:,}, evenly spaced in each class"
        listed = "names and sizes" if self._sizes() else "names"
        contents = f"all {total:,}" if read == total else few
        extent = f"{listed} of all images, contents of {contents}"
        return Identity("folder", self.label_names, splits, extent)

    def require_sound(self, allowed: float) -> None:
        if allowed:
            return  # all is decoded before anything is drawn
        for split, places in self._sample.items():
            faults = [place for place in places if self._seen[split, place].fault]
            if faults:
                whole = len(places) == self.counts[split]
                of = split if whole else f"the images of {split} that were looked at"
                first = self.fault(split, faults[0])
                raise DataError(unreadable_text(first, len(faults), len(places), of))
        if self.shape[0] is None:
            return
        for split, places in self._sample.items():
            for place in places:
                if self._seen[split, place].size != self.shape[:2]:
                    raise DataError(self.fault(split, place))

    def fault(self, split: str, place: int) -> str:
        shown = repr(self._shown((split, place)))
        try:
            image = decode_any(_read_bytes(self._keys[split][place]), self.shape[-1])
        except (OSError, tf.errors.OpError, ValueError) as error:
            return _unreadable(shown, first_line(error))
        return (
            f"{shown} is {_size_text(image.shape)} and {self._first!r} is"
            f" {_size_text(self.shape)}; give an image_size to bring all to one size"
        )

    def _paths(self, split: str) -> list[bytes]:
        folder = self._listing.folders[split]
        return [
            os.fsencode(f"{above}/{file.name}")
            for name, files in self._listing.files[split].items()
            for above in [os.path.join(folder, name)]
            for file in files
        ]

    def _chosen(self) -> tuple[set[tuple[str, int]], dict[str, list[int]]]:
        """Chooses which images are read for the identity, and which of them are decoded."""
        total = sum(self.counts.values())
        sample: dict[str, list[int]] = {}
        every: dict[str, Sequence[int]] = {}
        for split, by_class in self._listing.files.items():
            sample[split], start = [], 0
            for count in map(len, by_class.values()):
                # By its own number alone: the same are chosen under another name of the class.
                share = min(count, max(1, round(SAMPLE * count / total)))
                sample[split] += (start + np.linspace(0, count - 1, share).astype(int)).tolist()
                start += count
            every[split] = range(start)
        sizes = self._sizes()
        whole = total <= HASHED_FILES and bool(sizes) and sum(sizes) <= identity.HASHED_BYTES
        hashed = every if whole else sample
        return {(split, place) for split in hashed for place in hashed[split]}, sample

    def _sizes(self) -> list[int]:
        """Returns the bytes of all files; none where their file system is slow to tell."""
        of_splits = self._listing.files.values()
        files = [
            file for by_class in of_splits for of_class in by_class.values() for file in of_class
        ]
        sizes = [file.size for file in files if file.size is not None]
        return sizes if len(sizes) == len(files) else []

    def _read(self) -> dict[tuple[str, int], _Seen]:
        """Reads the chosen files, several at once."""
        decoded = {(split, place) for split, places in self._sample.items() for place in places}
        chosen = sorted(self._hashed)
        paths = [self._keys[split][place] for split, place in chosen]
        with concurrent.futures.ThreadPoolExecutor(_READERS) as readers:
            seen = readers.map(_look, paths, [which in decoded for which in chosen])
            return dict(zip(chosen, seen, strict=True))

    def _group(self, split: str, files: Sequence[File], start: int) -> Group:
        names = [os.fsencode(file.name) for file in files]
        sized = (name + f"\n{file.size}".encode() for name, file in zip(names, files, strict=True))
        places = ((split, start + number) for number in range(len(files)))
        contents = (self._seen[place].contents for place in places if place in self._seen)
        known = all(file.size is not None for file in files)
        return Group(len(files), digest(sized) if known else "", digest(contents), digest(names))

    def _infer(self, resized: bool) -> tuple[int | None, int | None, int]:
        """Infers the shape of images from the sample, and tells what they are like."""
        sampled = [(split, place) for split, places in self._sample.items() for place in places]
        sound = [which for which in sampled if not self._seen[which].fault]
        if not sound:
            raise DataError(self._first_fault(*sampled[0]))
        sizes = collections.Counter(self._seen[which].size for which in sound)
        kinds: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)
        for which in sound:
            for kind in self._seen[which].kinds:
                kinds[kind].append(which)
        common = sizes.most_common(1)[0][0]
        self._first = self._shown(next(w for w in sound if self._seen[w].size == common))
        self._say(sampled, kinds, sizes)
        channels = 3 if "colour" in kinds else 1
        return (None, None, channels) if resized else (*common, channels)

    def _say(
        self,
        sampled: Sequence[Any],
        kinds: dict[str, list[tuple[str, int]]],
        sizes: dict[Any, int],
    ) -> None:
        total = sum(self.counts.values())
        looked = f"all {total:,}" if len(sampled) == total else f"{len(sampled):,} of {total:,}"
        said = ", ".join(f"{len(of):,} {kind}" for kind, of in kinds.items() if kind in _COLOURS)
        measured = _size_text(next(iter(sizes))) if len(sizes) == 1 else f"{len(sizes):,} sizes"
        self.account.sample = f"{looked} images: {said}; {measured}"
        if "grey" in kinds and "colour" in kinds:
            fewer = min(_COLOURS, key=lambda kind: len(kinds[kind]))
            self.account.notes.append(
                f"grey and colour are mixed: {len(kinds[fewer]):,} {fewer}"
                f" ({self._examples(kinds[fewer])}); grey becomes colour"
            )
        for kind, what in _TOLD.items():
            if kind in kinds:
                note = f"{len(kinds[kind]):,} {kind} ({self._examples(kinds[kind])}): {what}"
                self.account.notes.append(note)

    def _examples(self, places: Sequence[tuple[str, int]]) -> str:
        more = ", ..." if len(places) > 2 else ""
        return ", ".join(repr(self._shown(place)) for place in places[:2]) + more

    def _shown(self, which: tuple[str, int]) -> str:
        split, place = which
        return listing.text(os.fsdecode(self._keys[split][place]))

    def _first_fault(self, split: str, place: int) -> str:
        shown = repr(self._shown((split, place)))
        return _unreadable(shown, self._seen[split, place].fault)


_COLOURS = ("grey", "colour")
# Kinds of images that are changed before a network sees them, and how.
_TOLD = {
    "with 16 bits a channel": "the upper 8 are used",
    "with transparency": "it is dropped",
    "with several pictures": "the first is used",
    "turned by EXIF": "it is not applied; turn the pixels themselves if it should be",
}


def _look(path: bytes, decoded: bool) -> _Seen:
    """Reads a file, and decodes it where that is asked for."""
    try:
        encoded = _read_bytes(path)
    except (OSError, tf.errors.OpError) as error:
        return _Seen(fault=first_line(error))
    contents = hashlib.sha256(encoded).digest()
    if not decoded:
        return _Seen(contents)
    try:
        image = opened(encoded)
        if image.mode in ("I", "F"):  # of which some cannot be read
            decode_any(encoded, 3)
    except ValueError as error:
        return _Seen(contents, first_line(error))
    kinds = ["grey" if is_grey(image) else "colour"]
    tests = (
        image.mode.startswith("I"),
        image.mode.endswith(("A", "a")) or "transparency" in image.info,
        getattr(image, "n_frames", 1) > 1,
        image.getexif().get(_ORIENTATION) not in _UPRIGHT,
    )
    kinds += [kind for kind, holds in zip(_TOLD, tests, strict=True) if holds]
    return _Seen(contents, "", (image.height, image.width), tuple(kinds))


def _read_bytes(path: bytes) -> bytes:
    if b"://" in path:
        return tf.io.read_file(path).numpy()
    with open(path, "rb") as file:
        return file.read()


def _unreadable(shown: str, fault: str) -> str:
    return f"{shown} cannot be read as an image: {fault.rstrip('.')}"


def _size_text(shape: Sequence[int | None]) -> str:
    return f"{shape[0]}x{shape[1]}"
