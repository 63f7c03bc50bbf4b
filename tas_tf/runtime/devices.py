"""Devices of this machine: the strategy over them, threads, seeds, and a description."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Iterable
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


def in_use() -> str:
    """Returns the devices that a run computes on: its accelerators, or the CPU."""
    accelerators = len(tf.config.list_logical_devices("GPU"))
    return f"{accelerators} GPUs" if accelerators > 1 else "GPU" if accelerators else "CPU"


def cores() -> int:
    """Returns how many processor cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def threads() -> int:
    """Returns how many threads one operation may use: by TensorFlow's settings, or by default."""
    asked = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    by_environment = int(asked) if asked.isascii() and asked.isdigit() else 0
    return tf.config.threading.get_intra_op_parallelism_threads() or by_environment or cores()


@functools.cache
def float32_products() -> str:
    """Returns in which precision the devices multiply float32 in convolutions, by trying it.

    Many GPUs round the factors to TF32, unless they are told otherwise.
    """
    return precision_of(lambda image, kernel: tf.nn.conv2d(image, kernel, 1, "SAME"))


def precision_of(convolve: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> str:
    """Returns the precision of a convolution's factors: `float32`, `TF32` or `bfloat16`.

    Args:
        convolve: From images (1, 16, 16, 64) and a kernel (3, 3, 64, 64), float32 both, to maps.
    """
    centre = tf.pad(tf.ones([1, 1, 1, 1]), [[1, 1], [1, 1], [0, 0], [0, 0]])
    kernel = centre * tf.eye(64)  # which changes no image
    for precision, bits in (("bfloat16", 8), ("TF32", 11)):  # one bit finer than each can tell
        image = tf.fill([1, 16, 16, 64], 1 + 2.0**-bits)
        if not tf.reduce_all(convolve(image, kernel) == image):
            return precision
    return "float32"


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
        "cores": cores(),
        "threads": threads(),
        "float32_products": float32_products(),
        "versions": {
            "python": platform.python_version(),
            **dict.fromkeys(packages, "not installed"),
            **versions(packages),
        },
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
