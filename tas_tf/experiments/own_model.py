"""Models of users in experiments: the space of a file, and what is said of it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import keras
import tensorflow as tf

from tas_tf.config import gin_config
from tas_tf.errors import ArchitectureError, ModelError, SpecError
from tas_tf.experiments import messages
from tas_tf.models import network_files
from tas_tf.models.built_networks import NETWORKS
from tas_tf.models.channel_order import reversed_channels
from tas_tf.models.model_spaces import space_of
from tas_tf.runtime import devices
from tas_tf.spaces.choices import DEFAULT_RATIOS
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.training.supervised import check_fits


def own_model(
    num_classes: int,
    input_shape: Sequence[int],
    model: str | None = None,
    network: str | None = None,
    ratios: Sequence[float] = DEFAULT_RATIOS,
    width_divisor: int = 1,
    frozen: Sequence[str] = (),
    leave_out_branches: bool = False,
    tie_additions: bool = True,
    preprocessing: str | None = None,
) -> ModelSpace:
    """Returns the search space of a model in a file, or of a network that is built anew.

    Args:
        num_classes: Number of classes of the data.
        input_shape: (height, width, channels) of the images.
        model: Path of a Keras file, of which no code is run, or of a run directory; None builds
            `network`, which has not been trained.
        network: One of `built_networks.NETWORKS`, such as `mobilenetv2`, `vgg16` or `resnet20`.
        ratios: Candidate widths as shares of the unpruned width, in (0, 1].
        width_divisor: Candidates have a number of channels that is the nearest multiple of it.
        frozen: Paths of layers whose channels are not searched, nor those tied to them.
        leave_out_branches: Whether residual branches may be left out: the depth is searched too.
        tie_additions: Whether the two sides of a residual addition have one width. Otherwise each
            has its own, and a projection stands on the shortcut where these differ.
        preprocessing: That of `ImageData`. A model that wants `caffe` reads blue, green, red: it is
            made to read red, green, blue, as images are here and what is derived from it.

    Raises:
        SpecError: If the model cannot be read, or does not fit the data.
    """
    role = gin_config.described("own_model.model")
    try:
        if model is None:
            loaded = _built(network, input_shape, num_classes)
        else:
            loaded = network_files.load_model(model, role)
            messages.say_precision_of(model, network_files.half_precisions(model))
        if len(loaded.inputs) != 1 or len(loaded.outputs) != 1 or len(loaded.output_shape) != 2:
            raise SpecError(
                f"{role}: expected a classifier, of one input of images and one output (classes,). "
                f"Received: inputs {_shapes(loaded.inputs)}, outputs {_shapes(loaded.outputs)}"
            )
        check_fits(loaded, input_shape, num_classes, role)
        if preprocessing == "caffe" and model is not None and not _is_run(model):
            loaded = reversed_channels(loaded)
        shape = None if None not in loaded.input_shape[1:] else tuple(input_shape)
        return space_of(
            loaded,
            ratios=ratios,
            width_divisor=width_divisor,
            frozen=frozen,
            leave_out_branches=leave_out_branches,
            tie_additions=tie_additions,
            input_shape=shape,
        )
    except (ArchitectureError, ModelError) as error:
        raise SpecError(str(error)) from None


def _is_run(path: str) -> bool:
    """Whether a path is of a run directory: its network reads red, green, blue already."""
    return tf.io.gfile.isdir(os.path.expanduser(path))


def _built(network: str | None, input_shape: Sequence[int], num_classes: int) -> keras.Model:
    if network not in NETWORKS:
        raise SpecError(
            f"{gin_config.described('own_model.network')}: expected a path as own_model.model, or "
            f"one of {', '.join(NETWORKS)}. Received: {network!r}"
        )
    devices.set_seed(0)  # the same weights each time; trainings begin with those of their seed
    return NETWORKS[network](input_shape, num_classes)


def _shapes(tensors: Sequence) -> list[tuple]:
    return [tuple(tensor.shape[1:]) for tensor in tensors]
