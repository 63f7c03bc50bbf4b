"""Preprocessing by name: the mean and the deviation that published weights want."""

from __future__ import annotations

from typing import Any

from tas_tf.data.checks import require, require_one_of

_PIXEL = 1 / 255
# The names that Keras has for them; `caffe` besides takes channels in the order blue, green, red.
NAMED = {
    "none": ((0.0,), (_PIXEL,)),
    "tf": ((0.5,), (0.5,)),
    "torch": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ((123.68 * _PIXEL, 116.779 * _PIXEL, 103.939 * _PIXEL), (_PIXEL,) * 3),
}


def checked_name(name: str | None, given: tuple[Any, Any]) -> str | None:
    """Returns a name if it is known, and no mean and deviation are given beside it.

    Raises:
        DataError: If not.
    """
    require_one_of("preprocessing", name, (None, *NAMED))
    alone = name is None or given == (None, None)
    require(alone, "preprocessing", name, "either this name, or mean and deviation,")
    return name


def named(name: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and deviation of red, green and blue on the scale 0 to 1.

    Args:
        name: One of `NAMED`: `none` leaves pixels from 0 to 255, `tf` brings them to -1 to 1,
            `torch` normalizes by ImageNet's statistics, `caffe` subtracts its mean.
        channels: Channels of the images.

    Raises:
        DataError: If it is made for images of three channels, and these are not.
    """
    mean, deviation = NAMED[name]
    fits = len(mean) in (1, channels)
    require(fits, "preprocessing", name, f"for images of {channels} channels 'none' or 'tf'")
    each = channels // len(mean)
    return mean * each, deviation * each
