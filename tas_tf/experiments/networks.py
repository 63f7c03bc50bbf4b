"""Networks that a run learns or starts from: which they were, wherever they lie now."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from tas_tf.errors import RunDirectoryError
from tas_tf.models import network_files
from tas_tf.runtime.run_directory import ARCHITECTURE, RunDirectory
from tas_tf.spaces.architecture import Architecture

NETWORKS = "networks.json"


def check_networks(directory: RunDirectory, networks: Mapping[str, keras.Model | None]) -> None:
    """Refuses other networks than those that a run directory was begun with.

    Args:
        directory: The run directory.
        networks: The networks by their roles, such as `teacher`; None where there is none.

    Raises:
        RunDirectoryError: With the role, if one has other weights.
    """
    if not directory.exists(NETWORKS):
        return
    before = directory.read_json(NETWORKS)
    for role, digest in _digests(networks).items():
        if before.get(role, digest) != digest:
            raise RunDirectoryError(
                f"{directory.path} was begun with another {role} (weights {str(before[role])[:12]} "
                f"in place of {digest[:12]}). Give that one, wherever it lies now, or another "
                "`run_dir`",
                field="run_dir",
            )


def record_networks(directory: RunDirectory, networks: Mapping[str, keras.Model | None]) -> None:
    """Records the networks by digests of their weights, once."""
    if not directory.exists(NETWORKS) and any(n is not None for n in networks.values()):
        directory.write_json(NETWORKS, _digests(networks))


def check_architecture(directory: RunDirectory, architecture: Architecture) -> None:
    """Refuses another architecture than the one that a run directory was begun with.

    Raises:
        RunDirectoryError: If it is another.
    """
    if directory.exists(ARCHITECTURE):
        if network_files.load_architecture(directory.path) != architecture:
            raise RunDirectoryError(
                f"{directory.path} was begun with another architecture: that is in "
                f"{directory.file(ARCHITECTURE)}. Give it, or another `run_dir`",
                field="run_dir",
            )


def _digests(networks: Mapping[str, keras.Model | None]) -> dict[str, str]:
    return {
        role: network_files.weights_digest(model)
        for role, model in networks.items()
        if model is not None
    }
