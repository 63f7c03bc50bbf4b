"""Layers of the training twin: channels padded with zeros to widths that suit the device.

Variables have the true shapes: kernels, scales, statistics, the optimizer's slots and checkpoints
are those of the true network. Only activations are wider, by channels that are zero: a convolution
pads its kernel with zeros inside the step, so padding gets no gradient and changes nothing.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tas_tf.layers.normalization import batch_normalize, move


def aligned_width(width: int, grain: int) -> int:
    """Returns the least multiple of `grain` that is not below a width."""
    return -(-width // grain) * grain


def device_width(width: int, dtype: str) -> int:
    """Returns the number of channels that a map of `width` channels is computed with.

    Vector units take 16 channels at a time; narrow maps gain more from staying narrow. Measured
    for float32 and bfloat16 in `benchmarks/README.md`, Derived networks.

    Args:
        width: True number of channels.
        dtype: Type that is computed in.
    """
    if dtype == "float64":
        return width  # for exactness, not for speed
    if width > 28:
        return aligned_width(width, 16)
    aligned = aligned_width(width, 4)
    return 28 if aligned == 24 else aligned  # 24 channels are normalized more slowly than 28


class PaddedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose input and output may have zero channels behind the true ones."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the kernel in its true shape."""
        super().build(input_shape)
        self.input_spec = None

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves with the kernel, padded with zeros."""
        *size, inside, filters = self.kernel.shape
        pads = [[0, 0]] * len(size)
        pads += [[0, inputs.shape[-1] - inside], [0, self._width() - filters]]
        # Not tf.pad: where nothing else reads the kernel, in inference, TensorFlow for oneDNN
        # takes its padding for that of the images, and ends the process.
        kernel = tf.convert_to_tensor(self.kernel)
        zero = tf.zeros([], kernel.dtype)
        kernel = tf.raw_ops.PadV2(input=kernel, paddings=pads, constant_values=zero)
        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper())

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape with the padded width."""
        return (*super().compute_output_shape(input_shape)[:-1], self._width())

    def _width(self) -> int:
        return device_width(self.filters, self.compute_dtype)


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with the fused operation in training, of padded inputs.

    Same variables and names, same inference; the moving variance is the unbiased one.

    Args:
        synchronized: Whether statistics are those of all replicas, see `batch_normalize`.
        options: Arguments of the stock layer.
    """

    def __init__(self, synchronized: bool = True, **options: Any) -> None:
        super().__init__(synchronized=synchronized, **options)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the variables in their true shapes."""
        super().build(input_shape)
        self.input_spec = None

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Normalizes; channels behind the true ones stay zero."""
        count = self.gamma.shape[0]
        missing = [[0, inputs.shape[-1] - count]]
        dtype = self.moving_mean.dtype
        scale, offset, mean, variance = (
            tf.pad(tf.cast(tf.convert_to_tensor(v), dtype), missing)
            for v in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        if not training or not self.trainable:
            scale *= tf.math.rsqrt(variance + self.epsilon)
            offset -= mean * scale
            return inputs * tf.cast(scale, inputs.dtype) + tf.cast(offset, inputs.dtype)
        normalized, mean, variance = batch_normalize(
            inputs, scale, offset, self.epsilon, self.synchronized
        )
        move(self.moving_mean, mean[:count], 1 - self.momentum, self.synchronized)
        move(self.moving_variance, variance[:count], 1 - self.momentum, self.synchronized)
        return normalized


class UnfusedReLU(keras.layers.ReLU):
    """`keras.layers.ReLU` that is not fused with a normalization where that is slow.

    TensorFlow makes one operation of both, which takes two to three times as long as the two apart
    if the channels are no multiple of 8.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Applies the layer; a leaky ReLU that does not leak is fused with nothing."""
        return tf.nn.leaky_relu(inputs, 0.0) if inputs.shape[-1] % 8 else tf.nn.relu(inputs)


class PaddedDense(keras.layers.Dense):
    """`keras.layers.Dense` whose input may have zero features behind the true ones."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the kernel in its true shape."""
        super().build(input_shape)
        self.input_spec = None

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Applies the layer to the true features."""
        return super().call(inputs[:, : self.kernel.shape[0]], training=training)
