"""The projection: it lets the two sides of a residual addition have widths of their own."""

from __future__ import annotations

from typing import Any

import keras

from tas_tf.spaces.operations import projection, register


@keras.saving.register_keras_serializable(package="tas_tf")
class Projection(keras.layers.Layer):
    """A dense layer on the shortcut of a residual addition: `y = x K`, at first the identity.

    `narrow` puts a convolution or a dense layer in its place; or nothing, where both of its sides
    keep the same channels.

    Args:
        units: Channels that it gives.
        addition: Path of the addition.
    """

    def __init__(self, units: int, addition: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.units, self.addition = units, addition

    def build(self, input_shape: Any) -> None:
        """Makes the kernel (channels, units)."""
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="identity")

    def call(self, x: Any) -> Any:
        """Returns the projected input (batch, ..., units)."""
        return keras.ops.matmul(x, self.kernel)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape of what it gives."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Returns what makes it anew."""
        return {**super().get_config(), "units": self.units, "addition": self.addition}


register(Projection, projection)
