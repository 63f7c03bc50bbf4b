"""Devices of this machine: the strategy over them, threads, seeds, and a description."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import pathlib
import platform
import sys
from typing import Any

import keras
import tensorflow as tf

from tas_tf.runtime import cluster


def choose_strategy() -> tf.distribute.Strategy:
    """Returns the strategy of TF_CONFIG's workers, or of several accelerators, or the default."""
    workers = cluster.current()
    if workers is not None:
        return workers.strategy
    accelerators = tf.config.list_logical_devices("GPU")
    if len(accelerators) > 1:
        return _mirrored()
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored() -> tf.distribute.Strategy:
    # One for the whole process: two would number their collective operations alike, and clash.
    return tf.distribute.MirroredStrategy()


def device_types() -> list[str]:
    """Returns the types of the devices, such as CPU and GPU; starts them."""
    return [device.device_type for device in tf.config.list_logical_devices()]


def threads() -> int:
    """Returns how many threads one operation may use."""
    return tf.config.threading.get_intra_op_parallelism_threads() or len(os.sched_getaffinity(0))


def set_seed(seed: int) -> None:
    """Seeds the initial weights; all later randomness is a function of (seed, step)."""
    keras.utils.set_random_seed(seed)


def describe_machine() -> dict[str, Any]:
    """Returns the command as it was typed, devices and versions, for the record."""
    packages = ("tas_tf", "tensorflow", "keras", "tensorflow-datasets", "gin-config", "numpy")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "command": ["python", *sys.orig_argv[1:]],
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "device_names": device_names(),
        "cores": os.cpu_count(),
        "threads": threads(),
        "versions": versions,
    }


def device_names() -> list[str]:
    """Returns what the accelerators are called, or without any the processor."""
    accelerators = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
    processors = pathlib.Path("/proc/cpuinfo")
    models = []
    if processors.is_file():
        lines = processors.read_text().splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return accelerators or models[:1] or [platform.processor() or platform.machine()]
