"""Listings of folders of images: the splits, the classes, their files, and what is left out."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import os
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

import tensorflow as tf

from tas_tf.data.account import Account
from tas_tf.data.decoding import SUFFIXES
from tas_tf.errors import DataError
from tas_tf.runtime.files import first_line

# What people call the splits, whatever the case.
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "val", "valid", "dev", "eval"),
}
# Images by their names, in formats that are not read.
_OTHER_IMAGES: tuple[str, ...] = (
    ".avif",
    ".heic",
    ".heif",
    ".ico",
    ".jp2",
    ".jxl",
    ".psd",
    ".svg",
    ".tga",
)
_OTHER_IMAGES += (".cr2", ".dng", ".nef", ".npy", ".dcm", ".exr")
_NESTED = "images in sub-folders of a class, which are not read"


class MissingDataError(DataError):
    """A data set that is not where it is said to be."""


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a class.

    Args:
        name: Its name; bytes that are no UTF-8 are surrogates, as `os.fsdecode` has them.
        size: Its bytes; None where its file system is slow to tell.
    """

    name: str
    size: int | None


@dataclasses.dataclass(frozen=True)
class _Entry:
    name: str
    kind: Literal["file", "folder", "special", "link"]
    size: int | None = None

    @property
    def hidden(self) -> bool:
        return self.name.startswith(".")

    @property
    def is_image(self) -> bool:
        return self.kind == "file" and self.name.lower().endswith(SUFFIXES)


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images of a folder.

    Args:
        folders: The folder of each split.
        files: The files of each class, both in alphabetical order, of each split.
    """

    folders: dict[str, str]
    files: dict[str, dict[str, list[File]]]


def read_folder(root: str, account: Account) -> Listing:
    """Lists a folder of images; reads none.

    Args:
        root: A folder with one sub-folder of images for each class, or with such a folder for each
            split.
        account: What is told of what is left out.

    Raises:
        MissingDataError: If it does not exist.
        DataError: If it cannot be listed, or its classes or images are missing.
    """
    with explained_listing(root):
        if not tf.io.gfile.isdir(root):
            raise _missing(root)
    folders = _split_folders(root, account)
    files = {split: _class_files(folder, account, root) for split, folder in folders.items()}
    classes = files["train"]
    for name, of_class in classes.items():
        if not of_class:
            raise DataError(_no_images(os.path.join(folders["train"], name)))
    account.notes += _alike(list(classes))
    for split, of_split in files.items():
        unknown = sorted(set(of_split) - set(classes))
        lacking = sorted(name for name in classes if not of_split.get(name))
        if unknown:
            missed = f", and {split} lacks {_first(lacking)}" if lacking else ""
            raise DataError(
                f"{root!r}: train and {split} must have the same classes; train lacks"
                f" {_first(unknown)}{missed}"
            )
        if len(lacking) == len(classes):
            raise DataError(f"{folders[split]!r} has no images ({', '.join(SUFFIXES)})")
        if lacking:
            account.notes.append(
                f"{split} has no images of {len(lacking)} of the classes: {_first(lacking)}"
            )
        files[split] = {name: of_split.get(name, []) for name in classes}
    return Listing(folders, files)


def _first(names: Sequence[str]) -> str:
    """Returns the first few names as Python writes them."""
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")


def _alike(classes: Sequence[str]) -> list[str]:
    """Says which names of classes look alike, which one name in two spellings does."""
    seen: dict[str, str] = {}
    notes = []
    for name in classes:
        other = seen.setdefault(unicodedata.normalize("NFKC", name).casefold().strip(), name)
        if other != name:
            notes.append(f"the classes {ascii(other)} and {ascii(name)} have names that look alike")
    return notes


@contextlib.contextmanager
def explained_listing(path: str) -> Iterator[None]:
    """Turns whatever a file system raises while a folder is listed into a DataError."""
    try:
        yield
    except (OSError, UnicodeError, tf.errors.OpError) as error:
        raise DataError(
            f"{path!r} cannot be listed: {first_line(error)}. Make it a folder that can be read, or"
            " take it away"
        ) from None


def _missing(root: str) -> MissingDataError:
    """Says that there is no such folder, where it was looked for, and what is there."""
    if tf.io.gfile.exists(root):
        return MissingDataError(
            f"{root!r} is a file; a folder of images is needed, such as what an archive unpacks to"
        )
    above, name = os.path.split(root.rstrip("/"))
    if "://" in root:
        return MissingDataError(f"the folder of images {root!r} does not exist")
    above = os.path.abspath(above)
    if not os.path.isdir(above):
        return MissingDataError(
            f"the folder of images {root!r} does not exist, nor does {above!r}, where it would lie"
        )
    close = difflib.get_close_matches(name, [e.name for e in _entries(above)], 2)
    hint = f". Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return MissingDataError(
        f"the folder of images {root!r} does not exist: {above!r} has no {name!r}{hint}"
    )


def _entries(folder: str) -> list[_Entry]:
    """Lists a folder in alphabetical order."""
    with explained_listing(folder):
        if "://" in folder:
            return sorted(_remote_entries(folder), key=lambda entry: entry.name)
        with os.scandir(folder) as found:
            return sorted(map(_local_entry, found), key=lambda entry: entry.name)


def _local_entry(entry: os.DirEntry) -> _Entry:
    try:
        if entry.is_dir():
            return _Entry(entry.name, "folder")
        if entry.is_file():
            return _Entry(entry.name, "file", entry.stat().st_size)
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link to itself leads nowhere; all else is a fault
            raise
        return _Entry(entry.name, "link")
    return _Entry(entry.name, "special" if os.path.exists(entry.path) else "link")


def _remote_entries(folder: str) -> Iterator[_Entry]:
    for listed in tf.io.gfile.listdir(folder):
        name = listed.rstrip("/")
        # To ask of each image whether it is a folder would take long.
        is_file = name.lower().endswith(SUFFIXES) and name == listed
        is_folder = not is_file and tf.io.gfile.isdir(os.path.join(folder, name))
        yield _Entry(name, "folder" if is_folder else "file")


def _split_folders(root: str, account: Account) -> dict[str, str]:
    """Returns the folder of each split; a root without splits is all "train"."""
    entries = _entries(root)
    folders = [entry.name for entry in entries if entry.kind == "folder" and not entry.hidden]
    named = {
        split: [name for name in folders if name.lower() in names]
        for split, names in SPLITS.items()
    }
    named = {split: of_split for split, of_split in named.items() if of_split}
    others = [name for name in folders if not any(name in of for of in named.values())]
    if "train" not in named:
        return {"train": root}
    train = os.path.join(root, named["train"][0])
    nested = any(entry.kind == "folder" and not entry.hidden for entry in _entries(train))
    if len(named) == 1 and (others or not nested):
        if nested:
            account.notes.append(f"{train!r} is read as a class, like the folders beside it")
        return {"train": root}
    for split, of_split in named.items():
        if len(of_split) > 1:
            raise DataError(
                f"{root!r} has {' and '.join(map(repr, of_split))}, each of which may be the split"
                f" {split!r}: take one away"
            )
    for name in others:
        account.leave_out("folders beside the splits", name)
    for entry in entries:
        if entry.kind != "folder":
            account.leave_out("files beside the splits", text(entry.name))
    return {split: os.path.join(root, name) for split, (name,) in named.items()}


def _class_files(folder: str, account: Account, root: str) -> dict[str, list[File]]:
    """Lists the images of each class, by name of its sub-folder, all in alphabetical order."""
    entries = _entries(folder)
    within = os.path.relpath(folder, root) if folder != root else ""
    classes = [entry.name for entry in entries if entry.kind == "folder" and not entry.hidden]
    for entry in entries:
        if entry.kind != "folder":
            what = "files beside the folders of the classes"
            account.leave_out(what, text(os.path.join(within, entry.name)))
    if len(classes) < 2:
        splits = "" if folder == root else ". It is read as a split, because of its name"
        raise DataError(
            f"{folder!r} has {len(classes)} sub-folders; it needs one sub-folder of images for each"
            f" class, and at least two classes{splits}"
        )
    for name in classes:
        if text(name) != name:
            raise DataError(
                f"the name of the class folder {text(name)!r} in {folder!r} is no UTF-8 text:"
                " rename it"
            )
    return {
        name: _images(os.path.join(folder, name), account, os.path.join(within, name))
        for name in classes
    }


def _images(folder: str, account: Account, within: str) -> list[File]:
    """Lists the images of one class."""
    images = []
    for entry in _entries(folder):
        if entry.is_image and not entry.hidden:
            images.append(File(entry.name, entry.size))
            continue
        shown = text(os.path.join(within, entry.name))
        if entry.kind == "folder":
            nested = _count_images(os.path.join(folder, entry.name))
            if nested:
                account.leave_out(_NESTED, shown, nested)
            elif not entry.hidden:
                account.leave_out("sub-folders of a class, without images", shown)
        else:
            account.leave_out(_why_left_out(entry), shown)
    return images


def _why_left_out(entry: _Entry) -> str:
    """Says why what is no folder is no image that is read."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if entry.kind == "special":
        return "that are no files: sockets, pipes or devices"
    if entry.kind == "link":
        return "links that lead nowhere"
    if entry.hidden:
        return "hidden files"
    if suffix in _OTHER_IMAGES:
        return f"files of a format that is not read ({suffix})"
    return "files that are no images by their names"


def _count_images(folder: str) -> int:
    """Counts the images below a folder; links to folders are not followed."""
    with explained_listing(folder):
        walk = os.walk(folder) if "://" not in folder else tf.io.gfile.walk(folder)
        return sum(name.lower().endswith(SUFFIXES) for _, _, names in walk for name in names)


def _no_images(folder: str) -> str:
    nested = sum(
        _count_images(os.path.join(folder, entry.name))
        for entry in _entries(folder)
        if entry.kind == "folder"
    )
    hint = f"; its sub-folders have {nested:,}: move them up" if nested else ""
    return f"{folder!r} has no images ({', '.join(SUFFIXES)}){hint}"


def text(name: str) -> str:
    """Returns a name with marks in place of bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
