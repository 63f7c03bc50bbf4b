"""Formats of artifacts, which are runtimes too: each is declared once, here, and has one file.

Commands list and check them before TensorFlow is imported, which takes seconds: the file that
writes, reads and runs a format is imported when the format is used.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from tas_tf.errors import InstallationError, SpecError

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tas_tf.deployment.classifier import Trained
    from tas_tf.deployment.running import Logits, Runner


class Implementation(Protocol):
    """What the file of a format has."""

    def write(self, trained: Trained, path: str, images: np.ndarray) -> None:
        """Writes an artifact.

        Args:
            trained: The network.
            path: A path of this machine where nothing is yet.
            images: (images, height, width, channels) uint8, of the training set.

        Raises:
            ArchitectureError: If the format cannot express the network.
        """

    def read(self, trained: Trained, path: str, threads: int) -> Logits:
        """Loads an artifact; returns what gives its logits of uint8 images."""

    def runner(
        self, model: keras.Model, batch_size: int, threads: int, samples: np.ndarray | None
    ) -> Runner:
        """Returns a network in this runtime; the arguments are those of `runners.runner`."""


class Resizable(Implementation, Protocol):
    """What the file of a format also has whose networks can be given other widths."""

    def content(self, model: keras.Model, batch_size: int, samples: np.ndarray | None) -> bytes:
        """Returns what `runner` runs, as a file's content; the arguments are those of `runner`."""

    def resized(self, content: bytes, widths: Mapping[int, int], threads: int) -> Runner:
        """Returns a network at other widths, not converted again, with random images in it.

        Args:
            content: What `content` returns, of widths that occur as no other size in it.
            widths: What takes the place of each; none leaves the network as it is.
            threads: Number of threads.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of artifact.

    Args:
        file: Its name in a run directory.
        implementation: The file here that writes, reads and runs it.
        says: What a list of formats says of it.
        tolerance: Largest difference of a logit from the Keras model's, relative to the largest
            logit, that is written: rounding of float32. Of int8 its accuracy decides.
        quantized: Whether it computes in int8: then its accuracy is measured.
        settings: Fields of `Trained` that an artifact depends on, beside the network. With `align`
            its widths may be padded for the device.
        timed_as: The format of the unpruned network that its calls are timed beside; None where
            it serves nowhere.
        is_runtime: Whether networks can be timed in it without being exported.
        threads: Threads that its artifacts are read with; None is as many as TensorFlow has.
        by_tensorflow: Whether it runs on TensorFlow's devices, with TensorFlow's threads.
        resizable: Whether its implementation is `Resizable`.
        packages: The packages that it needs beyond our own, and what is imported of each.
        extra: The extra that brings them.
    """

    file: str
    implementation: str
    says: str = ""
    tolerance: float = 1e-4
    quantized: bool = False
    settings: tuple[str, ...] = ("align",)
    timed_as: str | None = None
    is_runtime: bool = True
    threads: int | None = None
    by_tensorflow: bool = False
    resizable: bool = False
    packages: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extra: str | None = None

    def load(self) -> Implementation:
        """Imports what writes, reads and runs it."""
        return importlib.import_module(f"tas_tf.deployment.{self.implementation}")


_LITERT = Format(
    file="model.tflite",
    implementation="litert",
    says="float32",
    timed_as="litert",
    threads=1,  # as LiteRT has it where nothing is said
    resizable=True,
)
_INT8 = dataclasses.replace(
    _LITERT,
    file="model_int8.tflite",
    implementation="litert_int8",
    says="int8, calibrated",
    tolerance=math.inf,
    quantized=True,
    settings=("align", "calibration_images", "seed"),
    timed_as="litert_int8",
)
_TRAINED_INT8 = dataclasses.replace(
    _INT8,
    file="model_int8_qat.tflite",
    implementation="quantization_aware",
    says="int8, trained for it",
    settings=(
        "calibration_images", "seed", "qat_epochs", "qat_batch_size", "qat_learning_rate",
    ),
    is_runtime=False,
)  # fmt: skip
FORMATS = {
    "saved_model": Format(
        file="saved_model",
        implementation="saved_model",
        timed_as="saved_model",
        by_tensorflow=True,
    ),
    "litert": _LITERT,
    "litert_int8": _INT8,
    "litert_qat": _TRAINED_INT8,
    "onnx": Format(
        file="model.onnx",
        implementation="onnx",
        says="float32",
        timed_as="onnx",
        packages={"onnx": "onnx", "onnxruntime": "onnxruntime", "tf2onnx": "tf2onnx"},
        extra="onnx",
    ),
    "openvino": Format(
        file="openvino",
        implementation="openvino",
        says="float32",
        timed_as="openvino",
        packages={"openvino": "openvino"},
        extra="openvino",
    ),
    "keras": Format(
        file="model.keras",
        implementation="keras_file",
        settings=(),
        by_tensorflow=True,
    ),
}
RUNTIMES = tuple(name for name, each in FORMATS.items() if each.is_runtime)


def told(names: Iterable[str]) -> str:
    """Returns a list of formats for people, with what each is."""
    says = {name: FORMATS[name].says for name in names}
    return ", ".join(f"{name} ({text})" if text else name for name, text in says.items())


def parse_formats(formats: str | Sequence[str]) -> list[str]:
    """Returns names of formats, each once, from a list or from text with commas.

    Raises:
        SpecError: If one is unknown; it lists the known.
        InstallationError: If one needs a package that is not installed.
    """
    texts = [formats] if isinstance(formats, str) else formats
    names = list(dict.fromkeys(name.strip() for text in texts for name in text.split(",")))
    if not names:
        raise SpecError(f"expected one or several of {', '.join(FORMATS)}", field="formats")
    for name in names:
        _check(name, FORMATS, "expected one or several of", "formats")
    return names


def check_runtime(name: str) -> None:
    """Refuses a runtime that there is not, or that is not installed.

    Raises:
        SpecError: If it is none of `RUNTIMES`; it lists them.
        InstallationError: If one of its packages is missing.
    """
    _check(name, RUNTIMES, "expected one of", "runtime")


def _check(name: str, known: Collection[str], expected: str, field: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SpecError(f"{expected} {', '.join(known)}. Received: {name!r}{hint}", field=field)
    packages, extra = FORMATS[name].packages, FORMATS[name].extra
    missing = [each for each in packages if importlib.util.find_spec(packages[each]) is None]
    if missing:
        raise InstallationError(
            f"{name} needs {' and '.join(missing)}, not installed here: "
            f"pip install 'tas_tf[{extra}]'",
            field=field,
        )
