"""Batches of a split's images: from memory or streamed, in reading order or as a feed."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from tas_tf.data import augmentation
from tas_tf.data.sources import ImageSource

# Decoded splits up to this size are held in memory; larger ones stream.
MEMORY_LIMIT = 2**30
_READ_BATCH = 256


class Feed:
    """Training batches by global step; each batch is a function of (seed, step) alone.

    Args:
        steps_per_epoch: Number of whole batches in an epoch.
        make: Makes the dataset of the steps from its first argument to before its second.
    """

    def __init__(self, steps_per_epoch: int, make: Callable[[int, int], tf.data.Dataset]):
        self.steps_per_epoch = steps_per_epoch
        self._make = make

    def batches(self, start: int, stop: int) -> tf.data.Dataset:
        """Returns exactly the batches of the global steps start to stop - 1, read ahead.

        Raises:
            ValueError: If not 0 <= start <= stop.
        """
        if not 0 <= start <= stop:
            raise ValueError(f"batches({start}, {stop}): 0 <= start <= stop is needed")
        return self._make(start, stop).prefetch(tf.data.AUTOTUNE)

    def distributed(self, start: int, stop: int, strategy: tf.distribute.Strategy) -> Iterable:
        """Returns the same batches, each in as many parts as a strategy has replicas.

        The parts of a batch are as equal as can be, in the order of the replicas; a replica may
        get none of a small batch. Every worker makes the whole batch and keeps its own parts.

        Args:
            start: First global step.
            stop: The step to stop before.
            strategy: The strategy.
        """
        count = strategy.num_replicas_in_sync

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            batches = self.batches(start, stop)
            if count == 1:
                return batches
            own = count // context.num_input_pipelines
            first = context.input_pipeline_id * own
            parts = batches.flat_map(
                lambda *batch: tf.data.Dataset.range(first, first + own).map(
                    lambda number: tf.nest.map_structure(lambda t: _part(t, number, count), batch)
                )
            )
            return parts.prefetch(2 * own)

        return strategy.distribute_datasets_from_function(of_worker)

    def map(self, function: Callable) -> "Feed":
        """Returns a feed of what a function makes of each batch."""

        def make(start: int, stop: int) -> tf.data.Dataset:
            return _map(self._make(start, stop), function)

        return Feed(self.steps_per_epoch, make)

    def zip(self, other: "Feed") -> "Feed":
        """Returns a feed of pairs of batches, with the epochs of this one."""

        def make(start: int, stop: int) -> tf.data.Dataset:
            return tf.data.Dataset.zip((self.batches(start, stop), other.batches(start, stop)))

        return Feed(self.steps_per_epoch, make)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How images are brought to size and augmented.

    Attributes:
        size: Height and width.
        augmentation: `none`, `crop`, `crop_flip` or `resized_crop`.
        padding: Pixels of padding on each side for `crop` and `crop_flip`.
    """

    size: tuple[int, int]
    augmentation: str
    padding: int

    @property
    def crops(self) -> bool:
        return self.augmentation in ("crop", "crop_flip")

    @property
    def resizes_crops(self) -> bool:
        return self.augmentation == "resized_crop"

    def augment(self, padded: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Augments a batch that was padded."""
        flip = self.augmentation == "crop_flip"
        return augmentation.crop_and_flip(padded, self.size, seed, flip)

    def fit(self, image: tf.Tensor) -> tf.Tensor:
        """Brings one image to size, without augmentation."""
        if self.resizes_crops:
            return augmentation.centre_crop(image, self.size)
        if tuple(image.shape[:2]) == self.size:
            return image
        return tf.ensure_shape(augmentation.resize(image, self.size), (*self.size, image.shape[-1]))


class StreamReader:
    """Reads a split anew for every epoch, for sets that do not fit in memory."""

    def __init__(self, source: ImageSource, split: str, recipe: Recipe):
        self._source = source
        self._split = split
        self._recipe = recipe

    def plain(self, chosen: np.ndarray, batch_size: int) -> tf.data.Dataset:
        """Returns batches in reading order, not augmented.

        Args:
            chosen: Places in the reading order, ascending, int64 (examples,).
            batch_size: Images in each batch but the last.

        Returns:
            A dataset of (images, labels), uint8 (batch, height, width, channels), int32 (batch,).
        """
        examples = self._source.examples(self._split, chosen)
        return _map(examples, self._decode).batch(batch_size).prefetch(tf.data.AUTOTUNE)

    def shuffled(self, chosen: np.ndarray, batch_size: int, seed: tf.Tensor, augment: bool) -> Feed:
        """Returns a feed of batches in an order that is new in every epoch.

        Args:
            chosen: Places in the reading order, ascending, int64 (examples,).
            batch_size: Images in every batch; what remains of an epoch is dropped.
            seed: Stateless seed (2,).
            augment: Whether to augment.

        Returns:
            A feed of (images, labels), uint8 (batch, height, width, channels), int32 (batch,).
        """
        order_seed, image_seed = _split_seed(seed)
        steps = len(chosen) // batch_size
        prepare = self._augment if augment and self._recipe.resizes_crops else self._decode

        def prepared(number: tf.Tensor, example: tuple[tf.Tensor, ...]) -> tuple:
            place, key, label = example
            return prepare(place, key, label, _fold(image_seed, number))

        def make(start: int, stop: int) -> tf.data.Dataset:
            def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
                examples = self._source.examples(self._split, chosen, _fold(order_seed, epoch))
                first, last = _steps_of_epoch(epoch, steps, start, stop)
                return examples.skip(first * batch_size).take((last - first) * batch_size)

            examples = _epochs(start, stop, steps).flat_map(of_epoch).enumerate(start * batch_size)
            images = _map(examples, prepared)
            batches = images.batch(batch_size, drop_remainder=True)
            if not (augment and self._recipe.crops):
                return batches
            return _map(
                batches.enumerate(start),
                lambda step, batch: self._crop(batch[0], batch[1], _fold(image_seed, step)),
            )

        return Feed(steps, make)

    def _decode(
        self, _: tf.Tensor, key: tf.Tensor, label: tf.Tensor, seed: tf.Tensor | None = None
    ) -> tuple:
        return self._recipe.fit(self._source.decode(key)), label

    def _augment(self, _: tf.Tensor, key: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tuple:
        image = self._source.decode(key)
        return augmentation.random_resized_crop(image, self._recipe.size, seed), label

    def _crop(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple:
        padded = augmentation.pad(images, self._recipe.padding)
        return self._recipe.augment(padded, seed), labels


class MemoryReader:
    """Holds a whole split as one tensor, padded where images are cropped; as StreamReader else."""

    def __init__(self, source: ImageSource, split: str, recipe: Recipe, readable: np.ndarray):
        self._recipe = recipe
        self._padding = recipe.padding if recipe.crops else 0
        count = source.counts[split]
        height, width = recipe.size
        padding = self._padding
        shape = (count, height + 2 * padding, width + 2 * padding, source.shape[-1])
        images = np.zeros(shape, np.uint8)
        labels = np.zeros(count, np.int32)
        place = 0
        stream = StreamReader(source, split, recipe).plain(readable, _READ_BATCH)
        for of_batch, labels_of_batch in stream.as_numpy_iterator():
            end = place + len(of_batch)
            places = readable[place:end]
            images[places, padding : padding + height, padding : padding + width] = of_batch
            labels[places] = labels_of_batch
            place = end
        with tf.device("CPU:0"):
            self._images = tf.constant(images)
            self._labels = tf.constant(labels)

    def plain(self, chosen: np.ndarray, batch_size: int) -> tf.data.Dataset:
        """Does as StreamReader.plain."""
        places = tf.data.Dataset.from_tensor_slices(chosen).batch(batch_size)
        return _map(places, self._gather)

    def shuffled(self, chosen: np.ndarray, batch_size: int, seed: tf.Tensor, augment: bool) -> Feed:
        """Does as StreamReader.shuffled."""
        order_seed, image_seed = _split_seed(seed)
        steps = len(chosen) // batch_size
        places = tf.constant(chosen)

        def make(start: int, stop: int) -> tf.data.Dataset:
            def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
                # index_shuffle would do without the whole epoch, but its orders of different seeds
                # are alike: 50,000 places correlate by 0.75.
                order = tf.random.experimental.stateless_shuffle(places, _fold(order_seed, epoch))
                batches = tf.reshape(order[: steps * batch_size], (steps, batch_size))
                first, last = _steps_of_epoch(epoch, steps, start, stop)
                return tf.data.Dataset.from_tensor_slices(batches[first:last])

            batches = _epochs(start, stop, steps).flat_map(of_epoch)
            if not (augment and self._recipe.crops):
                return _map(batches, self._gather)
            return _map(
                batches.enumerate(start),
                lambda step, taken: self._crop(taken, _fold(image_seed, step)),
            )

        return Feed(steps, make)

    def _gather(self, places: tf.Tensor) -> tuple:
        images = augmentation.unpad(tf.gather(self._images, places), self._padding)
        return images, tf.gather(self._labels, places)

    def _crop(self, places: tf.Tensor, seed: tf.Tensor) -> tuple:
        padded = tf.gather(self._images, places)
        return self._recipe.augment(padded, seed), tf.gather(self._labels, places)


def open_reader(
    source: ImageSource, split: str, recipe: Recipe, readable: np.ndarray
) -> MemoryReader | StreamReader:
    """Reads a split into memory if it is small and every epoch sees the same decoded images.

    Args:
        source: Where the images come from.
        split: Its split.
        recipe: How images are brought to size and augmented.
        readable: Places of the images that can be read, ascending, int64 (examples,).
    """
    size = source.counts[split] * recipe.size[0] * recipe.size[1] * source.shape[-1]
    if size <= MEMORY_LIMIT and not recipe.resizes_crops:
        return MemoryReader(source, split, recipe, readable)
    return StreamReader(source, split, recipe)


def channel_statistics(
    reader: MemoryReader | StreamReader, chosen: np.ndarray
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel, on the scale 0 to 1.

    Args:
        reader: What reads a split.
        chosen: Places of the images, ascending, int64 (examples,).
    """
    total = squares = np.zeros(1, np.int64)
    pixels = 0
    for images, _ in reader.plain(chosen, _READ_BATCH).as_numpy_iterator():
        values = images.reshape(-1, images.shape[-1]).astype(np.int64)
        total = total + values.sum(axis=0)
        squares = squares + (values**2).sum(axis=0)
        pixels += len(values)
    mean = total / pixels
    deviation = np.sqrt(squares / pixels - mean**2)
    # A channel that never varies is left at its scale.
    deviation = np.where(deviation > 0, deviation, 255)
    return tuple((mean / 255).tolist()), tuple((deviation / 255).tolist())


def _part(batch: tf.Tensor, number: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the rows of a batch that one of `count` replicas gets."""
    size = batch.shape[0]
    if size is not None and size % count == 0:
        each = size // count
        return tf.slice(
            batch,
            [tf.cast(number, tf.int32) * each] + [0] * (len(batch.shape) - 1),
            [each, *batch.shape[1:]],
        )
    size = tf.shape(batch, tf.int64)[0]
    return batch[number * size // count : (number + 1) * size // count]


def _map(dataset: tf.data.Dataset, function: Callable) -> tf.data.Dataset:
    return dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _split_seed(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return _fold(seed, 0), _fold(seed, 1)


def _fold(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int64))


def _epochs(start: int, stop: int, steps: int) -> tf.data.Dataset:
    """Returns the epochs of `steps` steps that the global steps start to stop - 1 touch."""
    return tf.data.Dataset.range(start // steps, -(-stop // steps))


def _steps_of_epoch(
    epoch: tf.Tensor, steps: int, start: int, stop: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where in an epoch the global steps from start to before stop begin and end."""
    first = tf.maximum(start - epoch * steps, 0)
    last = tf.minimum(stop - epoch * steps, steps)
    return first, last
