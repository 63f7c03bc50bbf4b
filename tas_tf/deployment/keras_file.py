"""The Keras model itself as an artifact, which takes normalized images; and its runner."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from tas_tf.deployment.classifier import Trained
from tas_tf.deployment.running import Logits, Runner, TensorFlowRunner, images_of, traced
from tas_tf.models.derived import build_model, without_softmax
from tas_tf.spaces.model_space import ModelArchitecture


def write(trained: Trained, path: str, images: np.ndarray) -> None:
    """Writes the model, with the softmax that it may have ended in."""
    model = trained.classifier.model
    if isinstance(trained.architecture, ModelArchitecture):
        model = build_model(trained.architecture)
        model.set_weights(trained.classifier.model.get_weights())
    model.save(path)


def read(trained: Trained, path: str, threads: int) -> Logits:
    """Loads the model, with the preprocessing of the one that it was written from."""
    loaded = keras.saving.load_model(path, compile=False, safe_mode=True)
    classifier = dataclasses.replace(trained.classifier, model=without_softmax(loaded))
    return lambda images: classifier.logits(images).numpy()


def runner(model: keras.Model, batch_size: int, threads: int, samples: np.ndarray | None) -> Runner:
    """Returns the model as it is, traced."""
    return TensorFlowRunner(traced(model, images_of(model, batch_size)))
