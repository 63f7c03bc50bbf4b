"""Sources of images: their interface, the embedded digits, and folders of images."""

import abc
import contextlib
import itertools
import math
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tas_tf.data.decoding import SUFFIXES, decode, is_grey, opened
from tas_tf.errors import DataError
from tas_tf.runtime.files import first_line


class ImageSource(abc.ABC):
    """Labelled images in named splits, each with a fixed reading order.

    Attributes:
        location: Where the images lie, for messages.
        counts: Number of images by split; empty where the set has still to be fetched.
        label_names: Names of the classes, in the order of their labels.
        shape: (height, width, channels) of an image; height and width are None where they vary.
        skipping: Whether records that cannot be read are passed over, in place of an error.
    """

    location: str
    counts: dict[str, int]
    label_names: tuple[str, ...]
    shape: tuple[int | None, int | None, int]
    skipping: bool = False

    @abc.abstractmethod
    def fetch(self) -> None:
        """Makes the images readable where they are not yet; this may download."""

    @abc.abstractmethod
    def labels(self, split: str) -> np.ndarray:
        """Returns the labels of a split in reading order, int32 (images,), decoding no image."""

    @abc.abstractmethod
    def examples(
        self, split: str, chosen: np.ndarray, seed: tf.Tensor | None = None
    ) -> tf.data.Dataset:
        """Lists examples once each, undecoded.

        Args:
            split: Name of a split.
            chosen: Places in the reading order, ascending, int64 (examples,).
            seed: Stateless seed (2,) of the order; None keeps the reading order.

        Returns:
            A dataset of (place, key, label): the place in the reading order, int64; what `decode`
            takes; an int32 scalar.
        """

    @abc.abstractmethod
    def decode(self, key: tf.Tensor) -> tf.Tensor:
        """Decodes one key into an image, uint8 (height, width, channels)."""

    def has_labels(self, split: str) -> bool:
        """Tells whether a split is labelled; at most its first label is read."""
        return True

    def fault(self, split: str, place: int) -> str:
        """Says of an image that cannot be read where it lies, and why."""
        return f"image {place} of {split} of {self.location} cannot be read"

    def unreadable(self, split: str) -> np.ndarray:
        """Reads and decodes all of a split; returns the places of what fails, int64, ascending."""

        def decoded(place: tf.Tensor, key: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # What depends on no pixel would not be decoded.
            return place, tf.reduce_max(self.decode(key))

        everything, before = np.arange(self.counts[split]), self.skipping
        self.skipping = True
        try:
            examples = self.examples(split, everything).map(decoded, tf.data.AUTOTUNE)
            readable = [place for place, _ in examples.ignore_errors().as_numpy_iterator()]
            return np.setdiff1d(everything, readable)
        finally:
            self.skipping = before

    def culprit(self, split: str) -> str | None:
        """Says what of a split cannot be read, and why; None if all can be."""
        places, count = self.unreadable(split), self.counts[split]
        if not len(places):
            return None
        first = f"{self.fault(split, int(places[0]))}. Of {split}, {len(places)} of {count} images"
        share = math.ceil(1000 * len(places) / count) / 1000
        hint = f", or leave them out by ImageData.skip_corrupt = {share}" if share < 0.1 else ""
        return f"{first} cannot be read: put them right{hint}"

    @contextlib.contextmanager
    def explained(self, split: str) -> Iterator[None]:
        """Turns TensorFlow's complaint about a file that is read inside into a DataError."""
        try:
            yield
        except tf.errors.OpError as error:
            culprit = self.culprit(split)
            if culprit is None:
                culprit = f"{split} of {self.location} cannot be read: {first_line(error)}"
            raise DataError(culprit) from error


class ListedSource(ImageSource):
    """A source whose examples can be reached in any order, so that shuffling is complete.

    Args:
        keys: What `decode` takes, of each split (images,).
        labels: Labels of each split, int32 (images,).
    """

    def __init__(self, keys: dict[str, np.ndarray], labels: dict[str, np.ndarray]):
        self.counts = {split: len(of_split) for split, of_split in labels.items()}
        self._keys = keys
        self._labels = labels

    def fetch(self) -> None:
        pass

    def labels(self, split: str) -> np.ndarray:
        return self._labels[split]

    def examples(
        self, split: str, chosen: np.ndarray, seed: tf.Tensor | None = None
    ) -> tf.data.Dataset:
        keys = tf.constant(self._keys[split][chosen])
        labels = tf.constant(self._labels[split][chosen])
        places = tf.constant(chosen, tf.int64)
        order = tf.range(len(chosen))
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, seed)
        listed = tf.data.Dataset.from_tensor_slices(order)
        return listed.map(
            lambda i: tuple(tf.gather(of_all, i) for of_all in (places, keys, labels))
        )


