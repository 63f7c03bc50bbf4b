"""ONNX files of float32, written by Keras' own export (tf2onnx) and run by onnxruntime."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from tf2onnx import handler, utils

from tas_tf.deployment.classifier import INPUT, OUTPUTS, Trained, answers
from tas_tf.deployment.running import Exportable, Logits, Runner, images_of, in_parts, inlined
from tas_tf.errors import ArchitectureError
from tas_tf.runtime.files import first_line
from tas_tf.runtime.stderr import held_back

_LOGITS = OUTPUTS[0]
_ERRORS_ONLY = 3  # of onnxruntime's log


def write(trained: Trained, path: str, images: np.ndarray) -> None:
    """Writes a network as an ONNX file: uint8 images in, `OUTPUTS` out."""
    spec = trained.classifier.images
    constant = inlined(trained.classifier.logits, spec)
    _export(lambda pixels: answers(constant(pixels)[0]), spec, path)


def read(trained: Trained, path: str, threads: int) -> Logits:
    """Loads an ONNX file."""
    session = _session(path, threads)
    return lambda images: in_parts(lambda part: session.run([_LOGITS], {INPUT: part})[0], images)


def runner(model: keras.Model, batch_size: int, threads: int, samples: np.ndarray | None) -> Runner:
    """Returns a network in a session of onnxruntime."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        spec = images_of(model, batch_size)
        _export(inlined(model, spec), spec, path)
        return OnnxRunner(_session(path, threads))


class OnnxRunner(Runner):
    """An ONNX network in a session, whose input and output stay where they are.

    Args:
        session: A session of one input and one output.
    """

    def __init__(self, session: onnxruntime.InferenceSession):
        self.session = session
        self._binding = session.io_binding()
        self._binding.bind_output(session.get_outputs()[0].name)

    def load(self, images: np.ndarray) -> None:
        """Binds the images to the input."""
        self._images = np.ascontiguousarray(images)  # the session reads from its memory
        self._binding.bind_cpu_input(self.session.get_inputs()[0].name, self._images)

    def run(self) -> None:
        """Runs the session."""
        self.session.run_with_iobinding(self._binding)

    def logits(self) -> np.ndarray:
        """Copies the logits out of the session."""
        return self._binding.copy_outputs_to_cpu()[0]


def _session(path: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])


def _export(function: Callable[[tf.Tensor], Any], spec: tf.TensorSpec, path: str) -> None:
    with held_back(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Keras asks numpy for what it once had
        try:
            model = Exportable(function)
            model.export(path, format="onnx", input_signature=[spec], verbose=False)
            # tf2onnx writes operations that ONNX does not have, too.
            written = onnx.load(path)
            onnx.checker.check_model(written)
        except Exception as error:  # whatever a converter raises
            raise ArchitectureError(
                f"onnx: the network cannot be converted ({first_line(error)})"
            ) from error
    _name_batches([*written.graph.input, *written.graph.output])
    onnx.save(written, path)


def _name_batches(values: Iterable[onnx.ValueInfoProto]) -> None:
    """Names the dimension that is not fixed, which tf2onnx numbers, for who reads the file."""
    for value in values:
        first = value.type.tensor_type.shape.dim[0]
        if first.dim_param:
            first.dim_param = "batch"


@handler.tf_op("Erfc")
class _Erfc:
    """Erfc, which GELU has and tf2onnx does not know: 1 less Erf."""

    @classmethod
    def version_9(cls, graph: Any, node: Any, **_: Any) -> None:
        """Puts operations of ONNX, of which version 9 has Erf first, in the place of a node."""
        kinds = {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
        dtype = utils.map_onnx_to_numpy_type(node.output_dtypes[0])
        one = graph.make_const(utils.make_name("one"), np.ones((), dtype))
        erf = graph.make_node("Erf", node.input, **kinds)
        graph.remove_node(node.name)
        graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output, **kinds)
