"""Quantization-aware training: a trained network adapts to int8 and becomes a LiteRT model."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.deployment import litert
from tas_tf.deployment.classifier import Classifier, Trained
from tas_tf.deployment.litert import converter_of
from tas_tf.deployment.litert_int8 import checked_pixels
from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces.architecture import Architecture
from tas_tf.training.progress import Progress
from tas_tf.training.schedules import warm_cosine
from tas_tf.training.supervised import Training

_MOMENTUM = 0.9
_NORMALIZATION = "normalization"
_PIXELS = "pixels"
# How TFMOT calls the ranges of maps; those of kernels follow from the kernels.
_MAP_RANGE = re.compile(r"(?:output|post_activation|quantize_layer)_(min|max):0$")


read = litert.read


def write(trained: Trained, path: str, images: np.ndarray) -> None:
    """Trains a network further as int8 computes it, and writes it as a LiteRT file.

    Args:
        trained: The network, which stays as it is and is the teacher.
        path: The file.
        images: (batch, height, width, channels) uint8, real training images.
    """
    import tf_keras  # late: most exports need none

    keras.utils.set_random_seed(trained.seed)  # of what legacy Keras draws
    classifier, epochs = trained.classifier, trained.qat_epochs
    feed = trained.data.training(trained.at_most(trained.qat_batch_size), trained.seed, raw=True)
    student = quantizable(legacy_twin(classifier, trained.architecture), images)
    training = QuantizationAwareTraining(student, classifier)
    rate = trained.qat_learning_rate
    optimizer = tf_keras.optimizers.SGD(rate, _MOMENTUM, nesterov=True)
    # The learning rate falls to 0 by half a cosine.
    training.compile(optimizer, warm_cosine(rate, epochs * feed.steps_per_epoch))
    pixels = feed.map(lambda images, labels: (tf.cast(images, tf.float32), labels))
    training.fit(pixels, epochs, [Progress(training.title, epochs, feed.steps_per_epoch)])
    _set_ranges(student, {_PIXELS: (0.0, 255.0)})  # whatever the training has seen last
    shape, variables = classifier.image_shape, student.variables
    with converter_of(lambda x: student(x, training=False), variables, shape, tf.float32) as made:
        # Ranges are in the graph. TFLITE_BUILTINS_INT8 would ask for images to find them on.
        made.optimizations = [tf.lite.Optimize.DEFAULT]
        made.inference_input_type = tf.uint8
        content = checked_pixels(made.convert())
    with open(path, "wb") as file:
        file.write(content)


class _PixelLayers:
    """`tf_keras.layers` whose networks take pixels from 0 to 255: a 1x1 layer normalizes them."""

    def __init__(self, classifier: Classifier):
        self._scale, self._shift = classifier.scale_and_shift
        self._pixels: Any = None

    def __getattr__(self, name: str) -> Any:
        # Only here: TensorFlow's legacy Keras takes seconds to import.
        import tf_keras

        return getattr(tf_keras.layers, name)

    def Input(self, shape: tuple[int, int, int], name: str) -> Any:
        """Returns the normalized images."""
        import tf_keras

        self._pixels = tf_keras.layers.Input(shape=shape, name=name)
        layer = tf_keras.layers.DepthwiseConv2D(1, name=_NORMALIZATION)
        normalized = layer(self._pixels)
        layer.set_weights([self._scale[None, None, :, None], self._shift])
        return normalized

    def Model(self, images: Any, logits: Any, name: str) -> Any:
        """Returns the network from pixels to logits."""
        import tf_keras

        del images  # the normalized ones
        return tf_keras.Model(self._pixels, logits, name=name)


def legacy_twin(classifier: Classifier, architecture: Architecture) -> Any:
    """Builds the network of legacy Keras, which alone can be trained for quantization.

    Args:
        classifier: The trained network.
        architecture: Its architecture.

    Returns:
        A `tf_keras.Model` from pixels 0 to 255, float32, to the same logits.
    """
    twin = build_model(architecture, _PixelLayers(classifier))
    for layer in classifier.model.layers:
        if layer.weights:
            twin.get_layer(layer.name).set_weights(layer.get_weights())
    return twin


def quantizable(twin: Any, images: np.ndarray) -> Any:
    """Returns a network that rounds weights and maps as int8 does, and learns their ranges.

    Args:
        twin: What `legacy_twin` returns.
        images: (batch, height, width, channels) uint8, real images: the ranges that maps have on
            them are the first ones. Left to themselves they would start at -6 to 6, and take
            thousands of steps to move.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    layers = [layer for layer in twin.layers if not isinstance(layer, tf_keras.layers.InputLayer)]
    maps = tf_keras.Model(twin.input, [layer.output for layer in layers])
    outputs = maps(images.astype(np.float32), training=False)
    ranges = {
        layer.name: (tf.reduce_min(output), tf.reduce_max(output))
        for layer, output in zip(layers, outputs, strict=True)
    }
    model = tfmot.quantization.keras.quantize_model(twin)
    _set_ranges(model, {**ranges, _PIXELS: (0.0, 255.0)})
    return model


def _set_ranges(model: Any, ranges: Mapping[str, tuple[Any, Any]]) -> None:
    """Sets the ranges of maps, by the names of the layers that give them."""
    for layer in model.layers:
        # Every layer is wrapped but the one that quantizes the pixels.
        of_map = ranges.get(layer.layer.name if hasattr(layer, "layer") else _PIXELS)
        for variable in layer.weights:
            end = _MAP_RANGE.search(variable.name)
            if of_map and end:
                variable.assign(of_map[end[1] == "max"])


class QuantizationAwareTraining(Training):
    """Distillation of a network that rounds as int8 does from the one that it was made of.

    Args:
        student: What `quantizable` returns.
        classifier: The float network: the teacher.
    """

    title = "quantization-aware training"

    def __init__(self, student: Any, classifier: Classifier):
        super().__init__(student)
        # Logits (batch, classes) of pixels 0 to 255.
        self.teacher = lambda images, training: classifier.logits(images)

    @functools.cached_property
    def moved(self) -> list[tf.Variable]:
        """The variables that a step moves: not those that normalize the pixels."""
        # TFMOT's wrapper of a frozen layer trains it all the same.
        fixed = self.model.get_layer(f"quant_{_NORMALIZATION}").trainable_variables
        fixed = {variable.ref() for variable in fixed}
        return [v for v in self.model.trainable_variables if v.ref() not in fixed]
