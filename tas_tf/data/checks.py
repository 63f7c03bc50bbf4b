"""Checks of the arguments of `ImageData`; an error says which value would be right."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from tas_tf.errors import DataError


def require(condition: bool, name: str, value: Any, wanted: str) -> None:
    """Refuses a value unless the condition holds."""
    if not condition:
        raise DataError(f"ImageData.{name} = {value!r} is wrong: {wanted} is needed")


def require_one_of(name: str, value: Any, known: tuple) -> None:
    """Refuses a value that is not among those known."""
    require(value in known, name, value, f"one of {', '.join(map(repr, known))}")


def is_number(value: Any) -> bool:
    """Whether a value is a real number; a bool is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def checked_text(name: str, value: Any) -> str:
    """Returns a text that is not empty."""
    require(isinstance(value, str) and value.strip() != "", name, value, "a text in quotes")
    return value


def checked_whole(name: str, value: Any, least: int) -> int:
    """Returns a whole number of at least `least`."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    require(is_whole and value >= least, name, value, f"a whole number of at least {least}")
    return value


def checked_size(value: Any) -> tuple[int, int] | None:
    """Returns (height, width), of two numbers or of one for both; None stays None."""
    if value is None:
        return None
    size = tuple(value) if isinstance(value, list | tuple) else (value, value)
    require(len(size) == 2, "image_size", value, "a number of pixels, or (height, width)")
    height, width = (checked_whole("image_size", side, 1) for side in size)
    return height, width


def checked_channels(name: str, values: Any, wanted: str) -> tuple[float, ...] | None:
    """Returns one number for each channel; None stays None."""
    if values is None:
        return None
    is_list = isinstance(values, list | tuple) and all(is_number(value) for value in values)
    least = 0 if name == "mean" else np.nextafter(0, 1)
    fits = is_list and len(values) > 0 and all(least <= value <= 1 for value in values)
    require(fits, name, values, wanted)
    return tuple(float(value) for value in values)
