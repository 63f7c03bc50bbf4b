"""TFDS sets as a source of images, and the lookup of a source by its name."""

import concurrent.futures
import contextlib
import difflib
import functools
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tas_tf.data import identity
from tas_tf.data.account import Account
from tas_tf.data.decoding import decode
from tas_tf.data.folders import FolderSource
from tas_tf.data.identity import WHOLE, Group, Identity, digest
from tas_tf.data.listing import MissingDataError
from tas_tf.data.sources import DigitsSource, ImageSource
from tas_tf.errors import DataError
from tas_tf.runtime.files import first_line

# Encoded images held for shuffling while a set streams.
SHUFFLE_BYTES = 2**29
# No "namespace:name": community sets would be looked up on the network.
_NAME = re.compile(r"[A-Za-z]\w*(/[\w.\-]+)?(:[\d.*]+)?")
_FILES_READ_AT_ONCE = 16
_LABEL = tf.io.FixedLenFeature([], tf.int64)


def open_source(dataset: str, data_dir: str | None, download: bool, resized: bool) -> ImageSource:
    """Finds the source that a name stands for; reads metadata only, and never the network.

    Args:
        dataset: `digits`, `folder:PATH`, the path of a folder, or a TFDS name. A TFDS name wins
            over a folder of the same name, unless that is written as a path, such as `./mnist`.
        data_dir: Where prepared TFDS sets lie; None is TFDS' own default.
        download: Whether the source's `fetch` may download.
        resized: Whether images will be resized to one size.

    Raises:
        DataError: If there is no such source, or it cannot be used.
    """
    if dataset == "digits":
        return DigitsSource()
    if dataset.startswith("folder:"):
        if dataset == "folder:":
            raise DataError("the data set 'folder:' names no folder: write folder:PATH")
        return FolderSource(dataset.removeprefix("folder:"), resized)
    if _is_path(dataset, data_dir):
        return FolderSource(dataset, resized)
    return TfdsSource(dataset, data_dir, download)


def _is_path(dataset: str, data_dir: str | None) -> bool:
    """Whether a text is the path of a folder, there or not, in place of the name of a TFDS set."""
    if dataset.startswith(("/", ".", "~")) or "://" in dataset or dataset.endswith("/"):
        return True
    if tf.io.gfile.isdir(dataset):
        return dataset not in _known_tfds_names()
    name = dataset.split("/")[0]
    prepared = os.path.join(os.path.expanduser(data_dir or "~/tensorflow_datasets"), name)
    return "/" in dataset and name not in _known_tfds_names() and not tf.io.gfile.isdir(prepared)


