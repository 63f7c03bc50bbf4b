"""The data set of a run: splits, seeds, normalization, and a description for the record."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tas_tf.data.batches import (
    Feed,
    MemoryReader,
    Recipe,
    StreamReader,
    channel_statistics,
    open_reader,
)
from tas_tf.data.checks import (
    checked_channels,
    checked_size,
    checked_text,
    checked_whole,
    is_number,
    require,
    require_one_of,
)
from tas_tf.data.decoding import READ_ERRORS, decode_plain
from tas_tf.data.identity import FIELD, Identity
from tas_tf.data.parts import TRAINING_PARTS, Parts
from tas_tf.data.preprocessing import checked_name, named
from tas_tf.data.sources import ImageSource
from tas_tf.data.splitting import fingerprint
from tas_tf.data.tfds_source import open_source
from tas_tf.errors import DataError

_AUGMENTATIONS = ("none", "crop", "crop_flip", "resized_crop")
_EVALUATION_PARTS = ("test", "holdout", "architecture", "train")


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """What is known of a data set before its images are read.

    Attributes:
        dataset: Its name, as it was given.
        location: Where it lies.
        input_shape: (height, width, channels) of what a network receives.
        num_classes: Number of classes.
        label_names: Names of the classes, in the order of their labels.
        train_images: Images to train on, holdout excluded; None before a download.
        holdout_images: Images held out of the training set; None before a download.
        evaluation_images: Images of the evaluation split; None before a download.
        evaluation_split: The evaluation split that is used; None before a download.
        mean: Mean of each channel on the scale 0 to 1; None if it has still to be computed.
        deviation: Standard deviation of each channel, likewise.
        class_images: Images of each class in the training set; None where labels tell it alone.
        account: What is read and what is left out, for people, a line each.
        identity: What tells the images from others; None before a download.
    """

    dataset: str
    location: str
    input_shape: tuple[int, int, int]
    num_classes: int
    label_names: tuple[str, ...]
    train_images: int | None
    holdout_images: int | None
    evaluation_images: int | None
    evaluation_split: str | None
    mean: tuple[float, ...] | None
    deviation: tuple[float, ...] | None
    class_images: dict[str, int] | None
    account: tuple[str, ...]
    identity: Identity | None


class ImageData:
    """A set of labelled images, split for a search, for training and for evaluation.

    Args:
        dataset: `digits` (scikit-learn's, embedded), `folder:PATH`, the path of a folder with one
            sub-folder of images for each class, or the TFDS name of an image-classification set.
        data_dir: Where prepared TFDS sets lie; None is ~/tensorflow_datasets.
        download: Whether a TFDS set that is not prepared may be downloaded.
        image_size: Height and width that images are brought to, or one number for both; None keeps
            their size, which must then be one for all.
        mean: Mean of each channel on the scale 0 to 1; None computes it on the training set.
        deviation: Standard deviation of each channel, likewise.
        preprocessing: A name for both, see `preprocessing.named`: `none`, `tf`, `torch`, `caffe`.
        augmentation: `none`; `crop` (zero padding, random crop); `crop_flip` (and random flip);
            `resized_crop` (random part of random shape brought to size, and random flip).
        crop_padding: Pixels of padding on each side for `crop` and `crop_flip`.
        evaluation_split: Split that "test" stands for; None takes `test`, else `validation`, else
            a stratified tenth of the training set. `validation` also stands in for a `test`
            without labels.
        holdout: Share of the training set held out, to show accuracy without the test set.
        skip_corrupt: Share of a split that may be left out because it cannot be read; then every
            image is decoded once before a run, to find those. 0 stops at the first.

    Raises:
        DataError: If an argument has a wrong type or value.
    """

    def __init__(
        self,
        dataset: str,
        data_dir: str | None = None,
        download: bool = False,
        image_size: int | tuple[int, int] | None = None,
        mean: Sequence[float] | None = None,
        deviation: Sequence[float] | None = None,
        preprocessing: str | None = None,
        augmentation: str = "crop_flip",
        crop_padding: int = 4,
        evaluation_split: str | None = None,
        holdout: float = 0.0,
        skip_corrupt: float = 0.0,
    ):
        self.dataset = checked_text("dataset", dataset)
        self.data_dir = data_dir and checked_text("data_dir", data_dir)
        require(isinstance(download, bool), "download", download, "True or False")
        self.download = download
        self.image_size = checked_size(image_size)
        self.mean = checked_channels("mean", mean, "numbers from 0 to 1, one for each channel")
        self.deviation = checked_channels(
            "deviation", deviation, "numbers above 0 and up to 1, one for each channel"
        )
        self._given = self.mean, self.deviation
        self.preprocessing = checked_name(preprocessing, self._given)
        require_one_of("augmentation", augmentation, _AUGMENTATIONS)
        self.augmentation = augmentation
        self.crop_padding = checked_whole("crop_padding", crop_padding, 0)
        self.evaluation_split = evaluation_split and checked_text(
            "evaluation_split", evaluation_split
        )
        for name, share in (("holdout", holdout), ("skip_corrupt", skip_corrupt)):
            is_share = is_number(share) and 0 <= share < 1
            require(is_share, name, share, "a number from 0 to below 1")
        self.holdout = holdout
        self.skip_corrupt = skip_corrupt
        self._opened: ImageSource | None = None
        self._readers: dict[str, MemoryReader | StreamReader] = {}

    @functools.cached_property
    def parts(self) -> Parts:
        """Which of its images are which part."""
        return Parts(
            self._source(),
            dataset=self.dataset,
            evaluation_split=self.evaluation_split,
            holdout=self.holdout,
            skip_corrupt=self.skip_corrupt,
        )

    def describe(self) -> DataInfo:
        """Describes the data set from metadata, a listing and a sample of images, in seconds.

        Raises:
            DataError: If the data set is unknown, missing, not prepared, or does not fit.
        """
        source, parts = self._source(), self.parts
        source.require_sound(self.skip_corrupt)
        train, held_out, evaluated = parts.sizes() if source.counts else (None, None, None)
        return DataInfo(
            dataset=self.dataset,
            location=source.location,
            input_shape=self._input_shape(),
            num_classes=len(source.label_names),
            label_names=source.label_names,
            train_images=train,
            holdout_images=held_out,
            evaluation_images=evaluated,
            evaluation_split=parts.evaluation_split() if source.counts else None,
            mean=self.mean,
            deviation=self.deviation,
            class_images=source.account.classes.get("train"),
            account=tuple(source.account.lines(source.label_names)),
            identity=self.identity if source.counts else None,
        )

    @functools.cached_property
    def identity(self) -> Identity:
        """What tells the images from others, wherever they lie; not known before a download."""
        return self._source().identity()

    def prepare(self, seed: int) -> None:
        """Splits the training set, reads it if it is small, and completes mean and deviation.

        An evaluation split of its own is not read, but for what `skip_corrupt` has to find.

        Args:
            seed: Seed of the splits.

        Raises:
            DataError: If images cannot be read, or a class has too few.
        """
        checked_whole("seed", seed, 0)
        if not self._source().counts:
            self._source().fetch()
        self.describe()
        self.parts.draw(seed)
        with self._source().explained("train"):
            reader = self._reader("train")
            self.mean, self.deviation = self._given_for(self._source().shape[2])
            if self.mean is None or self.deviation is None:
                _, train = self.parts.places("train")
                mean, deviation = channel_statistics(reader, train)
                self.mean = self.mean or mean
                self.deviation = self.deviation or deviation

    def record(self) -> dict:
        """Returns what explains and repeats the split, as plain values for JSON."""
        mean, deviation = self._statistics()
        return {
            **self.description(),
            "seed": self.parts.seed,
            "splits": self.splits(self.identity),
            "mean": list(mean),
            "deviation": list(deviation),
            "skipped": self.skipped(),
        }

    def splits(self, identity: Identity) -> dict:
        """Returns what `record` says of every part, of images of this identity."""
        splits = {}
        for part in (*TRAINING_PARTS, "holdout", "test"):
            split, chosen = self.parts.places(part)
            name = fingerprint(chosen, identity.digest)
            splits[part] = {"of": split, "images": len(chosen), "fingerprint": name}
        return splits

    def description(self) -> dict:
        """Returns what `record` does, as far as it is known before images are read for a run."""
        info = self.describe()
        return {
            "dataset": self.dataset,
            "location": info.location,
            "counts": dict(self._source().counts),
            "evaluation_split": info.evaluation_split,
            "input_shape": list(info.input_shape),
            "num_classes": info.num_classes,
            "label_names": list(info.label_names),
            "account": self._source().account.record(),
            FIELD: self.identity.record(),
        }

    def skipped(self) -> dict[str, list[str]]:
        """Returns what `skip_corrupt` left out of each split: where it lies, and why."""
        return self.parts.skipped()

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turns a complaint about an image that is read inside into a DataError that names it."""
        try:
            yield
        except READ_ERRORS as error:
            for split in dict.fromkeys(("train", self.parts.places("test")[0])):
                culprit = self._source().culprit(split)
                if culprit is not None:
                    raise DataError(culprit) from error
            raise

    def training(
        self,
        batch_size: int,
        seed: int,
        part: str = "train",
        augment: bool = True,
        raw: bool = False,
    ) -> Feed:
        """Makes the feed of a training part; its order is new in every epoch.

        Args:
            batch_size: Images in every batch; what remains of an epoch is dropped.
            seed: Seed of order and augmentation.
            part: `train` (the training set less the holdout), `weights` or `architecture`.
            augment: Whether to augment.
            raw: Whether images stay uint8, not normalised.

        Returns:
            A feed of (images, labels): normalised float32 (batch, height, width, channels), and
            int32 (batch,).

        Raises:
            DataError: If the part has fewer images than a batch.
        """
        require_one_of("part", part, tuple(TRAINING_PARTS))
        split, chosen = self.parts.places(part)
        if checked_whole("batch_size", batch_size, 1) > len(chosen):
            raise DataError(
                f"a batch of {batch_size} is too large: the {TRAINING_PARTS[part]} of"
                f" {self.dataset!r} has {len(chosen)} images"
            )
        stream = tf.constant([seed, list(TRAINING_PARTS).index(part)], tf.int64)
        feed = self._reader(split).shuffled(chosen, batch_size, stream, augment)
        return feed if raw else feed.map(self._normalise)

    def evaluation(self, split: str, batch_size: int, raw: bool = False) -> tf.data.Dataset:
        """Returns every image of a part once, not augmented, the last batch as it comes.

        Args:
            split: `test` (the evaluation split), `holdout`, `architecture` or `train`.
            batch_size: Images in each batch but the last.
            raw: Whether images stay uint8, not normalised.

        Returns:
            A dataset of (images, labels): normalised float32 (batch, height, width, channels), and
            int32 (batch,).

        Raises:
            DataError: If the part is empty, has no labels or cannot be read.
        """
        require_one_of("split", split, _EVALUATION_PARTS)
        checked_whole("batch_size", batch_size, 1)
        of_split, chosen = self.parts.places(split)
        if not len(chosen):
            raise DataError(f"{self.dataset!r} has no {split}: holdout is {self.holdout}")
        with self._source().explained(of_split):
            if not self._source().has_labels(of_split):
                raise DataError(f"the split {of_split!r} of {self.dataset!r} has no labels")
            batches = self._reader(of_split).plain(chosen, batch_size)
        if raw:
            return batches
        return batches.map(self._normalise, tf.data.AUTOTUNE, deterministic=True)

    def decoded(self, encoded: tf.Tensor, shape: tuple[int, int, int] | None = None) -> tf.Tensor:
        """Decodes an image file of any size and brings it to size, as evaluation does.

        Args:
            encoded: The bytes of a PNG or JPEG file, a scalar.
            shape: Shape of the result; None takes that of the images, which must be at hand.

        Returns:
            An image, uint8 (height, width, channels).
        """
        height, width, channels = shape or self._input_shape()
        recipe = Recipe((height, width), self.augmentation, self.crop_padding)
        return recipe.fit(decode_plain(encoded, channels))

    def _source(self) -> ImageSource:
        if self._opened is None:
            resized = self.image_size is not None
            self._opened = open_source(self.dataset, self.data_dir, self.download, resized)
        return self._opened

    def _input_shape(self) -> tuple[int, int, int]:
        height, width, channels = self._source().shape
        if self.image_size is not None:
            height, width = self.image_size
        if height is None or width is None:
            raise DataError(f"the images of {self.dataset!r} differ in size: give an image_size")
        for name, given in zip(("mean", "deviation"), self._given_for(channels), strict=True):
            fits = given is None or len(given) == channels
            require(fits, name, given, f"{channels} numbers, one for each channel")
        return height, width, channels

    def _given_for(self, channels: int) -> tuple[Any, Any]:
        """Returns mean and deviation as far as they are given for so many channels."""
        return named(self.preprocessing, channels) if self.preprocessing else self._given

    def _reader(self, split: str) -> MemoryReader | StreamReader:
        if split not in self._readers:
            readable = self.parts.readable(split)
            self._readers[split] = open_reader(self._source(), split, self._recipe(), readable)
        return self._readers[split]

    def _recipe(self) -> Recipe:
        return Recipe(self._input_shape()[:2], self.augmentation, self.crop_padding)

    def _normalise(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, deviation = (tf.constant(each, tf.float32) for each in self._statistics())
        return (tf.cast(images, tf.float32) / 255 - mean) / deviation, labels

    def _statistics(self) -> tuple[Sequence[float], Sequence[float]]:
        """Returns mean and deviation of the channels, which `prepare` completes."""
        if self.mean is None or self.deviation is None:
            raise RuntimeError("ImageData.prepare(seed) has to be called first")
        return self.mean, self.deviation


def paired(data: ImageData, batch_size: int, seed: int) -> Feed:
    """Pairs batches of the weight half with batches of the architecture half.

    Args:
        data: A data set that is prepared.
        batch_size: Images of each half in a pair.
        seed: Seed of order and augmentation.

    Returns:
        A feed of ((images, labels), (images, labels)): weight half, architecture half. An epoch is
        the weight half's.
    """
    weights = data.training(batch_size, seed, "weights")
    architecture = data.training(batch_size, seed, "architecture")
    return weights.zip(architecture)
