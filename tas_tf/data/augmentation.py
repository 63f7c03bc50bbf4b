"""Augmentations of images; random only through stateless seeds."""

import tensorflow as tf

# Evaluation images are brought to this much more than the input's size before the centre is cut.
_CENTRE_CROP_MARGIN = 256 / 224
_AREA_RANGE = (0.08, 1.0)
_ASPECT_RANGE = (3 / 4, 4 / 3)


def crop_and_flip(
    padded: tf.Tensor, size: tuple[int, int], seed: tf.Tensor, flip: bool
) -> tf.Tensor:
    """Cuts a random window out of every image of a batch, and mirrors a random half of them.

    Two gathers do both for the whole batch: of rows, then of columns, in reverse where mirrored.

    Args:
        padded: Images (batch, padded_height, padded_width, channels).
        size: Height and width to cut.
        seed: Stateless seed (2,).
        flip: Whether to mirror.

    Returns:
        Images (batch, height, width, channels) of the same type.
    """
    height, width = size
    batch = tf.shape(padded)[0]
    seeds = tf.random.experimental.stateless_split(seed, 3)
    spare_rows, spare_columns = padded.shape[1] - height, padded.shape[2] - width
    top = tf.random.stateless_uniform([batch, 1], seeds[0], 0, spare_rows + 1, tf.int32)
    left = tf.random.stateless_uniform([batch, 1], seeds[1], 0, spare_columns + 1, tf.int32)
    rows = top + tf.range(height)
    columns = left + tf.range(width)
    if flip:
        mirrored = tf.random.stateless_uniform([batch, 1], seeds[2]) < 0.5
        columns = tf.where(mirrored, columns[:, ::-1], columns)
    images = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def pad(images: tf.Tensor, padding: int) -> tf.Tensor:
    """Surrounds images (batch, height, width, channels) with black pixels."""
    return tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])


def unpad(images: tf.Tensor, padding: int) -> tf.Tensor:
    """Takes off what `pad` added."""
    height, width = images.shape[1] - padding, images.shape[2] - padding
    return images[:, padding:height, padding:width]


def random_resized_crop(image: tf.Tensor, size: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
    """Cuts a random part of random shape, brings it to size, and mirrors it in half of all cases.

    Args:
        image: One image, uint8 (any_height, any_width, channels).
        size: Height and width of the result.
        seed: Stateless seed (2,).

    Returns:
        An image, uint8 (height, width, channels).
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seeds[0],
        min_object_covered=0.0,
        aspect_ratio_range=_ASPECT_RANGE,
        area_range=_AREA_RANGE,
    )
    channels = image.shape[-1]
    part = resize(tf.slice(image, begin, extent), size)
    mirrored = tf.random.stateless_uniform([], seeds[1]) < 0.5
    part = tf.where(mirrored, part[:, ::-1], part)
    return tf.ensure_shape(part, (*size, channels))


def centre_crop(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Brings an image's short side to somewhat more than the size asked for and cuts the centre.

    Args:
        image: One image, uint8 (any_height, any_width, channels).
        size: Height and width of the result.

    Returns:
        An image, uint8 (height, width, channels).
    """
    wanted = tf.constant(size, tf.float32)
    present = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.reduce_max(wanted / present) * _CENTRE_CROP_MARGIN
    enlarged = tf.cast(tf.round(present * scale), tf.int32)
    begin = (enlarged - tf.constant(size)) // 2
    image = resize(image, enlarged)
    return tf.slice(image, [begin[0], begin[1], 0], [*size, image.shape[-1]])


def resize(image: tf.Tensor, size: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    """Brings an image, uint8 (any_height, any_width, channels), to a height and width."""
    resized = tf.image.resize(image, size, antialias=True)
    return tf.saturate_cast(tf.round(resized), tf.uint8)
