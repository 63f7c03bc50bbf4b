"""Quantization-aware training: a trained network adapts to int8 and becomes a LiteRT model."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from tas_tf.deployment import litert
from tas_tf.deployment.classifier import Classifier, Trained
from tas_tf.deployment.fake_quantization import fake_quantized, settle
from tas_tf.deployment.folding import folded
from tas_tf.deployment.litert import converter_of
from tas_tf.deployment.litert_int8 import checked_pixels
from tas_tf.training.progress import Progress
from tas_tf.training.schedules import warm_cosine
from tas_tf.training.supervised import Training

read = litert.read


def write(trained: Trained, path: str, images: np.ndarray) -> None:
    """Trains a network further as int8 computes it, and writes it as a LiteRT file.

    Args:
        trained: The network, which stays as it is and is the teacher.
        path: The file.
        images: (batch, height, width, channels) uint8, real training images.
    """
    student = fake_quantized(folded(trained.classifier), images)
    train(student, trained)
    content = int8_bytes(student)
    wide = float_operations(content)
    if wide:
        print(f"  in float32, for want of int8 in LiteRT: {', '.join(wide)}", flush=True)
    with open(path, "wb") as file:
        file.write(content)


def train(student: keras.Model, trained: Trained) -> None:
    """Trains a network that rounds, by distillation from the one that it was made of.

    Args:
        student: What `fake_quantized` returns.
        trained: The network, the images and the settings.
    """
    epochs, rate = trained.qat_epochs, trained.qat_learning_rate
    feed = trained.data.training(trained.at_most(trained.qat_batch_size), trained.seed, raw=True)
    training = QuantizationAwareTraining(student, trained.classifier)
    # The learning rate falls to 0 by half a cosine.
    training.compile(keras.optimizers.Adam(rate), warm_cosine(rate, epochs * feed.steps_per_epoch))
    pixels = feed.map(lambda images, labels: (tf.cast(images, tf.float32), labels))
    training.fit(pixels, epochs, [Progress(training.title, epochs, feed.steps_per_epoch)])


def int8_bytes(student: keras.Model) -> bytes:
    """Returns a network that rounds as the content of a LiteRT file that does so in int8.

    Args:
        student: What `fake_quantized` returns; its kernels are rounded for good.
    """
    settle(student)
    shape, variables = student.input_shape[1:], [v.value for v in student.variables]
    with converter_of(lambda x: student(x, training=False), variables, shape, tf.float32) as made:
        # Ranges are in the graph. TFLITE_BUILTINS_INT8 would ask for images to find them on.
        made.optimizations = [tf.lite.Optimize.DEFAULT]
        made.inference_input_type, made.inference_output_type = tf.uint8, tf.int8
        return checked_pixels(made.convert())


def float_operations(content: bytes) -> list[str]:
    """Returns the names of the operations that a LiteRT file has in float32."""
    model, names = schema.Model.GetRootAs(content), vars(schema.BuiltinOperator)
    called = {number: name for name, number in names.items() if not name.startswith("_")}
    graph, found = model.Subgraphs(0), set()
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        written = {graph.Tensors(tensor).Type() for tensor in operator.OutputsAsNumpy()}
        if schema.TensorType.FLOAT32 in written:
            found.add(called[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())])
    return sorted(found - {"DEQUANTIZE"})


class QuantizationAwareTraining(Training):
    """Distillation of a network that rounds as int8 does from the one that it was made of.

    Args:
        student: What `fake_quantized` returns.
        classifier: The float network: the teacher.
    """

    title = "quantization-aware training"

    def __init__(self, student: keras.Model, classifier: Classifier):
        super().__init__(student)
        # Logits (batch, classes) of pixels 0 to 255.
        self.teacher = lambda images, training: classifier.logits(images)
