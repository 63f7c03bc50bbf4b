"""Budgets of milliseconds that are kept: what a table gives is timed, and the table corrected."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from tas_tf.deployment import formats, runners
from tas_tf.deployment.latency_profile import corrected, share_of_time
from tas_tf.deployment.latency_runners import Setting
from tas_tf.errors import BudgetError, UserError
from tas_tf.experiments import messages
from tas_tf.runtime import cluster, devices
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.cost import LATENCY, Budget, cost
from tas_tf.spaces.derivation import Derivation
from tas_tf.spaces.latency_table import LatencyTable
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace

TIMED = "timed.json"  # of a run directory: the shares of time so far, by the networks' hashes
MOST = 4  # derivations: the second is mostly enough
# A share of time that is taken for in the band is so far out of it at most: that of a small network
# differs by a per cent from time to time.
SLACK = 0.02
# What is derived again leaves so much of the budget free, or a quarter of a narrow band: it would
# lie at the very top, and every other timing above it.
MARGIN = 0.01


@dataclasses.dataclass(frozen=True)
class Kept:
    """What was derived within budgets of milliseconds.

    Args:
        derived: What was derived.
        told: What `derive` told of it.
        budgets: The budgets, their costs by the corrected table.
        latency: The corrected table.
        record: What a result says of it; nothing where nothing was timed.
    """

    derived: Derivation
    told: Any
    budgets: list[Budget]
    latency: LatencyTable | None
    record: dict[str, Any]


def keep(
    derive: Callable[[Sequence[Budget]], tuple[Derivation, Any]],
    space: SearchSpace | ModelSpace,
    budgets: Sequence[Budget],
    latency: LatencyTable | None,
    directory: RunDirectory | None = None,
) -> Kept:
    """Derives, and derives again where the network takes another share of the time than was asked.

    What was derived is timed in turn with the unpruned network. Where its share of the time lies
    outside the budget's band, the table gets the factor and the constant that fit all that were
    timed, and the derivation is repeated; of those the nearest to the budget stands, if possible
    not above it. It counts as in the band if it is out of it by no more than `SLACK`. A table of
    another device is taken as it is.

    Args:
        derive: What derives within budgets, and tells what else is known of it.
        space: The search space.
        budgets: The budgets.
        latency: The table of latencies, if there is one.
        directory: The run directory, which keeps what each network took: a run that goes on has to
            derive what it derived before.
    """
    kept = Kept(*derive(budgets), [*budgets], latency, {})
    asked = any(budget.kind.name == LATENCY for budget in budgets)
    if latency is None or not asked or not _is_of_this_device(latency):
        return kept
    setting = Setting(latency.runtime, latency.batch_size, latency.threads)
    clock = _Clock(space, setting, directory)
    tries: list[Kept] = []
    timed: list[dict[str, float]] = []
    while True:
        (budget,) = (each for each in kept.budgets if each.kind.name == LATENCY)
        found = kept.derived.architecture
        share = clock.share(found)
        timed.append({"by_table": cost(found, budget.kind) / budget.unpruned, "share": share})
        messages.say_kept(budget, **timed[-1])
        in_band = kept.derived.in_band and _contains(budget, share, SLACK)
        derived = dataclasses.replace(kept.derived, in_band=in_band)
        tries.append(dataclasses.replace(kept, derived=derived, record={"timed": timed}))
        if _contains(budget, share) or len(tries) == MOST:
            break
        networks = [each.derived.architecture for each in tries]
        times = [budget.unpruned * share for share in (1.0, *(each["share"] for each in timed))]
        known = latency, space.unpruned(), networks, times, budget.amount
        tables = corrected(*known), corrected(*known, with_constant=False)
        again = _derived_again(derive, kept, budget, tables)
        if again is None or again.derived.architecture in networks:
            break
        kept = again
    high = budget.amount / budget.unpruned
    ranks = [(e["share"] > (1 + SLACK) * high, abs(e["share"] - high)) for e in timed]
    return tries[ranks.index(min(ranks))]


def _derived_again(
    derive: Callable[[Sequence[Budget]], tuple[Derivation, Any]],
    before: Kept,
    budget: Budget,
    tables: Sequence[LatencyTable],
) -> Kept | None:
    """Returns what is derived by the first of some tables by which a network keeps the budgets."""
    for table in tables:
        within = dataclasses.replace(budget, kind=table.kind)
        budgets = [within if each is budget else each for each in before.budgets]
        asked = [_aim(each) if each is within else each for each in budgets]
        with contextlib.suppress(BudgetError):
            return Kept(*derive(asked), budgets, table, {})
    return None


def _aim(budget: Budget) -> Budget:
    """Returns the band without its top."""
    amount = budget.amount * (1 - min(MARGIN, budget.tolerance / 4))
    return dataclasses.replace(budget, amount=amount, tolerance=1 - budget.floor / amount)


class _Clock:
    """Times networks, each once in a run, interrupted or not.

    Args:
        space: The search space.
        setting: What they are timed in.
        directory: The run directory; None to keep nothing.
    """

    def __init__(
        self, space: SearchSpace | ModelSpace, setting: Setting, directory: RunDirectory | None
    ):
        self._space, self._setting, self._directory = space, setting, directory
        self._known: dict[str, float] = {}
        if directory is not None and directory.exists(TIMED):
            self._known = directory.read_json(TIMED, ("shares",))["shares"]

    def share(self, network: Any) -> float:
        """Returns what a network takes of the unpruned one's time."""
        name = hashlib.sha256(network.to_json().encode()).hexdigest()
        if name not in self._known:
            self._known[name] = share_of_time(self._space, network, self._setting)
            if self._directory is not None:
                self._directory.write_json(TIMED, {"shares": self._known})
        return self._known[name]


def _contains(budget: Budget, share: float, slack: float = 0.0) -> bool:
    """Whether a share of the unpruned network's time lies in the band, or so far out of it."""
    low, high = (amount / budget.unpruned for amount in (budget.floor, budget.amount))
    return (1 - slack) * low <= share <= (1 + slack) * high


def _is_of_this_device(table: LatencyTable) -> bool:
    """Whether networks can be timed here as the table was measured."""
    try:
        formats.check_runtime(table.runtime)
    except UserError:
        return False
    here = runners.describe_device(table.runtime)
    if formats.FORMATS[table.runtime].by_tensorflow:
        has_threads = table.threads == devices.threads()
    else:
        has_threads = table.threads <= here["cores"]
    # A process may be held to a part of the cores: what counts is that the threads have theirs.
    is_same = {**table.device, "cores": 0} == {**here, "cores": 0}
    return is_same and has_threads and cluster.current() is None
