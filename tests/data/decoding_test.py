"""Image files of every format and mode, decoded as Pillow decodes them."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tas_tf.data import decoding

_NOISE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
_IMAGE = Image.fromarray(_NOISE).resize((28, 20), Image.Resampling.BICUBIC)
_SIXTEEN = Image.fromarray(np.arange(0, 20 * 28 * 100, 100, dtype=np.uint16).reshape(20, 28))


def _file(form, mode, **options):
    image = _SIXTEEN if mode == "I;16" else _IMAGE.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "WEBP": ("L", "RGB", "RGBA", "P"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
    "PPM": ("1", "L", "RGB", "I;16"),
}
_MORE = {
    "PNG": [
        dict(mode="P", transparency=3),
        dict(mode="RGB", transparency=(1, 2, 3)),
        dict(mode="RGB", save_all=True, append_images=[ImageOps.flip(_IMAGE)]),
    ],
    "JPEG": [
        dict(mode="RGB", progressive=True),
        dict(mode="RGB", subsampling=2, quality=40),
        dict(mode="CMYK", quality=95),
        dict(mode="RGB", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
    ],
    "GIF": [dict(mode="P", save_all=True, append_images=[ImageOps.flip(_IMAGE).convert("P")])],
    "WEBP": [
        dict(mode="RGB", lossless=True, save_all=True, append_images=[ImageOps.flip(_IMAGE)]),
        dict(mode="RGB", quality=30),
    ],
    "TIFF": [dict(mode="RGB", compression="tiff_lzw"), dict(mode="L", compression="jpeg")],
    "PPM": [],
    "BMP": [],
}
_TOLD = {"mode", "compression", "quality", "lossless", "progressive", "subsampling", "save_all"}
_CASES = [(form, {"mode": mode}) for form, modes in _MODES.items() for mode in modes]
_CASES += [(form, options) for form, several in _MORE.items() for options in several]


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def decode(request):
    """Decodes files in a graph, as `tf.data` does."""
    channels = request.param
    dataset = tf.function(lambda file: decoding.decode(file, (None, None, channels)))
    return channels, lambda file: dataset(tf.constant(file)).numpy()


def _as_pillow(file, channels):
    image = Image.open(io.BytesIO(file))
    if image.mode.startswith("I"):  # 16 bits, of which Pillow would cut off the upper values
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _named(case):
    """The name of a case: images in it have addresses, which differ between processes."""
    form, options = case
    return "-".join([form, *(f"{key}={value}" for key, value in options.items() if key in _TOLD)])


@pytest.mark.parametrize(("form", "options"), _CASES, ids=map(_named, _CASES))
def test_a_file_is_decoded_as_pillow_decodes_it(decode, form, options):
    channels, decoded = decode
    file = _file(form, **options)
    np.testing.assert_array_equal(decoded(file), _as_pillow(file, channels))


def test_every_claimed_format_is_tried():
    assert set(_MODES) == set(_MORE) == set(decoding.FORMATS)


def _png_of_16_bits():
    """A PNG in colour with 16 bits a channel, which Pillow reads and does not write."""
    pixels = np.arange(4 * 5 * 3, dtype=">u2").reshape(4, 15) * 1000
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = {b"IHDR": struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0), b"IDAT": zlib.compress(rows)}
    file = b"\x89PNG\r\n\x1a\n"
    for name, content in {**parts, b"IEND": b""}.items():
        check = struct.pack(">I", zlib.crc32(name + content))
        file += struct.pack(">I", len(content)) + name + content + check
    return file


def test_of_16_bits_the_upper_8_are_taken(decode):
    channels, decoded = decode
    file = _png_of_16_bits()
    np.testing.assert_array_equal(decoded(file), _as_pillow(file, channels))


_DAMAGED = {
    "empty": b"",
    "text": b"no image at all",
    "png_begun": b"\x89PNG\r\n\x1a\n\0\0",
    "png_cut": _file("PNG", "RGB")[:80],
    "jpeg_cut": _file("JPEG", "RGB")[:300],
    "gif_cut": _file("GIF", "P")[:60],
    "webp_cut": _file("WEBP", "RGB")[:60],
    "bmp_cut": _file("BMP", "L")[:60],
    "tiff_of_32_bits": _file("TIFF", "F"),
    "palette_cut": _file("PNG", "P")[:60],
    "riff": b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(40),
}


@pytest.mark.parametrize("file", _DAMAGED.values(), ids=_DAMAGED)
def test_what_cannot_be_decoded_is_an_error_that_can_be_caught(decode, file):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode[1](file)
    with pytest.raises(ValueError):
        decoding.decode_any(file, decode[0])


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_what_is_served_is_decoded_alike(form):
    file = _file(form, "RGB")
    served = tf.function(lambda file: decoding.decode_plain(file, 3))(tf.constant(file))
    np.testing.assert_array_equal(served, _as_pillow(file, 3))
