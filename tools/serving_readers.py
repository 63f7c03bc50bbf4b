"""Reads a SavedModel as others do: tensorflow-serving-api's messages, and OpenVINO.

    python tools/serving_readers.py --saved_model=saved_model --images=a.npy --logits=b.npy

Runs where these packages are installed (tools/serving_constraints.txt), without tas_tf. The images
are uint8, the logits are what is expected. Exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import openvino
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

TOLERANCE = 1e-4  # of a logit, relative to the largest
WARM_UP = os.path.join("assets.extra", "tf_serving_warmup_requests")


def run(loaded, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
    """Answers a request as TensorFlow Serving does, from what the messages alone say."""
    signature = loaded.signatures[request.model_spec.signature_name or "serving_default"]
    inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
    response = predict_pb2.PredictResponse(model_spec=request.model_spec)
    outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    for name, value in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value.numpy()))
    return response


def through_messages(loaded, images: np.ndarray) -> np.ndarray:
    """Returns logits that went through serialized messages, there and back."""
    ((name, spec),) = loaded.signatures["serving_default"].structured_input_signature[1].items()
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "model"
    request.model_spec.signature_name = "serving_default"
    request.inputs[name].CopyFrom(tf.make_tensor_proto(images, dtype=spec.dtype))
    received = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    answer = run(loaded, received).SerializeToString()
    return tf.make_ndarray(predict_pb2.PredictResponse.FromString(answer).outputs["logits"])


def warm_up(loaded, file: str) -> list[str]:
    """Runs every request of a warm-up file; returns the signatures and batches."""
    batches = []
    for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        logits = tf.make_ndarray(run(loaded, request).outputs["logits"])
        batches.append(f"{request.model_spec.signature_name} of {len(logits)}")
    return batches


def by_openvino(folder: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits and classes as OpenVINO computes them, in float32."""
    core = openvino.Core()
    network = core.compile_model(
        core.read_model(folder), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    results = network(images)
    named = {name: value for port, value in results.items() for name in port.get_names()}
    return named["logits"], named["classes"]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for flag in ("--saved_model", "--images", "--logits"):
        arguments.add_argument(flag, required=True)
    flags = arguments.parse_args()
    images, expected = np.load(flags.images), np.load(flags.logits)
    loaded = tf.saved_model.load(flags.saved_model)
    good = True

    def compare(reader: str, logits: np.ndarray, classes: np.ndarray) -> None:
        nonlocal good
        difference = np.abs(logits - expected).max() / np.abs(expected).max()
        agreement = np.mean(classes == expected.argmax(axis=-1))
        good &= bool(difference <= TOLERANCE and agreement == 1)
        print(
            f"{reader}: {len(images)} images, logits within {difference:.1e} of the largest, "
            f"{agreement:.1%} of the classes agree"
        )

    logits = through_messages(loaded, images)
    compare("PredictRequest and PredictResponse", logits, logits.argmax(axis=-1))
    file = os.path.join(flags.saved_model, WARM_UP)
    if os.path.exists(file):
        print(f"Warm-up requests answered: {', '.join(warm_up(loaded, file))}")
    else:
        good = False
        print(f"Warm-up requests: {file} is missing")
    compare(
        f"OpenVINO {openvino.__version__.split('-')[0]}", *by_openvino(flags.saved_model, images)
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
