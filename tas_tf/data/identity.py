"""Identities of data sets: which classes and images a run met, recorded once and compared after.

An identity has the names of the classes in order and, for each class of each split, the number of
images, a digest of their names and sizes, and one of their contents. Where they lie is no part.
`docs/data.md` says what of the contents is read, and what a difference leads to.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tas_tf import json_schema
from tas_tf.errors import DataError
from tas_tf.json_schema import ANY, count, text

FIELD = "identity"  # of data.json
# Of what is larger in all, a sample of the contents is part of the identity.
HASHED_BYTES = 2**28
# The class of a group of images whose classes cannot be known without reading all labels.
WHOLE = ""
_GROUP = {"images": count, "files": text, "contents": text}
PATTERN = {"source": text, "extent": text, "classes": [text], "splits": {ANY: {ANY: _GROUP}}}
_NAMED = 3  # differences of a kind that are named one by one


@dataclasses.dataclass(frozen=True)
class Group:
    """The images of one class in one split.

    Args:
        images: Their number.
        files: Digest of names and sizes; "" where it is not known.
        contents: Digest of contents; "" where it is not known.
        names: Digest of names alone; "" where it is not known.
    """

    images: int
    files: str = ""
    contents: str = ""
    names: str = ""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What tells a data set from others, wherever it lies.

    Args:
        source: What it is: `folder`, `digits`, or the name and version of a TFDS set.
        classes: Names of the classes, in the order of their labels.
        splits: Groups of images by class, of each split; `WHOLE` stands for all classes.
        extent: What has been read, for people; "" where nothing has.
    """

    source: str
    classes: tuple[str, ...]
    splits: Mapping[str, Mapping[str, Group]]
    extent: str

    @property
    def digest(self) -> str:
        """A name that no other set of images has."""
        return digest([json.dumps({**self.record(), "extent": ""}, sort_keys=True).encode()])

    def record(self) -> dict[str, Any]:
        """Returns it as plain values for JSON."""
        plain = dataclasses.asdict(self) | {"classes": list(self.classes)}
        for group in (group for of in plain["splits"].values() for group in of.values()):
            if not group["names"]:  # what is not known of an older record leaves its digest alone
                del group["names"]
        return plain

    @property
    def contents_read(self) -> str:
        """What of the contents has been read: digests of unlike parts tell nothing."""
        return self.extent.partition("contents of ")[2]

    def images(self, split: str) -> int:
        """Returns the number of images of a split."""
        return sum(group.images for group in self.splits.get(split, {}).values())


def digest(parts: Iterable[bytes]) -> str:
    """Returns a short hash of texts, which tells where one ends and the next begins."""
    made = hashlib.sha256()
    for part in parts:
        made.update(len(part).to_bytes(8, "little") + part)
    return made.hexdigest()[:16]


def read(record: Mapping[str, Any]) -> Identity:
    """Returns the identity in the record of a run's images, `data.json`.

    A record from before there were identities gives its classes and numbers of images alone.

    Raises:
        DataError: If it is damaged.
    """
    known = record.get(FIELD)
    try:
        if known is None:
            old = {"label_names": record.get("label_names", []), "counts": record.get("counts", {})}
            json_schema.check(old, {"label_names": [text], "counts": {ANY: count}})
            splits = {split: {WHOLE: Group(images)} for split, images in old["counts"].items()}
            return Identity("", tuple(old["label_names"]), splits, "")
        json_schema.check(known, PATTERN)
    except ValueError as error:
        raise DataError(f"the record of a run's images is damaged: {FIELD}: {error}") from None
    splits = {
        split: {
            name: Group(**{field: group[field] for field in _GROUP}, names=group.get("names", ""))
            for name, group in of.items()
        }
        for split, of in known["splits"].items()
    }
    return Identity(known["source"], tuple(known["classes"]), splits, known["extent"])


def check_same(record: Mapping[str, Any], present: Identity, *, of: str, advice: str) -> list[str]:
    """Refuses images that differ from those of a run.

    Args:
        record: The record of the run's images.
        present: The images at hand.
        of: Whose images the record tells of.
        advice: What to do where they differ.

    Returns:
        What people should know where they do not.

    Raises:
        DataError: With what differs.
    """
    recorded = read(record)
    found = class_differences(recorded, present) + image_differences(recorded, present)
    if found:
        raise DataError(f"these are not the images of {of}: {'; '.join(found)}. {advice}")
    return _not_compared(recorded, present, of)


def check_classes(
    record: Mapping[str, Any], present: Identity, *, of: str, advice: str
) -> list[str]:
    """Refuses other classes than those of a run; other images of the same classes are let pass.

    Args, returns and raises as `check_same`.
    """
    recorded = read(record)
    found = class_differences(recorded, present)
    if found:
        raise DataError(f"these are not the classes of {of}: {'; '.join(found)}. {advice}")
    other = image_differences(recorded, present)
    if other:
        return [f"{of} was trained on other images of the same classes: {'; '.join(other)}"]
    return _not_compared(recorded, present, of)


