"""OpenVINO files of float32, written by Keras' own export, run by OpenVINO on the processor."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.deployment.classifier import INPUT, OUTPUTS, Trained, answers, with_some
from tas_tf.deployment.running import Exportable, Logits, Runner, images_of, in_parts, inlined
from tas_tf.deployment.unreported import openvino
from tas_tf.errors import ArchitectureError
from tas_tf.runtime.files import first_line
from tas_tf.runtime.stderr import held_back

MODEL, WEIGHTS = "model.xml", "model.bin"
_LOGITS = OUTPUTS[0]


def write(trained: Trained, path: str, images: np.ndarray) -> None:
    """Writes a network as OpenVINO's two files in a folder: uint8 images in, `OUTPUTS` out."""
    os.makedirs(path)
    spec = trained.classifier.images
    constant = inlined(trained.classifier.logits, spec)
    _export(lambda pixels: answers(with_some(pixels, lambda some: constant(some)[0])), spec, path)


def read(trained: Trained, path: str, threads: int) -> Logits:
    """Loads OpenVINO's files."""
    network = _compiled(path, threads)
    return lambda images: in_parts(lambda part: network({INPUT: part})[_LOGITS], images)


def runner(model: keras.Model, batch_size: int, threads: int, samples: np.ndarray | None) -> Runner:
    """Returns a network in a request of OpenVINO."""
    with tempfile.TemporaryDirectory() as folder:
        spec = images_of(model, batch_size)
        _export(inlined(model, spec), spec, folder)
        return OpenVINORunner(_compiled(folder, threads))


class OpenVINORunner(Runner):
    """A network in a request, whose input and output stay where they are.

    Args:
        network: A network of one input and one output.
    """

    def __init__(self, network: openvino.CompiledModel):
        self.network = network
        self._request = network.create_infer_request()

    def load(self, images: np.ndarray) -> None:
        """Copies the images into the request's input."""
        self._request.get_input_tensor().data[:] = images

    def run(self) -> None:
        """Runs the request."""
        self._request.infer(share_outputs=True)

    def logits(self) -> np.ndarray:
        """Copies the logits out of the request."""
        return self._request.get_output_tensor().data.copy()


def _compiled(folder: str, threads: int) -> openvino.CompiledModel:
    # Where the processor has bfloat16, OpenVINO would round to it.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    return openvino.Core().compile_model(os.path.join(folder, MODEL), "CPU", settings)


def _export(function: Callable[[tf.Tensor], Any], spec: tf.TensorSpec, folder: str) -> None:
    path = os.path.join(folder, MODEL)
    with held_back():
        try:
            model = Exportable(function)
            model.export(path, format="openvino", input_signature=[spec], verbose=False)
        except Exception as error:  # whatever a converter raises
            named = re.search(r"^-- (.+)", str(error), re.MULTILINE)  # such as an operation
            said = named[1] if named else first_line(error)
            raise ArchitectureError(
                f"openvino: the network cannot be converted ({said})"
            ) from error