class DigitsSource(ListedSource):
    """scikit-learn's 1,797 scans of handwritten digits: 8x8, grey, part of its installation."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self._images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
        self.location = "scikit-learn's digits"
        self.label_names = tuple(str(name) for name in digits.target_names)
        self.shape = self._images.shape[1:]
        places = np.arange(len(self._images))
        super().__init__({"train": places}, {"train": digits.target.astype(np.int32)})

    def decode(self, key: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.constant(self._images), key)


class FolderSource(ListedSource):
    """A folder with one sub-folder of images for each class, or such folders for each split.

    Args:
        path: The folder. If it has `train/` and `test/` or `validation/`, these are the splits.
        resized: Whether images are resized later; if not, all must have the first one's size.

    Raises:
        DataError: If the folder is missing, or its classes or images are.
    """

    def __init__(self, path: str, resized: bool):
        self.location = os.path.expanduser(path)
        if not tf.io.gfile.isdir(self.location):
            raise DataError(f"the folder of images {self.location!r} does not exist")
        files = {
            split: _class_files(folder) for split, folder in _split_folders(self.location).items()
        }
        self.label_names = tuple(files["train"])
        for split, of_split in files.items():
            _require_same_classes(self.location, split, tuple(of_split), self.label_names)
        keys = {
            split: np.array([*itertools.chain(*by.values())], object) for split, by in files.items()
        }
        labels = {
            split: np.repeat(
                np.arange(len(by), dtype=np.int32), [len(paths) for paths in by.values()]
            )
            for split, by in files.items()
        }
        super().__init__(keys, labels)
        self._first, (height, width, channels) = _first_shape(keys["train"])
        self.shape = (None, None, channels) if resized else (height, width, channels)

    def decode(self, key: tf.Tensor) -> tf.Tensor:
        return decode(tf.io.read_file(key), self.shape)

    def fault(self, split: str, place: int) -> str:
        path = self._keys[split][place]
        try:
            image = decode(tf.io.read_file(path), (None, None, self.shape[-1]))
        except (tf.errors.OpError, ValueError) as error:
            return f"{path!r} cannot be read as an image: {first_line(error)}"
        return (
            f"{path!r} is {_size_text(image.shape)} and {self._first!r} is"
            f" {_size_text(self.shape)}; give an image_size to bring all to one size"
        )


def _split_folders(root: str) -> dict[str, str]:
    """Returns the folder of each split; a root without splits is all "train"."""
    folders = {split: os.path.join(root, split) for split in ("train", "test", "validation")}
    present = {split: path for split, path in folders.items() if tf.io.gfile.isdir(path)}
    return present if "train" in present and len(present) > 1 else {"train": root}


def _class_files(folder: str) -> dict[str, list[str]]:
    """Lists the images of each class, by name of its sub-folder, all in alphabetical order."""
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    names = [name for name in names if not name.startswith(".")]
    classes = [name for name in names if tf.io.gfile.isdir(os.path.join(folder, name))]
    if len(classes) < 2:
        raise DataError(
            f"{folder!r} has {len(classes)} sub-folders; it needs one sub-folder of images for each"
            " class, and at least two classes"
        )
    files = {}
    for name in classes:
        path = os.path.join(folder, name)
        images = [f for f in tf.io.gfile.listdir(path) if f.lower().endswith(SUFFIXES)]
        if not images:
            raise DataError(f"{path!r} has no images ({', '.join(SUFFIXES)})")
        files[name] = [os.path.join(path, image) for image in sorted(images)]
    return files


def _require_same_classes(
    root: str, split: str, classes: tuple[str, ...], of_train: tuple[str, ...]
) -> None:
    different = sorted(set(classes) ^ set(of_train))
    if different:
        raise DataError(
            f"{root!r}: train and {split} must have the same classes; only one of them has"
            f" {', '.join(map(repr, different))}"
        )


def _first_shape(paths: np.ndarray) -> tuple[str, tuple[int, int, int]]:
    """Finds the first image that can be read; one with transparency counts as without.

    Returns:
        Its path, and its height, width and channels.

    Raises:
        DataError: If none can be read, with the first.
    """
    faults = []
    for path in paths:
        try:
            image = opened(tf.io.read_file(path).numpy())
        except (tf.errors.OpError, ValueError) as error:
            faults.append(first_line(error))
            continue
        return path, (image.height, image.width, 1 if is_grey(image) else 3)
    raise DataError(f"{paths[0]!r} cannot be read as an image: {faults[0]}")


def _size_text(shape: Sequence[int | None]) -> str:
    return f"{shape[0]}x{shape[1]}"
