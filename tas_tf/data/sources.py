"""Sources of images: their interface, and the embedded digits."""

import abc
import contextlib
import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tas_tf.data.account import Account
from tas_tf.data.identity import WHOLE, Group, Identity, digest
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
        account: What is read, and what is left out.
    """

    location: str
    counts: dict[str, int]
    label_names: tuple[str, ...]
    shape: tuple[int | None, int | None, int]
    skipping: bool = False
    account: Account

    @abc.abstractmethod
    def fetch(self) -> None:
        """Makes the images readable where they are not yet; this may download."""

    @abc.abstractmethod
    def identity(self) -> Identity:
        """Returns what tells the images from others, wherever they lie."""

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

    def require_sound(self, allowed: float) -> None:  # noqa: B027, most have metadata only
        """Refuses images that were looked at and cannot be used.

        Args:
            allowed: Share of a split that may be left out.

        Raises:
            DataError: If there are any and none may be left out, with what they are.
        """

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
        return unreadable_text(self.fault(split, int(places[0])), len(places), count, split)

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
        places, labels = np.arange(len(self._images)), digits.target.astype(np.int32)
        counts = np.bincount(labels).tolist()
        self.account = Account({"train": dict(zip(self.label_names, counts, strict=True))})
        super().__init__({"train": places}, {"train": labels})

    def decode(self, key: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.constant(self._images), key)

    def identity(self) -> Identity:
        whole = Group(len(self._images), contents=digest([self._images.tobytes()]))
        return Identity("digits", self.label_names, {"train": {WHOLE: whole}}, "all images")


def unreadable_text(first: str, unreadable: int, images: int, of: str) -> str:
    """Says that images cannot be read, and what to do.

    Args:
        first: What is wrong with the first.
        unreadable: How many cannot be read.
        images: Of how many.
        of: What these are.
    """
    share = math.ceil(1000 * unreadable / images) / 1000
    hint = f", or leave them out by ImageData.skip_corrupt = {share}" if share < 0.1 else ""
    many = f"Of {of}, {unreadable} of {images} images cannot be read"
    return f"{first}. {many}: put them right{hint}"
