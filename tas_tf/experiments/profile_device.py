"""The root function of a profile: a table of latencies of this device."""

from __future__ import annotations

from collections.abc import Callable

from tas_tf.data.image_data import ImageData
from tas_tf.deployment import runners
from tas_tf.deployment.latency_profile import (
    FITTED,
    JUDGED,
    Setting,
    grid_widths,
    profile,
)
from tas_tf.errors import EXIT_DONE
from tas_tf.experiments import messages
from tas_tf.spaces.search_space import SearchSpace


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
    runners.check_runtime(measured_in.runtime)
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
