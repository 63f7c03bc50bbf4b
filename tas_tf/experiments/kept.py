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
    outside the budget's band, the table gets the factor and the constant that fit all that were
    timed, and the derivation is repeated; of those the nearest to the budget stands, if possible
    not above it. A table of another device is taken as it is.

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
    setting = Setting(latency.runtime, latency.batch_size, latency.threads)
    tries: list[Kept] = []
    shares: list[float] = []
    timed: list[dict[str, float]] = []
    while True:
        (budget,) = (each for each in kept.budgets if each.kind.name == LATENCY)
        found = kept.derived.architecture
        shares.append(share_of_time(space, found, setting))
        timed.append({"by_table": cost(found, budget.kind) / budget.unpruned, "share": shares[-1]})
        messages.say_kept(budget, **timed[-1])
        inside = _contains(budget, shares[-1])
        derived = dataclasses.replace(kept.derived, in_band=kept.derived.in_band and inside)
        tries.append(dataclasses.replace(kept, derived=derived, record={"timed": timed}))
        if inside or len(tries) == MOST:
            break
        networks = [each.derived.architecture for each in tries]
        latency = corrected(latency, space.unpruned(), networks, shares)
        again = [
            dataclasses.replace(each, kind=latency.kind) if each is budget else each
            for each in kept.budgets
        ]
        try:
            kept = Kept(derive(again), again, latency, {})
        except BudgetError:  # the smallest network takes more than was asked
            break
    high = budget.amount / budget.unpruned
    ranks = [(share > (1 + SLACK) * high, abs(share - high)) for share in shares]
    return tries[ranks.index(min(ranks))]


def _contains(budget: Budget, share: float) -> bool:
    """Whether a share of the unpruned network's time lies in the band, as far as can be timed."""
    low, high = (amount / budget.unpruned for amount in (budget.floor, budget.amount))
    return (1 - SLACK) * low <= share <= (1 + SLACK) * high


def _is_of_this_device(table: LatencyTable) -> bool:
    """Whether networks can be timed here as the table was measured."""
    try:
        formats.check_runtime(table.runtime)
    except UserError:
        return False
    threads = devices.threads() if formats.FORMATS[table.runtime].by_tensorflow else table.threads
    here = table.device == runners.describe_device(table.runtime)
    return here and table.threads == threads and cluster.current() is None
