"""The measurement of networks on this device."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tas_tf.config import presets
from tas_tf.deployment import formats, runners
from tas_tf.deployment.speed import measure
from tas_tf.errors import EXIT_DONE
from tas_tf.experiments import messages
from tas_tf.models import network_files
from tas_tf.runtime import files


def run_measure(
    *,
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
        runtime_name: One of `formats.RUNTIMES`.
        batch_size: Images in a call.
        threads: Number of threads.
        seconds: About how long a network and its unpruned one are timed.
        output: JSON file that also gets all times; None writes none.

    Returns:
        The exit code.
    """
    formats.check_runtime(runtime_name)
    loaded = {
        name: network_files.load_architecture(presets.find_architecture(name))
        for name in architectures
    }
    rows = []
    for row in measure(loaded, runtime_name, batch_size, threads, seconds):
        rows.append(row)
        print(f"Measured {len(rows)} of {len(loaded)}: {row['name']}", flush=True)
    setting = {"runtime": runtime_name, "batch_size": batch_size, "threads": threads}
    device = runners.describe_device(runtime_name)
    print(
        f"{runtime_name}, batch {batch_size}, {threads} threads, on {device['processor']} "
        f"({device['cores']} cores)"
    )
    messages.say_times(rows)
    if output is not None:
        content = {**setting, "device": device, "networks": rows}
        files.write_whole(output, json.dumps(content, indent=2) + "\n")
    return EXIT_DONE
