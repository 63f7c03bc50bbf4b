"""The root functions that measure on the device at hand: whole networks, and tables of layers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from tas_tf import configuration, messages, networks, runtime, runtimes
from tas_tf.data import ImageData
from tas_tf.errors import EXIT_DONE
from tas_tf.measuring import measure
from tas_tf.profiling import FITTED, JUDGED, Setting, describe_device, grid_widths, profile
from tas_tf.search_space import SearchSpace


def run_measure(
    architectures: Sequence[str],
    runtime_name: str,
    batch_size: int,
    threads: int,
    seconds: float,
    output: str | None,
) -> int:
    """Measures networks beside the unpruned ones.

    Args:
        architectures: Architecture files, run directories or names of published networks.
        runtime_name: One of `runtimes.RUNTIMES`.
        batch_size: Images in a call.
        threads: Number of threads.
        seconds: About how long a network and its unpruned one are timed.
        output: JSON file that also gets all times; None writes none.

    Returns:
        The exit code.
    """
    runtimes.check_runtime(runtime_name)
    loaded = {
        name: networks.load_architecture(configuration.find_architecture(name))
        for name in architectures
    }
    rows = []
    for row in measure(loaded, runtime_name, batch_size, threads, seconds):
        rows.append(row)
        print(f"Measured {len(rows)} of {len(loaded)}: {row['name']}", flush=True)
    setting = {"runtime": runtime_name, "batch_size": batch_size, "threads": threads}
    device = describe_device()
    print(
        f"{runtime_name}, batch {batch_size}, {threads} threads, on {device['processor']} "
        f"({device['cores']} cores)"
    )
    messages.say_times(rows)
    if output is not None:
        content = {**setting, "device": device, "networks": rows}
        runtime.write_whole(output, json.dumps(content, indent=2) + "\n")
    return EXIT_DONE


def run_profile(
    output: str,
    dry_run: bool,
    setting: tuple[str, int, int],
    data: ImageData,
    space: Callable[..., SearchSpace],
    seconds: float = 0.1,
    input_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
) -> int:
    """Measures a table of latencies of a search space on this device.

    Args:
        output: The table's file.
        dry_run: Whether only to say what would be done.
        setting: Runtime, batch size and number of threads.
        data: The images, which tell size and classes where the next two do not.
        space: Makes the search space from `num_classes` and `input_shape`.
        seconds: About how long a layer or a network is timed.
        input_shape: (height, width, channels) of the images.
        num_classes: Number of classes.

    Returns:
        The exit code.
    """
    measured_in = Setting(*setting)
    runtimes.check_runtime(measured_in.runtime)
    if input_shape is None or num_classes is None:
        info = data.describe()
        input_shape, num_classes = info.input_shape, info.num_classes
    searched = space(num_classes=num_classes, input_shape=input_shape)
    widths = grid_widths(searched).values()
    layers = sum(len(sources) * len(targets) for sources, targets in widths)
    print(
        f"Profile: {layers} layers of {len(widths)} kinds and {FITTED + JUDGED} whole networks, in "
        f"{measured_in.runtime}, batch {measured_in.batch_size}, {measured_in.threads} threads; "
        f"table {output}"
    )
    if dry_run:
        return EXIT_DONE
    messages.say_latency(profile(searched, output, measured_in, seconds))
    print(f"Table: {output}")
    return EXIT_DONE
