"""Runners of networks: one for each runtime, and the time of a call."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.deployment.formats import FORMATS, check_runtime
from tas_tf.deployment.running import Runner, random_images
from tas_tf.errors import SpecError
from tas_tf.runtime import devices

WARM_ROUNDS = 5
LEAST_ROUNDS, MOST_ROUNDS = 20, 2_000
# Of rounds that take seconds fewer do: as many as take so long, but not fewer than that.
_ENOUGH_SECONDS, _FEWEST_ROUNDS = 5.0, 5

Clock = Callable[[], float]  # seconds since whenever


@dataclasses.dataclass(frozen=True)
class Times:
    """How long a call takes, in milliseconds.

    Args:
        p25_ms: 25th percentile, which other work on the machine hardly changes.
        median_ms: Median.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        rounds: Number of calls that were timed.
    """

    p25_ms: float
    median_ms: float
    p90_ms: float
    p99_ms: float
    rounds: int

    @classmethod
    def of(cls, milliseconds: np.ndarray) -> Times:
        """Returns the percentiles of the times of several calls."""
        p25, median, p90, p99 = np.percentile(milliseconds, (25, 50, 90, 99)).tolist()
        return cls(p25, median, p90, p99, len(milliseconds))


def use_threads(threads: int) -> None:
    """Limits TensorFlow to so many threads; other runtimes take their own number.

    Raises:
        SpecError: If TensorFlow has started with another number.
    """
    if threads < 1:
        raise SpecError(f"expected at least 1. Received: {threads}", field="threads")
    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        raise SpecError(
            "TensorFlow has started, and keeps the number of threads that it has", field="threads"
        ) from None


def runner(
    model: keras.Model,
    runtime: str,
    batch_size: int = 1,
    threads: int = 1,
    samples: np.ndarray | None = None,
) -> Runner:
    """Returns a network in a runtime.

    Args:
        model: The network, of stock layers.
        runtime: One of `formats.RUNTIMES`.
        batch_size: Images in a call, always as many.
        threads: Number of threads; TensorFlow has those of `use_threads`.
        samples: (images, height, width, channels) float32, normalized images from which int8
            takes its ranges; random ones by default, which is enough to measure times.

    Raises:
        SpecError: If there is no such runtime.
        InstallationError: If it is not installed.
        ArchitectureError: If it cannot run this network.
    """
    check_runtime(runtime)
    return FORMATS[runtime].load().runner(model, batch_size, threads, samples)


def measured_on(runtime: str) -> str:
    """Returns what computes in a runtime is called: only TensorFlow takes accelerators."""
    made = FORMATS.get(runtime)  # None in a table of another version
    by_tensorflow = made is not None and made.by_tensorflow
    return devices.device_names()[0] if by_tensorflow else devices.processor_name()


def describe_device(runtime: str) -> dict[str, Any]:
    """Returns processor, cores and versions: what times of a runtime depend on."""
    machine = devices.describe_machine()
    return {
        "processor": measured_on(runtime),
        "cores": machine["cores"],
        "versions": machine["versions"] | devices.versions(FORMATS[runtime].packages),
    }


def time_models(
    models: Mapping[Any, keras.Model],
    runtime: str,
    batch_size: int = 1,
    threads: int = 1,
    seconds: float = 10.0,
) -> dict[Any, Times]:
    """Times networks in a runtime, in turn, on random images that are there already.

    Args:
        models: The networks by their names.
        runtime: One of `formats.RUNTIMES`.
        batch_size: Images in a call.
        threads: See `runner`.
        seconds: See `timed`.
    """
    calls = {}
    for name, model in models.items():
        network = runner(model, runtime, batch_size, threads)
        network.load(random_images(model, batch_size))
        calls[name] = network.run
    return time_calls(calls, seconds)


def is_alone(runtime: str, threads: int) -> bool:
    """Returns whether a call is timed in processor time, which other work hardly changes.

    On a single thread a call takes the time that this process computes, as long as nothing but the
    processor does. TensorFlow has threads of its own.
    """
    return threads == 1 and not FORMATS[runtime].by_tensorflow


def clock_of(runtime: str, threads: int) -> Clock:
    """Returns the clock of calls that other work on the machine shall not slow down.

    In long calls, other than in short ones, other processes have their turns.
    """
    return time.process_time if is_alone(runtime, threads) else time.perf_counter


def time_calls(
    calls: Mapping[Any, Callable[[], object]],
    seconds: float = 10.0,
    clock: Clock = time.perf_counter,
) -> dict[Any, Times]:
    """Times calls in turn, round by round.

    Args:
        calls: Name to what is timed, such as `Runner.run` of several runners; a call returns when
            its work is done.
        seconds: About how long to go on, after the warm-up; at least 20 rounds are timed, or five
            where they take seconds.
        clock: What tells the seconds.
    """
    begun = in_turn(calls, 2, clock)
    round_seconds = max(sum(times[-1] for times in begun.values()) / 1e3, 1e-6)
    enough = int(_ENOUGH_SECONDS / round_seconds)
    in_turn(calls, min(WARM_ROUNDS - 2, max(enough, 1)), clock)
    least = min(LEAST_ROUNDS, max(_FEWEST_ROUNDS, enough))
    rounds = min(max(int(seconds / round_seconds), least), MOST_ROUNDS)
    return {name: Times.of(times) for name, times in in_turn(calls, rounds, clock).items()}


def in_turn(
    calls: Mapping[Any, Callable[[], object]], rounds: int, clock: Clock = time.perf_counter
) -> dict[Any, np.ndarray]:
    """Times calls round by round: what slows the machine down for a while slows down all of them.

    What a call leaves in the caches is met by each of the others, too.

    Args:
        calls: Name to what is timed; a call returns when its work is done.
        rounds: Number of rounds.
        clock: What tells the seconds.

    Returns:
        Milliseconds (rounds,) of each.
    """
    each = calls.values()
    times = np.array([[_milliseconds(call, clock) for call in each] for _ in range(rounds)])
    return dict(zip(calls, times.T, strict=True))


def _milliseconds(call: Callable[[], object], clock: Clock) -> float:
    start = clock()
    call()
    return 1e3 * (clock() - start)
