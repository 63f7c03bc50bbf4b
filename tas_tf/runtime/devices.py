"""Devices of this machine: the strategy over them, threads, seeds, and a description."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import pathlib
import platform
import sys
from collections.abc import Iterable
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
        return _mirrored_strategy()
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored_strategy() -> tf.distribute.Strategy:
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
    return {
        "command": ["python", *sys.orig_argv[1:]],
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "device_names": device_names(),
        "cores": os.cpu_count(),
        "threads": threads(),
        "versions": {
            "python": platform.python_version(),
            **dict.fromkeys(packages, "not installed"),
            **versions(packages),
        },
    }


def describe_device() -> dict[str, Any]:
    """Returns processor, cores and versions: what times depend on."""
    machine = describe_machine()
    return {
        "processor": machine["device_names"][0],
        "cores": machine["cores"],
        "versions": machine["versions"],
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns the versions of packages, of those that are installed."""
    installed = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[package] = importlib.metadata.version(package)
    return installed


def device_names() -> list[str]:
    """Returns what the accelerators are called, or without any the processor."""
    accelerators = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
    return accelerators or [processor_name()]


def processor_name() -> str:
    """Returns what the processor is called."""
    return processor_facts().get("model name", platform.processor() or platform.machine())


def processor_facts() -> dict[str, str]:
    """Returns what Linux says of the processor, such as `model name` and `flags`; {} elsewhere."""
    source = pathlib.Path("/proc/cpuinfo")
    lines = source.read_text().splitlines() if source.is_file() else []
    pairs = (line.partition(":") for line in lines)
    # One block of lines for each core: the first one's.
    return {name.strip(): text.strip() for name, _, text in reversed(list(pairs))}
