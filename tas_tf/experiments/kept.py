"""Budgets of milliseconds that are kept: what a table gives is timed, and the table corrected."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from tas_tf.deployment import formats, runners
from tas_tf.deployment.latency_profile import corrected, share_of_time
from tas_tf.deployment.latency_runners import Setting
from tas_tf.errors import BudgetError, UserError
from tas_tf.experiments import messages
from tas_tf.runtime import cluster, devices
from tas_tf.spaces.cost import LATENCY, Budget, cost
from tas_tf.spaces.derivation import Derivation
from tas_tf.spaces.latency_table import LatencyTable
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace

MOST = 3  # derivations: the second is mostly enough
SLACK = 0.01  # of a share of time, which differs by tenths of a per cent from time to time


@dataclasses.dataclass(frozen=True)
class Kept:
    """What was derived within budgets of milliseconds.

    Args:
        derived: What was derived last.
        budgets: The budgets, their costs by the corrected table.
        latency: The corrected table.
        record: What a result says of it; nothing where nothing was timed.
    """

    derived: Derivation
    budgets: list[Budget]
    latency: LatencyTable | None
    record: dict[str, Any]


def keep(
    derive: Callable[[Sequence[Budget]], Derivation],
    space: SearchSpace | ModelSpace,
    budgets: Sequence[Budget],
    latency: LatencyTable | None,
) -> Kept:
    """Derives, and derives again where the network takes another share of the time than was asked.

    What was derived is timed in turn with the unpruned network. Where its share of the time lies
    outside the budget's band, the table gets the factor and the constant by which it is right of
    both, and the derivation is repeated. A table of another device is taken as it is.

    Args:
        derive: What derives within budgets.
        space: The search space.
        budgets: The budgets.
        latency: The table of latencies, if there is one.
    """
    kept = Kept(derive(budgets), [*budgets], latency, {})
    asked = any(budget.kind.name == LATENCY for budget in budgets)
    if latency is None or not asked or not _is_of_this_device(latency):
        return kept
    tries: list[dict[str, float]] = []
    for last in range(MOST, 0, -1):
        (budget,) = (each for each in kept.budgets if each.kind.name == LATENCY)
        found = kept.derived.architecture
        share = share_of_time(space, found, Setting(*_setting(latency)))
        tries.append({"by_table": cost(found, budget.kind) / budget.unpruned, "share": share})
        inside = _contains(budget, share)
        messages.say_kept(budget, **tries[-1])
        derived = dataclasses.replace(kept.derived, in_band=kept.derived.in_band and inside)
        kept = dataclasses.replace(kept, derived=derived, record={"timed": tries})
        if inside or last == 1:
            break
        latency = corrected(latency, space.unpruned(), found, share)
        again = [
            dataclasses.replace(each, kind=latency.kind) if each is budget else each
            for each in kept.budgets
        ]
        try:
            kept = Kept(derive(again), again, latency, kept.record)
        except BudgetError:  # the smallest network takes more than was asked
            break
    return kept


def _contains(budget: Budget, share: float) -> bool:
    """Whether a share of the unpruned network's time lies in the band, as far as can be timed."""
    low, high = (amount / budget.unpruned for amount in (budget.floor, budget.amount))
    return (1 - SLACK) * low <= share <= (1 + SLACK) * high


def _setting(table: LatencyTable) -> tuple[str, int, int]:
    return table.runtime, table.batch_size, table.threads


def _is_of_this_device(table: LatencyTable) -> bool:
    """Whether networks can be timed here as the table was measured."""
    try:
        formats.check_runtime(table.runtime)
    except UserError:
        return False
    threads = devices.threads() if formats.FORMATS[table.runtime].by_tensorflow else table.threads
    here = table.device == runners.describe_device(table.runtime)
    return here and table.threads == threads and cluster.current() is None
