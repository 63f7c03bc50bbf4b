"""Optimizers of the method, under the name that users import: `tas_tf.optimizers`."""

from tas_tf.training.optimizers import SGD, Adam

__all__ = ["SGD", "Adam"]
