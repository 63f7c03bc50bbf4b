"""Files of trained networks: writing, and reading without running code from them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
import zipfile
from typing import Any

import keras
import tensorflow as tf

from tas_tf.config.presets import BASE, find_trained, trained_names
from tas_tf.errors import ArchitectureError
from tas_tf.models.derived import build_model
from tas_tf.models.model_spaces import space_of
from tas_tf.runtime.files import first_line, read_text, replacing
from tas_tf.runtime.run_directory import ARCHITECTURE, MODEL, RunDirectory
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.model_space import ModelArchitecture

_CONFIG = "config.json"  # in a Keras file
_HALF = ("bfloat16", "float16")
_MIXED = tuple(f"mixed_{name}" for name in _HALF)


def save_model(
    model: keras.Model, architecture: Architecture | ModelArchitecture, directory: RunDirectory
) -> keras.Model:
    """Writes `model.keras`, and returns it: rebuilt of stock layers, with the model's weights.

    Args:
        model: The trained network, whatever layers it was trained with.
        architecture: Its architecture.
        directory: The run directory.
    """
    stock = build_model(architecture)
    stock.set_weights(model.get_weights())
    write_model(stock, directory, MODEL)
    return stock


def write_model(model: keras.Model, directory: RunDirectory, name: str) -> None:
    """Writes a Keras file, whole or not at all."""
    with replacing(directory.file(name)) as temporary, tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, MODEL)
        model.save(local)
        tf.io.gfile.copy(local, temporary, overwrite=True)


def load_model(path: str, role: str = "model") -> keras.Model:
    """Loads a trained network; no code of the file is run.

    A model that computes in half precision does so in float32, as its weights are.

    Args:
        path: A run directory with `architecture.json` and `model.keras`, or a Keras file.
        role: What errors call it.

    Raises:
        ArchitectureError: If there is none, or it cannot be read.
    """
    directory = RunDirectory(path)
    if not tf.io.gfile.exists(directory.path):
        raise ArchitectureError(
            f"{role}: {path} does not exist; give the run directory of a trained network"
        )
    is_run = tf.io.gfile.isdir(directory.path)
    if is_run and not directory.exists(MODEL):
        raise ArchitectureError(f"{role}: {path} holds no trained network ({MODEL} is missing)")
    if not is_run and not path.endswith(".keras"):
        raise ArchitectureError(f"{role}: {path} is neither a run directory nor a .keras file")
    file = directory.file(MODEL) if is_run else directory.path
    model = None
    if is_run and not directory.exists(BASE):
        model = build_model(load_architecture(path))
    try:
        if model is None:
            with tempfile.TemporaryDirectory() as folder:
                local = os.path.join(folder, MODEL)
                tf.io.gfile.copy(file, local)
                _compute_in_float32(local)
                return keras.saving.load_model(local, compile=False, safe_mode=True)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # Keras warns of every part that a file lacks, and raises in the end.
            warnings.filterwarnings("ignore", "Skipping nested container", UserWarning)
            local = os.path.join(folder, MODEL)
            tf.io.gfile.copy(directory.file(MODEL), local)
            model.load_weights(local)
        return model
    # What Keras, h5py and zipfile raise at a damaged file has nothing else in common.
    except Exception as error:
        reason = first_line(error)
        raise ArchitectureError(
            f"{role}: {file if is_run else path} cannot be read: {reason}"
        ) from None


def half_precisions(path: str) -> list[str]:
    """Returns the policies of half precision that a Keras file has, which `load_model` drops."""
    file = os.path.expanduser(path)
    if tf.io.gfile.isdir(file):
        return []  # what a run trained
    with tf.io.gfile.GFile(file, "rb") as opened, zipfile.ZipFile(opened) as archive:
        found: set[str] = set()
        _in_float32(json.loads(archive.read(_CONFIG)), found)
    return sorted(found)


def _compute_in_float32(path: str) -> None:
    """Rewrites a Keras file whose layers compute in half precision."""
    found: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        config = _in_float32(json.loads(archive.read(_CONFIG)), found)
        if not found:
            return
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (parts | {_CONFIG: json.dumps(config)}).items():
            archive.writestr(name, content)


def _in_float32(config: Any, found: set[str]) -> Any:
    """Returns a configuration in which nothing is computed in half precision.

    Args:
        config: Any part of it, as JSON has it.
        found: Gets the names of the policies that were replaced.
    """
    if isinstance(config, list):
        return [_in_float32(part, found) for part in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        name = config["config"]["name"]
        if name in _MIXED:
            found.add(name)
            return {**config, "config": {"name": "float32"}}
    return {
        # What comes out of such a layer, where a nested model begins.
        key: "float32" if key == "dtype" and part in _HALF else _in_float32(part, found)
        for key, part in config.items()
    }


def load(name: str) -> keras.Model:
    """Loads a trained network by its name in `zoo/`, or from a place; no code of a file is run.

    Args:
        name: A name, a run directory, or a Keras file.

    Raises:
        ArchitectureError: If there is none.
    """
    path = find_trained(name)
    if path == name and not tf.io.gfile.exists(RunDirectory(name).path):
        raise ArchitectureError(
            f"there is no network {name!r}: no file or run directory of that name is here, and the "
            f"trained networks are {', '.join(trained_names())}"
        )
    return load_model(path)


def weights_digest(model: keras.Model) -> str:
    """Returns a hash of all weights of a network, in their order."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(value.tobytes())
    return digest.hexdigest()


def copy_weights(source: keras.Model, target: keras.Model, role: str) -> None:
    """Gives a model the weights of another of the same architecture.

    Args:
        source: Where they come from.
        target: The model that gets them.
        role: What errors call the source.

    Raises:
        ArchitectureError: If their weights have other shapes.
    """
    expected = [(variable.name, tuple(variable.shape)) for variable in target.weights]
    received = [(variable.name, tuple(variable.shape)) for variable in source.weights]
    if expected != received:
        raise ArchitectureError(f"{role}: its network is of another architecture")
    target.set_weights(source.get_weights())


def load_architecture(path: str) -> Any:
    """Reads an architecture from a JSON file, or from a run directory's `architecture.json`.

    Of a model that was read it is a `ModelArchitecture`; the model lies beside it.

    Raises:
        ArchitectureError: If it is missing or malformed.
    """
    path = os.path.expanduser(str(path))
    file = f"{path}/{ARCHITECTURE}" if tf.io.gfile.isdir(path) else path
    try:
        text = read_text(file)
    except (tf.errors.OpError, OSError) as error:
        reason = first_line(error)
        raise ArchitectureError(f"architecture: {file} cannot be read: {reason}") from None
    except UnicodeDecodeError:
        raise ArchitectureError(f"architecture: {file} is not UTF-8 text") from None
    base = os.path.join(os.path.dirname(file), BASE)
    if tf.io.gfile.exists(base):
        return ModelArchitecture.from_json(text, space_of(load_model(base)), source=file)
    return Architecture.from_json(text, source=file)
