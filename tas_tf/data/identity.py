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
    """

    images: int
    files: str = ""
    contents: str = ""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What tells a data set from others, wherever it lies.

    Args:
        source: What it is: `folder`, `digits`, or the name and version of a TFDS set.
        classes: Names of the classes, in the order of their labels.
        splits: Groups of images by class, of each split; `WHOLE` stands for all classes.
        extent: What of the contents has been read; "" where nothing has.
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
        return dataclasses.asdict(self) | {"classes": list(self.classes)}

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
            name: Group(**{field: group[field] for field in _GROUP}) for name, group in of.items()
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
    return _not_compared(recorded, of)


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
    return _not_compared(recorded, of)


def _not_compared(recorded: Identity, of: str) -> list[str]:
    if recorded.extent:
        return []
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
    if not (recorded.classes and present.classes) or recorded.classes == present.classes:
        return []
    gone = [name for name in recorded.classes if name not in present.classes]
    new = [name for name in present.classes if name not in recorded.classes]
    renamed: dict[str, str] = {}
    for name in gone:
        same = (other for other in new if _alike(recorded, name, present, other))
        match = next((other for other in same if other not in renamed.values()), None)
        if match is not None:
            renamed[name] = match
    found = _several([f"class {old!r} is now {name!r}" for old, name in renamed.items()])
    left = [name for name in gone if name not in renamed]
    found += _several([f"class {name!r} is gone" for name in left])
    found += _several([f"class {name!r} is new" for name in new if name not in renamed.values()])
    return found or ["the classes stand in another order"]


def _alike(recorded: Identity, old: str, present: Identity, new: str) -> bool:
    """Whether two classes have the same images, as far as that is known."""
    pairs = [
        (of.get(old), present.splits.get(split, {}).get(new))
        for split, of in recorded.splits.items()
        if WHOLE not in of
    ]
    known = [pair for pair in pairs if pair != (None, None)]
    if known:
        return all(a == b for a, b in known)
    # Nothing is known of single classes: what stands in the same place, among as many.
    same_number = len(recorded.classes) == len(present.classes)
    return same_number and recorded.classes.index(old) == present.classes.index(new)


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
    files, contents = [], []
    for name in old.keys() & new.keys():
        where = f" of class {name!r}" if name else ""
        if old[name].images != new[name].images or _differ(old[name].files, new[name].files):
            files.append(f"other names or sizes of the images{where} in {split}")
        elif _differ(old[name].contents, new[name].contents):
            contents.append(f"other contents of the images{where} in {split}")
    return _several(sorted(files)) + _several(sorted(contents))


def _differ(old: str, new: str) -> bool:
    return bool(old and new) and old != new


def _several(texts: Sequence[str]) -> list[str]:
    """Returns the first few texts, and how many more there are."""
    more = [f"and {len(texts) - _NAMED:,} more like this"] if len(texts) > _NAMED else []
    return [*texts[:_NAMED], *more]