class TfdsSource(ImageSource):
    """A TFDS image-classification set, read from its prepared TFRecord files.

    Args:
        name: A TFDS name, such as `cifar10`.
        data_dir: Where prepared sets lie; None is TFDS' own default.
        download: Whether an unprepared set may be downloaded, by `fetch`.

    Raises:
        DataError: If the set is unknown, is not one of labelled images, or is not prepared.
    """

    def __init__(self, name: str, data_dir: str | None, download: bool):
        self._name = name
        self._builder = _builder(name, data_dir)
        self.location = str(self._builder.data_path)
        image, label = _image_and_label(name, self._builder.info.features)
        self.shape = tuple(image.shape)
        self.label_names = tuple(label.names)
        self.account = Account()
        self.counts = {}
        if self._builder.is_prepared():
            self._read_counts()
        elif not download:
            raise MissingDataError(
                f"data set {name!r} is not prepared: there is none in {self.location}. Give the"
                " data_dir that holds it, pass `download`, or prepare it with"
                f" `tfds build {name}{f' --data_dir={data_dir}' if data_dir else ''}`"
            )

    def _read_counts(self) -> None:
        info = self._builder.info
        if info.file_format.value != "tfrecord":
            raise DataError(
                f"{self.location} is prepared as {info.file_format.value}; prepare it as tfrecord"
            )
        self.counts = {split: of_split.num_examples for split, of_split in info.splits.items()}
        if not self.counts.get("train"):
            raise DataError(f"{self.location} has no train split, only: {', '.join(self.counts)}")

    def identity(self) -> Identity:
        info, splits = self._builder.info, {}
        files = {split: self._files(split)[0] for split in info.splits}
        # A record has a frame of 16 bytes.
        total = sum(of.num_bytes + 16 * of.num_examples for of in info.splits.values())
        number = sum(map(len, files.values()))
        each = None if total <= identity.HASHED_BYTES else identity.HASHED_BYTES // number
        with concurrent.futures.ThreadPoolExecutor(_FILES_READ_AT_ONCE) as readers:
            for split, of in info.splits.items():
                heads = readers.map(functools.partial(_head_digest, length=each), files[split])
                recorded = digest([f"{info.full_name} {of.num_bytes}".encode()])
                splits[split] = {WHOLE: Group(of.num_examples, recorded, digest(heads))}
        read = "all" if each is None else f"the first {each:,} bytes of each of {number:,} files"
        extent = f"version, numbers of images and bytes as TFDS recorded them, contents of {read}"
        return Identity(info.full_name, self.label_names, splits, extent)

    def fetch(self) -> None:
        if self.counts:
            return
        try:
            self._builder.download_and_prepare()
        except Exception as error:  # A builder runs its author's code, which may raise anything.
            raise DataError(f"cannot prepare {self._name!r}: {first_line(error)}") from error
        self._read_counts()

    def labels(self, split: str) -> np.ndarray:
        labels, seen = np.zeros(self.counts[split], np.int32), np.zeros(self.counts[split], bool)
        numbered = self._numbered_records(split).map(_label, num_parallel_calls=tf.data.AUTOTUNE)
        if self.skipping:
            numbered = numbered.ignore_errors()
        for places, of_batch in numbered.batch(1024).as_numpy_iterator():
            labels[places], seen[places] = of_batch, True
        if not (self.skipping or seen.all()):
            raise DataError(self.fault(split, int(np.argmin(seen))))
        return labels

    def has_labels(self, split: str) -> bool:
        # -1 stands for no label.
        records = tf.data.TFRecordDataset(self._files(split)[0]).take(1)
        labels = [tf.io.parse_single_example(record, {"label": _LABEL}) for record in records]
        return all(int(example["label"]) >= 0 for example in labels)

    def examples(
        self, split: str, chosen: np.ndarray, seed: tf.Tensor | None = None
    ) -> tf.data.Dataset:
        numbered = self._numbered_records(split, seed)
        if len(chosen) < self.counts[split]:
            member = np.zeros(self.counts[split], bool)
            member[chosen] = True
            member = tf.constant(member)
            numbered = numbered.filter(lambda place, _: tf.gather(member, place))
        if seed is not None:
            numbered = _shuffle_blocks(numbered, self._shuffle_block(split), seed)
        return numbered.map(_parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def decode(self, key: tf.Tensor) -> tf.Tensor:
        return decode(key, self.shape)

    def fault(self, split: str, place: int) -> str:
        paths, offsets, lengths = self._files(split)
        file = int(np.searchsorted(offsets, place, "right")) - 1
        number = place - offsets[file]
        where, read = f"{paths[file]!r}, record {number} of {lengths[file]}", 0
        try:
            for record in tf.data.TFRecordDataset(paths[file]):
                if read == number:
                    self.decode(_parse(tf.constant(place), record)[1])
                    return f"{where} can be read alone, but not with the others"
                read += 1
        except (tf.errors.OpError, ValueError) as error:
            return f"{where} cannot be read: {first_line(error)}"
        return f"{where} is missing: the file ends after {read} records"

    def _files(self, split: str) -> tuple[list[str], np.ndarray, list[int]]:
        """Returns the files of a split, the places of their first records, and their lengths."""
        info = self._builder.info.splits[split]
        offsets = np.cumsum([0, *info.shard_lengths[:-1]]).astype(np.int64)
        return [str(path) for path in info.filepaths], offsets, list(info.shard_lengths)

    def _numbered_records(self, split: str, seed: tf.Tensor | None = None) -> tf.data.Dataset:
        """Reads (place, record), file after file, or files in a random order, several in turn."""
        rows = list(zip(*self._files(split), strict=True))
        if self.skipping:  # a file that cannot be opened would be tried for ever
            rows = [row for row in rows if _can_open(row[0])]
        types = tf.string, tf.int64, tf.int64
        files = [tf.constant([row[i] for row in rows], kind) for i, kind in enumerate(types)]
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(tf.range(len(files[0])), seed)
            files = [tf.gather(of_files, order) for of_files in files]

        def records(path: tf.Tensor, offset: tf.Tensor, length: tf.Tensor) -> tf.data.Dataset:
            read = tf.data.TFRecordDataset(path).take(length).enumerate(offset)
            return read.ignore_errors() if self.skipping else read

        in_turn = 1 if seed is None else _FILES_READ_AT_ONCE
        return tf.data.Dataset.from_tensor_slices(tuple(files)).interleave(
            records, cycle_length=in_turn
        )

    def _shuffle_block(self, split: str) -> int:
        info = self._builder.info.splits[split]
        return max(1, min(info.num_examples, SHUFFLE_BYTES * info.num_examples // info.num_bytes))


def _head_digest(path: str, length: int | None) -> bytes:
    """Returns a digest of the first bytes of a file, None for all; nothing if it cannot be read."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return hashlib.sha256(file.read(-1 if length is None else length)).digest()
    except (OSError, tf.errors.OpError):  # said where its images are read, or left out
        return b""


def _can_open(path: str) -> bool:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            file.read(1)
    except (OSError, tf.errors.OpError):
        return False
    return True


def _shuffle_blocks(numbered: tf.data.Dataset, block: int, seed: tf.Tensor) -> tf.data.Dataset:
    """Shuffles within blocks: unlike Dataset.shuffle, it depends on no seed but the given one."""

    def shuffle(number: tf.Tensor, of_block: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        of_number = tf.random.experimental.stateless_fold_in(seed, number)
        places, records = of_block
        order = tf.random.experimental.stateless_shuffle(tf.range(tf.size(places)), of_number)
        return tf.gather(places, order), tf.gather(records, order)

    blocks = numbered.batch(block).enumerate().map(shuffle)
    return blocks.prefetch(1).unbatch()


def _parse(place: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": _LABEL}
    example = tf.io.parse_single_example(record, features)
    return place, example["image"], tf.cast(example["label"], tf.int32)


def _label(place: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return place, tf.io.parse_single_example(record, {"label": _LABEL})["label"]


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Keeps TFDS from warning of a set that is not prepared: that becomes an exception here."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _known_tfds_names() -> list[str]:
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def _builder(name: str, data_dir: str | None) -> Any:
    """Makes the TFDS builder of a name, or raises DataError with close names."""
    import tensorflow_datasets as tfds

    if not _NAME.fullmatch(name):
        raise _unknown_name(name)
    try:
        with _quiet_tfds():
            return tfds.builder(name, data_dir=data_dir and os.path.expanduser(data_dir))
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown_name(name) from error
    except Exception as error:  # A builder runs its author's code, which may raise anything.
        raise DataError(f"TFDS cannot open {name!r}: {first_line(error)}") from error


def _unknown_name(name: str) -> DataError:
    beside: list[str] = []
    with contextlib.suppress(OSError), os.scandir() as found:
        beside += (entry.name for entry in found if entry.is_dir())
    close = difflib.get_close_matches(name, beside, 1)
    close += difflib.get_close_matches(name.lower(), [*_known_tfds_names(), "digits"])
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return MissingDataError(
        f"unknown data set {name!r}: {hint}A data set is 'digits', a folder of images (folder:PATH)"
        f" or a TFDS name such as 'cifar10'. There is no folder {name!r} in {os.getcwd()!r}"
    )


def _image_and_label(name: str, features: Any) -> tuple[Any, Any]:
    """Returns the features "image" and "label" of a TFDS set, or raises DataError."""
    import tensorflow_datasets as tfds

    by_name: Any = (
        dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    )
    image, label = by_name.get("image"), by_name.get("label")
    if type(image) is not tfds.features.Image or not isinstance(label, tfds.features.ClassLabel):
        raise DataError(
            f"data set {name!r} is not one of labelled images: it needs the features 'image'"
            f" (Image) and 'label' (ClassLabel), and has: {', '.join(by_name)}"
        )
    if image.np_dtype != np.uint8:
        raise DataError(f"data set {name!r} has {image.np_dtype} images; only uint8 can be read")
    return image, label
