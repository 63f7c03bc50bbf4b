"""The head of a run's report: its title, what it came to, and the numbers that stand out."""

from __future__ import annotations

from collections.abc import Iterator

from tas_tf.deployment.speed import is_faster
from tas_tf.reports.measured_record import Measured
from tas_tf.reports.measurement_section import UNIFORM, decision, loss_alone, size_of, where
from tas_tf.reports.run_records import Run
from tas_tf.reports.tables import (
    amount,
    exported_calls,
    network_name,
    network_of,
    percent,
    role,
    unpruned_of,
)
from tas_tf.spaces.cost import cost
from tas_tf.training.callbacks import duration


def title(run: Run) -> str:
    """Returns the heading of a run's report."""
    unpruned = unpruned_of(run) or network_of(run)
    data = next((part.data for part in run.parts.values() if part.data), None)
    name = network_name(unpruned) if unpruned is not None else run.path.rsplit("/", 1)[-1]
    return f"{name} on {data['dataset']}" if data else f"Report of {name}"


def lead(run: Run) -> str:
    """Returns what a run came to, in a sentence or two."""
    network, unpruned = network_of(run), unpruned_of(run)
    results = {role(part): part.result for part in run.of_kind("training") if part.result}
    texts = []
    if run.missing:
        texts.append("This run is not complete: the first section says what is missing.")
    if network is not None and unpruned is not None and run.derivation is not None:
        time = _time(run)
        if time is not None:
            texts.append(
                "By the table of latencies the network found takes "
                f"{amount(time['cost'], 'latency')}, "
                f"{percent(time['cost'] / time['unpruned'], 1)} of the unpruned network's time."
            )
        texts.append(
            f"The network found has {amount(cost(network), 'macs')} MACs, "
            f"{percent(cost(network) / cost(unpruned), 1)} of {network_name(unpruned)}'s."
        )
        result = run.derivation.result
        if result is not None and not result["derivation"]["in_band"]:
            texts.append("It lies OUTSIDE the budget's band.")
    if run.search is not None and run.search.measured is not None:
        texts += _lead_texts(run.search.measured)
    texts += list(_speed_texts(run))
    said = [f"{percent(result['test']['accuracy'])} ({name})" for name, result in results.items()]
    if said:
        texts.append(f"Accuracy on the test split: {', '.join(said)}.")
    return " ".join(texts) or "Nothing has been found yet."


def _time(run: Run) -> dict[str, float] | None:
    """Returns the derived network's place in a budget of milliseconds, if there is one."""
    result = run.derivation.result if run.derivation is not None else None
    return result["derivation"]["budgets"].get("latency") if result is not None else None


def _lead_texts(measured: Measured) -> Iterator[str]:
    """Yields whether a search by measurement decided against what a user would pick instead."""
    lead = measured.leads.get(UNIFORM)
    if lead is not None:
        yield (
            f"By measurement it {where(lead.loss)} uniform narrowing within the same budget: "
            f"{decision(lead)} ({size_of(lead)}).{loss_alone(lead)}"
        )


def _speed_texts(run: Run) -> Iterator[str]:
    """Yields where the exported network is faster than the unpruned one, and where it hardly is."""
    fast: list[str] = []
    slow: list[str] = []
    for name, speed, call in exported_calls(run):
        said = f"{1 / call['share_of_time']:.2f} times as {name}, batch {call['batch_size']}"
        faster = is_faster(speed, call["share_of_time"])
        (fast if faster else slow).append(said)
    if slow:
        yield f"HARDLY FASTER than the unpruned network, exported alike: {'; '.join(slow)}."
        search = run.search
        of_space = "own_model" if search and search.setting("own_model.model") else "resnet"
        if search and search.setting(f"{of_space}.width_divisor") in (None, 1):
            yield f"Devices like widths that are multiples of 8: {of_space}.width_divisor = 8."
    if fast:
        yield f"Faster than the unpruned network, exported alike: {'; '.join(fast)}."


def tiles(run: Run) -> dict[str, str]:
    """Returns the numbers that stand out."""
    network, unpruned = network_of(run), unpruned_of(run)
    chosen = {}
    if network is not None and unpruned is not None:
        time = _time(run)
        if time is not None:
            chosen["time kept"] = percent(time["cost"] / time["unpruned"], 1)
        chosen["MACs kept"] = percent(cost(network) / cost(unpruned), 1)
        chosen["parameters kept"] = percent(
            cost(network, "parameters") / cost(unpruned, "parameters"), 1
        )
    for part in run.of_kind("training"):
        if part.result is not None:
            chosen[f"accuracy, {role(part)}"] = percent(part.result["test"]["accuracy"])
    seconds = [
        part.records[-1].get("elapsed_seconds", 0) for part in run.parts.values() if part.records
    ]
    if seconds:
        chosen["wall time of all epochs"] = duration(sum(seconds))
    return chosen
