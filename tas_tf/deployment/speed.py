"""Speed of networks in a runtime, beside the unpruned ones."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tas_tf.deployment import runners
from tas_tf.json_schema import share
from tas_tf.models.derived import build_model
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import LATENCY, cost
from tas_tf.spaces.model_space import ModelArchitecture
from tas_tf.spaces.search_space import unpruned

BATCH_SIZES = (1, 32)  # of the calls that an exported network is measured with
# What share of the expected cut must be cut of the time, for a network to be called faster: with
# 55 % of the MACs it is 1.4 times as fast.
_GAIN = (1 - 1 / 1.4) / (1 - 0.55)


def is_faster(speed: Mapping[str, Any], share_of_time: float) -> bool:
    """Whether what was cut is time that was cut, as far as one may expect.

    Args:
        speed: An artifact's part of a manifest: the share of the time that was asked for, if one
            was, and else that of the MACs, tells what to expect.
        share_of_time: What a call takes, as a share of the unpruned network's.
    """
    expected: float = speed["share_of_macs"]
    if share(speed.get("share_asked")):
        expected = speed["share_asked"]
    return 1 - share_of_time >= _GAIN * (1 - expected)


def share_asked(architecture: Architecture | ModelArchitecture) -> float | None:
    """Returns the share of the unpruned network's time that a search was given, if it was."""
    fields: Any = architecture.provenance
    try:
        budget = fields["derivation"]["budgets"][LATENCY]
        return min(1.0, budget["amount"] / budget["unpruned"])
    except (TypeError, LookupError, ArithmeticError):  # provenance may be any JSON
        return None


def unpruned_counterpart(architecture: Architecture | ModelArchitecture) -> tuple[Any, bool]:
    """Returns the network that an architecture was cut from, and whether its depth is known.

    Where the architecture does not tell, the unpruned network has as many blocks as are left.
    """
    if isinstance(architecture, ModelArchitecture):
        return architecture.space.unpruned(), True
    kept = [len(stage) for stage in architecture.stages]
    blocks: Any = (architecture.provenance or {}).get("dense_blocks_per_stage")
    known = (
        isinstance(blocks, (list, tuple))
        and len(blocks) == len(kept)
        and all(type(n) is int and 0 < m <= n for m, n in zip(kept, blocks, strict=True))
    )
    whole = unpruned(
        architecture.family,
        architecture.block,
        blocks if known else kept,
        architecture.input_shape,
        architecture.num_classes,
    )
    return whole, known


def measure(
    architectures: Mapping[str, Architecture],
    runtime: str,
    batch_size: int = 1,
    threads: int = 1,
    seconds: float = 10.0,
) -> Iterator[dict[str, Any]]:
    """Yields for every architecture what it and the unpruned network take, timed in turn.

    Weights are random: what they are does not change what a network takes.

    Args:
        architectures: Architectures by their names.
        runtime: One of `formats.RUNTIMES`.
        batch_size: Images in a call.
        threads: Number of threads.
        seconds: About how long each pair is timed.
    """
    for name, architecture in architectures.items():
        whole, known = unpruned_counterpart(architecture)
        models = {"network": build_model(architecture), "unpruned": build_model(whole)}
        times = runners.time_models(models, runtime, batch_size, threads, seconds)
        macs = {"network": cost(architecture), "unpruned": cost(whole)}
        yield {
            "name": name,
            "unpruned_blocks": [len(stage) for stage in getattr(whole, "stages", ())],
            "depth_is_known": known,
            "macs": macs,
            "share_of_macs": macs["network"] / macs["unpruned"],
            **_comparison(times),
        }


def measure_calls(
    network: Callable[[np.ndarray], Any],
    unpruned: Callable[[np.ndarray], Any],
    images: np.ndarray,
    seconds: float = 0.5,
) -> list[dict[str, Any]]:
    """Returns for each of `BATCH_SIZES` what calls of two networks take, timed in turn.

    Args:
        network: What gives logits of images: all of a call is timed.
        unpruned: The same of the unpruned network.
        images: (images, height, width, channels) that both take; fewer are repeated.
        seconds: About how long each batch is timed.
    """
    rows = []
    for batch_size in BATCH_SIZES:
        batch = np.resize(images, (batch_size, *images.shape[1:]))
        roles = {"network": network, "unpruned": unpruned}
        calls = {role: functools.partial(call, batch) for role, call in roles.items()}
        times = runners.time_calls(calls, seconds)
        rows.append({"batch_size": batch_size, **_comparison(times)})
    return rows


def _comparison(times: Mapping[str, runners.Times]) -> dict[str, Any]:
    """Returns the times of both networks as plain data, and the ratio of their medians."""
    return {
        "times": {role: dataclasses.asdict(of_role) for role, of_role in times.items()},
        "share_of_time": times["network"].median_ms / times["unpruned"].median_ms,
    }
