"""TensorFlow Serving's REST protocol, row format, between JSON and arrays: plain NumPy.

https://www.tensorflow.org/tfx/serving/api_rest#predict_api
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_BODY = 64 * 2**20  # bytes of a request
MAX_BATCH = 1_024
MAX_PIXELS = 2**24  # of an encoded image
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# Markers of a JPEG file whose segment holds the size: start of frame, of every kind.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class BadRequest(ValueError):
    """A request that the model has no answer to; the message is for who sent it."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """A signature with one input.

    Args:
        input_name: Name of the input.
        image_shape: (height, width, channels) of uint8 images; None for encoded images.
    """

    input_name: str
    image_shape: tuple[int, int, int] | None


def read_request(
    payload: Any, signatures: Mapping[str, Signature]
) -> tuple[str, str, np.ndarray | list[bytes]]:
    """Reads the JSON of a `:predict` request.

    Args:
        payload: The JSON: `{"signature_name": ..., "instances": [...]}`.
        signatures: Name to signature.

    Returns:
        Names of signature and input, and its value: uint8 (batch, height, width, channels), or
        the contents of image files.

    Raises:
        BadRequest: If it is anything else.
    """
    if not isinstance(payload, dict):
        raise BadRequest('expected a JSON object with "instances"')
    name = payload.get("signature_name", "serving_default")
    if not isinstance(name, str) or name not in signatures:
        raise BadRequest(
            f"signature_name: expected one of {', '.join(sorted(signatures))}. "
            f"Received: {_shown(name)}"
        )
    instances = payload.get("instances")
    if not isinstance(instances, list):
        raise BadRequest('"instances": expected a list with one entry for each image')
    if not 1 <= len(instances) <= MAX_BATCH:
        raise BadRequest(f'"instances": expected 1 to {MAX_BATCH}. Received: {len(instances)}')
    signature = signatures[name]
    values = [_of_input(instance, signature.input_name) for instance in instances]
    if signature.image_shape is None:
        return name, signature.input_name, [_encoded(value) for value in values]
    return name, signature.input_name, _images(values, signature.image_shape)


def predictions(outputs: Mapping[str, np.ndarray]) -> dict[str, list[dict[str, Any]]]:
    """Returns the answer: one object for each image, output name to value."""
    columns = {name: value.tolist() for name, value in outputs.items()}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def _of_input(instance: Any, name: str) -> Any:
    if not isinstance(instance, dict) or set(instance) == {"b64"}:
        return instance
    if set(instance) != {name}:
        raise BadRequest(f'"instances": expected the input {name!r}. Received: {_shown(instance)}')
    return instance[name]


def _images(values: list[Any], shape: tuple[int, int, int]) -> np.ndarray:
    try:
        images = np.array(values)
    except ValueError:  # rows of several lengths
        images = np.array(None)
    if images.dtype.kind not in "iu" or images.shape[1:] != shape:
        received = images.shape[1:] if images.dtype.kind in "iufb" else "no array of numbers"
        raise BadRequest(
            f'"instances": expected images of shape {shape}, whole numbers from 0 to 255. '
            f"Received: {received} ({images.dtype})"
        )
    if images.min() < 0 or images.max() > 255:
        raise BadRequest(
            '"instances": expected whole numbers from 0 to 255. '
            f"Received: {images.min()} to {images.max()}"
        )
    return images.astype(np.uint8)


def _encoded(value: Any) -> bytes:
    if not isinstance(value, dict) or not isinstance(value.get("b64"), str):
        raise BadRequest(
            f'"instances": expected {{"b64": TEXT}}, an image file in base64. '
            f"Received: {_shown(value)}"
        )
    try:
        content = base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest('"b64": expected base64') from None
    size = image_size(content)
    if size is None:
        raise BadRequest("an image is neither a PNG nor a JPEG file, or is cut off")
    if not 1 <= math.prod(size) <= MAX_PIXELS:
        raise BadRequest(
            f"an image has {size[0]}x{size[1]} pixels: at most {MAX_PIXELS} are decoded"
        )
    return content


def image_size(content: bytes) -> tuple[int, int] | None:
    """Returns width and height as the head of a PNG or JPEG file states them; None without."""
    if content.startswith(_PNG) and len(content) >= 24:
        return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])
    place = 2
    while content.startswith(_JPEG) and place + 9 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker in _FRAMES:
            height, width = content[place + 5 : place + 7], content[place + 7 : place + 9]
            return int.from_bytes(width), int.from_bytes(height)
        # A byte of 255 before a marker is padding.
        length = int.from_bytes(content[place + 2 : place + 4])
        place += 1 if marker == 0xFF else 2 + max(length, 2)
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