def _not_compared(recorded: Identity, present: Identity, of: str) -> list[str]:
    if recorded.extent and recorded.contents_read == present.contents_read:
        return []
    if recorded.extent:
        return [
            f"Contents of the images of {of} cannot be compared: recorded were {recorded.extent}; "
            f"now it is {present.extent}"
        ]
    what = "Classes and numbers of images agree" if recorded.classes else "Nothing is known of them"
    return [f"The record of the images of {of} is from before contents were recorded. {what}"]


def compare(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Says how the images of two records differ; nothing where they do not, as far as is known.

    Raises:
        DataError: If a record is damaged.
    """
    one, two = read(first), read(other)
    return class_differences(one, two) + image_differences(one, two)


def class_differences(recorded: Identity, present: Identity) -> list[str]:
    """Says how classes differ from those recorded; nothing where none were."""
    if not (recorded.classes and present.classes):
        return []
    renamed = _renamed(recorded, present)
    gone = [name for name in recorded.classes if name not in {*present.classes, *renamed}]
    known = {*recorded.classes, *renamed.values()}
    found = _several([f"class {old!r} is now {name!r}" for old, name in renamed.items()])
    found += _several([f"class {name!r} is gone" for name in gone])
    found += _several([f"class {name!r} is new" for name in present.classes if name not in known])
    if found or recorded.classes == present.classes:
        return found
    return ["the classes stand in another order"]


def _renamed(recorded: Identity, present: Identity) -> dict[str, str]:
    """Returns what classes are called now that had another name: those with the same images.

    Where nothing is known of the images of a class it is the one in its place, among as many.
    """
    changed: dict[Any, list[str]] = {}
    for name in present.classes:
        images = _images_of(present, name)
        if images and images != _images_of(recorded, name):
            changed.setdefault(images, []).append(name)
    renamed = {}
    for old in recorded.classes:
        images = _images_of(recorded, old)
        if changed.get(images) and images != _images_of(present, old):
            renamed[old] = changed[images].pop(0)
    if not renamed and len(recorded.classes) == len(present.classes):
        for old, new in zip(recorded.classes, present.classes, strict=True):
            known = _images_of(recorded, old) and _images_of(present, new)
            if not known and old not in present.classes and new not in recorded.classes:
                renamed[old] = new
    return renamed


def _images_of(images: Identity, name: str) -> tuple[tuple[str, int, str], ...]:
    """Returns what tells the images of a class from others; nothing where that is not known."""
    groups = [(split, of.get(name, Group(0))) for split, of in images.splits.items()]
    if not all(group.contents for _, group in groups):
        return ()
    return tuple((split, group.images, group.contents) for split, group in groups)


def image_differences(recorded: Identity, present: Identity) -> list[str]:
    """Says how images differ from those recorded, as far as both are known."""
    if not (recorded.splits and present.splits):
        return []
    if recorded.source and present.source and recorded.source != present.source:
        return [f"it was {recorded.source!r} and is {present.source!r}"]
    found = []
    for split in dict.fromkeys((*recorded.splits, *present.splits)):
        if split not in present.splits:
            found.append(f"the split {split!r} is gone")
        elif split not in recorded.splits:
            found.append(f"the split {split!r} is new")
        else:
            found += _split_differences(split, recorded, present)
    return found


def _split_differences(split: str, recorded: Identity, present: Identity) -> list[str]:
    before, now = recorded.images(split), present.images(split)
    if before != now:
        more = f"{abs(now - before):,} images {'more' if now > before else 'fewer'}"
        return [f"{more} in {split}: {now:,} in place of {before:,}"]
    old, new = recorded.splits[split], present.splits[split]
    comparable = recorded.contents_read == present.contents_read
    renamed = _renamed(recorded, present)
    files, contents = [], []
    for name in (old.keys() & new.keys()) - {*renamed, *renamed.values()}:
        where = f" of class {name!r}" if name else ""
        same_names = not _differ(old[name].names, new[name].names)
        same_files = same_names and not _differ(old[name].files, new[name].files)
        if old[name].images != new[name].images or not same_files:
            files.append(f"other names or sizes of the images{where} in {split}")
        elif comparable and _differ(old[name].contents, new[name].contents):
            contents.append(f"other contents of the images{where} in {split}")
    return _several(sorted(files)) + _several(sorted(contents))


def _differ(old: str, new: str) -> bool:
    return bool(old and new) and old != new


def _several(texts: Sequence[str]) -> list[str]:
    """Returns the first few texts, and how many more there are."""
    more = [f"and {len(texts) - _NAMED:,} more like this"] if len(texts) > _NAMED else []
    return [*texts[:_NAMED], *more]
