"""Decoding of image files: pixels as Pillow gives them, uint8, grey or red, green and blue.

TensorFlow decodes what it decodes alike and without Python: JPEG in grey or colour, and PNG with 8
bits a channel. Pillow decodes all else that is read. An orientation in EXIF data is not applied: a
served network, which gets pixels or the bytes of a file, does not apply it either.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tas_tf.errors import EndOfDataError
from tas_tf.runtime.files import first_line

if TYPE_CHECKING:
    from PIL import Image

# What is raised where a file or a record cannot be read or decoded.
READ_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.OutOfRangeError,
    tf.errors.PermissionDeniedError,
    tf.errors.UnknownError,
    EndOfDataError,
    OSError,
)
# What is read, by Pillow's names of formats, and what names of such files end in.
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
_GREY = ("1", "L", "LA", "La", "I", "F")
_PNG_HEADER = 26  # bytes to the end of bit depth and colour type
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Channels without transparency, by colour type: grey, -, colour, palette, grey, -, colour.
_PNG_CHANNELS = (1, 9, 3, 3, 1, 9, 3)
_NOT_PLAIN = 9  # more channels than any image has that is asked for


def decode(encoded: tf.Tensor, shape: Sequence[int | None]) -> tf.Tensor:
    """Decodes an image file, which must have the given shape; of an animation the first picture.

    Transparency is dropped; of 16 bits a channel the upper 8 are taken; colour becomes grey as
    Pillow does it where one channel is asked for.

    Args:
        encoded: The bytes of a file in one of `FORMATS`, a scalar.
        shape: Height and width, None where any will do, and channels, 1 or 3.

    Returns:
        An image, uint8 (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: If it is no such file, or of another shape.
    """
    channels = shape[-1]
    if channels not in (1, 3):  # no file has them but TFDS' own
        return tf.ensure_shape(tf.io.decode_image(encoded, channels, tf.uint8, "", False), shape)
    decoded = tf.cond(
        _plain_channels(encoded) <= channels,
        lambda: decode_plain(encoded, channels),
        lambda: tf.numpy_function(functools.partial(_decode_scalar, channels), [encoded], tf.uint8),
    )
    return tf.ensure_shape(decoded, shape)


def decode_plain(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a PNG or a JPEG file by TensorFlow alone, as an exported network has to.

    Args:
        encoded: The bytes of the file, a scalar.
        channels: 1 or 3.

    Returns:
        An image, uint8 (any_height, any_width, channels).
    """
    # The operation for JPEG decodes PNG too. Pillow's transform is the accurate one.
    return tf.io.decode_jpeg(encoded, channels, dct_method="INTEGER_ACCURATE")


def _plain_channels(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the channels of what TensorFlow decodes as Pillow does, `_NOT_PLAIN` of all else."""
    padded = tf.strings.join([tf.strings.substr(encoded, 0, _PNG_HEADER), b"\0" * _PNG_HEADER])
    head = tf.io.decode_raw(tf.strings.substr(padded, 0, _PNG_HEADER), tf.uint8)
    depth, colour = head[24], tf.minimum(tf.cast(head[25], tf.int32), len(_PNG_CHANNELS) - 1)
    is_png = tf.reduce_all(head[:8] == tf.constant([*_PNG_SIGNATURE], tf.uint8)) & (depth == 8)
    is_jpeg = tf.reduce_all(head[:3] == tf.constant([0xFF, 0xD8, 0xFF], tf.uint8))
    of_png = tf.where(is_png, tf.gather(_PNG_CHANNELS, colour), _NOT_PLAIN)
    return tf.cond(is_jpeg, lambda: tf.io.extract_jpeg_shape(encoded)[2], lambda: of_png)


def _decode_scalar(channels: int, encoded: bytes | np.ndarray) -> np.ndarray:
    """Decodes bytes as TensorFlow gives them: outside of a graph, in an array."""
    return decode_any(np.asarray(encoded, object).item(), channels)


def decode_any(encoded: bytes, channels: int) -> np.ndarray:
    """Decodes a file of any of `FORMATS` by Pillow.

    Args:
        encoded: The bytes of the file.
        channels: 1 or 3.

    Returns:
        An image, uint8 (height, width, channels).

    Raises:
        ValueError: If it is no such file, or damaged.
    """
    image = opened(encoded)
    pixels = np.asarray(_as_bytes(image).convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def opened(encoded: bytes) -> Image.Image:
    """Returns a file's image, its pixels read.

    Raises:
        ValueError: If it is no image of `FORMATS`, or damaged.
    """
    from PIL import Image, UnidentifiedImageError

    if not encoded:
        raise ValueError("the file is empty")
    try:
        image = Image.open(io.BytesIO(encoded), formats=tuple(FORMATS))
        image.load()
    except UnidentifiedImageError:
        raise ValueError(f"it is no image of the formats {', '.join(FORMATS)}") from None
    # What the readers of damaged files raise has nothing else in common.
    except Exception as error:
        raise ValueError(first_line(error)) from None
    return image


def is_grey(image: Image.Image) -> bool:
    """Whether an image has no colour by its kind, whatever its pixels are."""
    return image.mode in _GREY or image.mode.startswith("I;16")


def _as_bytes(image: Image.Image) -> Image.Image:
    """Returns an image of 8 bits a channel: Pillow would cut off what is above 255."""
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.min() >= 0 and values.max() < 2**16:
            return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits a channel; 8 and 16 can be read")
    return image
