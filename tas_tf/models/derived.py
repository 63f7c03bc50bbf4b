"""Networks of either kind of space: its supernet, and the Keras model of an architecture."""

from __future__ import annotations

from typing import Any, overload

import keras

from tas_tf.errors import ArchitectureError
from tas_tf.models import spec_compiler
from tas_tf.models.inheritance import inherit_weights
from tas_tf.models.interpreter import ModelSupernet
from tas_tf.models.model_spaces import untied
from tas_tf.models.narrowing import importance, most_important, narrow, own_weights
from tas_tf.models.supernet import Supernet
from tas_tf.models.traversal import last_operation, softmax_of
from tas_tf.runtime import environment
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace
from tas_tf.spaces.search_space import SearchSpace


@overload
def supernet_of(space: SearchSpace, **options: Any) -> Supernet: ...
@overload
def supernet_of(space: ModelSpace, **options: Any) -> ModelSupernet: ...
def supernet_of(space: SearchSpace | ModelSpace, **options: Any) -> Supernet | ModelSupernet:
    """Returns the supernet of a search space.

    Args:
        space: The search space.
        options: Those of `Supernet`; or of `ModelSupernet`, if the space is of a model.
    """
    if isinstance(space, ModelSpace):
        return ModelSupernet(space, **options)
    return Supernet(space, **options)


def build_model(
    architecture: Architecture | ModelArchitecture,
    start_from: keras.Model | Supernet | ModelSupernet | None = None,
) -> keras.Model:
    """Builds the network of an architecture.

    Args:
        architecture: The architecture.
        start_from: What it takes its weights from: the supernet that was searched; or, for a model
            that was read, that model, of which the most important channels of every group are kept.
            None begins with new weights.

    Raises:
        ArchitectureError: If its weights cannot be taken from there.
        InstallationError: If Keras has settings that are not supported.
    """
    environment.check_keras()
    if isinstance(architecture, ModelArchitecture):
        return _narrowed(architecture, start_from)
    model = spec_compiler.build_model(architecture)
    if isinstance(start_from, Supernet):
        inherit_weights(model, architecture, start_from)
    elif start_from is not None:
        raise ArchitectureError(
            "start_from: expected the supernet of this architecture's space. Received: "
            f"{type(start_from).__name__}"
        )
    return model


def _narrowed(architecture: ModelArchitecture, start_from: Any) -> keras.Model:
    space, left_out = architecture.space, architecture.left_out
    if isinstance(start_from, ModelSupernet):
        weights, keep = start_from.weights_of(architecture), start_from.kept(architecture)
        return narrow(space.model, space.graph, keep, weights, left_out)
    model = space.model if start_from is None else start_from
    if space.graph.projections:
        model = untied(model, space.graph.input_shapes)
    keep = most_important(importance(model, space.graph), architecture.widths)
    weights = None if start_from is None else own_weights
    return narrow(model, space.graph, keep, weights, left_out)


def without_softmax(model: keras.Model) -> keras.Model:
    """Returns a classifier that gives logits: of one that ends in a softmax, what is before it.

    The model itself may change; its weights and their order stay.

    Args:
        model: The classifier.
    """
    last = last_operation(model)
    found = softmax_of(last)
    if found == "alone":
        return keras.Model(model.inputs, last.input, name=model.name)
    if found:
        last.activation = keras.activations.linear
    return model
