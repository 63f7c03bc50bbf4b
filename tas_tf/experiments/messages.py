"""Messages of the commands: the plan, the result, and a pipeline's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.console
import rich.table
import rich.text
import tensorflow as tf

from tas_tf import plain_text
from tas_tf.data.image_data import DataInfo
from tas_tf.deployment import formats, runners
from tas_tf.runtime import devices, run_directory
from tas_tf.runtime.run_directory import ARCHITECTURE, RESULT, RunDirectory
from tas_tf.spaces import cost, derivation
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import shown
from tas_tf.spaces.latency_table import LatencyTable
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.architecture_search import UNDECIDED
from tas_tf.training.callbacks import duration
from tas_tf.training.measurement import Measurement


def _say(text: str) -> None:
    """Prints a line, broken between words where a terminal is narrower; a log gets it whole."""
    console = rich.console.Console(file=plain_text.terminal(), highlight=False, emoji=False)
    text = plain_text.one_line(text)
    console.print(text, markup=False, soft_wrap=not console.is_terminal)


def _name(text: str) -> rich.text.Text:
    """Returns a name as it stands in a table, whatever it holds."""
    return rich.text.Text(plain_text.one_line(text))


def say_all(texts: Sequence[str]) -> None:
    """Says texts, a line each."""
    for text in texts:
        _say(text)


def say_what(
    title: str,
    directory: RunDirectory,
    info: DataInfo,
    epochs: int,
    batch_size: int,
    halves: bool = False,
) -> None:
    """Says what a run will do, with which images, on which devices."""
    split = f"{info.train_images} for training"
    if halves:
        split += ", one half for the weights and one for the architecture"
    if info.holdout_images:
        split += f", {info.holdout_images} held out"
    _say(
        f"{title}: {epochs} epochs, batch {batch_size}, on {devices.in_use()}; "
        f"run directory {directory.path}"
    )
    _say(
        f"Images: {info.dataset}, {info.input_shape}, {info.num_classes} classes, {split}, "
        f"{info.evaluation_images} for the test ({info.evaluation_split})"
    )
    say_all(info.account)
    few = [name for name, images in (info.class_images or {}).items() if images < batch_size]
    if few:
        least = min(few, key=lambda name: (info.class_images or {})[name])
        _say(
            f"Note: {len(few)} of the classes have fewer images than a batch has, the fewest "
            f"{least!r} with {(info.class_images or {})[least]}"
        )


def say_baseline(kind: str, directory: RunDirectory, info: DataInfo) -> None:
    """Says which baseline is found, for which images."""
    _say(f"Baseline: {kind}; run directory {directory.path}")
    _say(f"Images: {info.dataset}, {info.input_shape}, {info.num_classes} classes")
    say_all(info.account)


def say_precision_of(path: str, policies: Sequence[str]) -> None:
    """Says of a model that was made for half precision that it is not computed so here."""
    if policies:
        _say(
            f"Note: {path} computes in {', '.join(policies)}. Here it is searched, trained and "
            "saved in float32, as its weights are"
        )


def say_how(precision: str, shapes: str | None = None) -> None:
    """Says in which precision and shapes a run computes, on how many threads and replicas."""
    computed = {
        None: "",
        "drawn": "; of the supernet what is drawn",
        "static": "; all channels of the supernet, in static shapes",
    }[shapes]
    products = devices.float32_products() if precision == "float32" else precision
    rounded = f" (products in {products})" if products != precision else ""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    several = f", {replicas} replicas" if replicas > 1 else ""
    _say(f"Computes in {precision}{rounded}, {devices.threads()} threads{several}{computed}")


def say_measurement(plan: Measurement) -> None:
    """Says on how many images networks are measured, and which of these judge."""
    _say(
        f"Measures {plan.paths + plan.near} paths on {plan.images} images of the architecture half "
        f"and {plan.finalists} finalists on {plan.final_images}: a third chooses, the others judge"
    )


def say_skipped(skipped: Mapping[str, Sequence[str]]) -> None:
    """Says how many images are left out because they cannot be read, and names the first."""
    for split, faults in skipped.items():
        _say(f"Left out of {split}: {len(faults)} images that cannot be read; first {faults[0]}")


def say_model(tested: Mapping[str, float]) -> None:
    """Says how accurate a model is before anything of it is taken away."""
    _say(
        f"Model: {tested['accuracy']:.2%} of {tested['images']:,} images of the architecture half "
        "right, as it is"
    )


def say_space(space: SearchSpace | ModelSpace, budgets: Sequence[cost.Budget]) -> None:
    """Says how large a space is, what its networks cost, and the budgets."""
    unpruned = space.unpruned()
    middle = space.architecture(
        [len(choice.candidates) // 2 for choice in space.choices],
        [len(depths) // 2 for depths in space.depths],
    )
    if isinstance(space, ModelSpace):
        branches = f"{len(space.branches)} branches, " if space.branches else ""
        depths = f"{branches}layers kept whole: {len(space.graph.frozen)}"
    else:
        depths = f"depths up to {space.blocks_per_stage} blocks"
    _say(
        f"Space: {len(space.choices)} widths, {depths}; "
        f"unpruned {cost.cost(unpruned):,} MACs, {cost.cost(unpruned, 'parameters'):,} parameters"
    )
    for budget in budgets:
        reached = (*derivation.reachable(space, budget.kind), cost.cost(middle, budget.kind))
        smallest, largest, between = (shown(value, budget.kind.name) for value in reached)
        _say(
            f"Budget: {budget}; reachable {smallest} to {largest}, the middle candidates have "
            f"{between}"
        )


def say_latency(table: LatencyTable | None) -> None:
    """Says where the latencies of a budget were measured, and how well they predict networks."""
    if table is not None:
        error = table.error
        _say(
            f"Latency: {table.described()}; {error['networks']} whole networks differ from it by "
            f"{error['mean']:.1%} on average, {error['largest']:.1%} at most"
        )
        here = runners.measured_on(table.runtime)
        if table.device["processor"] != here:
            _say(f"This machine is another ({here}): milliseconds are those of the table's device")


def say_kept(budget: cost.Budget, by_table: float, share: float) -> None:
    """Says what a derived network takes when it is timed, as shares of the unpruned one's time."""
    low, high = (amount / budget.unpruned for amount in (budget.floor, budget.amount))
    _say(
        f"Timed: {share:.1%} of the unpruned network's time, by the table {by_table:.1%}; asked "
        f"{low:.1%} to {high:.1%}"
    )


def say_network(architecture: Architecture | ModelArchitecture, teacher: str | None) -> None:
    """Says which network is trained."""
    costs = cost.costs(architecture)
    if isinstance(architecture, ModelArchitecture):
        name, peak = architecture.family, ""
    else:
        name = f"{architecture.block} blocks {[len(stage) for stage in architecture.stages]}"
        peak = f", {costs['memory']:,} bytes of activations at its peak"
    learns = f"; learns from {teacher}" if teacher else ""
    _say(
        f"Network: {name}, {costs['macs']:,} MACs, {costs['parameters']:,} parameters{peak}{learns}"
    )


def say_derivation(summary: dict[str, Any], budgets: Sequence[cost.Budget], path: str) -> None:
    """Says what was derived, beside the plain argmax where there is one."""
    for budget in budgets:
        name = budget.kind.name
        placed = summary["budgets"][name]
        said = {
            key: shown(value, name) if name == cost.LATENCY else f"{value:,}"
            for key, value in placed.items()
        }
        # A baseline has no distributions, and no argmax.
        of_losses = summary["method"] in derivation.MEASURED
        best = "least expected loss at any cost" if of_losses else "plain argmax"
        argmax = f"; {best} {said['argmax_cost']}" if "argmax_cost" in said else ""
        _say(
            f"Derived: {said['cost']} {name} ({placed['cost'] / budget.unpruned:.1%} of the "
            f"unpruned network's); band {budget}{argmax}"
        )
    _say(f"Architecture: {path}")
    if not summary["in_band"]:
        _say("No architecture was found in the band: this is the nearest below.")


def say_entropies(entropies: dict[str, float]) -> None:
    """Says how decided the distributions are."""
    for name, value in entropies.items():
        undecided = (
            " (the search has hardly told its candidates apart)" if value > UNDECIDED else ""
        )
        _say(f"Relative {name.replace('_', ' ')} at the end: {value:.2f}{undecided}")


def say_times(rows: Sequence[Mapping[str, Any]]) -> None:
    """Says what networks take beside the unpruned ones, and what share of the MACs they have.

    Args:
        rows: As `speed.measure` yields them.
    """
    table = rich.table.Table(box=rich.box.SIMPLE)
    columns = ("MACs", "share", "median ms", "p90", "p99", "unpruned ms", "share")
    for column in ("network", *columns):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for row in rows:
        times, whole = row["times"]["network"], row["times"]["unpruned"]
        table.add_row(
            _name(row["name"]),
            shown(row["macs"]["network"]),
            f"{row['share_of_macs']:.1%}",
            *(f"{times[name]:.3f}" for name in ("median_ms", "p90_ms", "p99_ms")),
            f"{whole['median_ms']:.3f}",
            f"{row['share_of_time']:.1%}",
        )
    # As wide as it is, in a log too.
    console = rich.console.Console(file=plain_text.terminal())
    console.width = max(console.width, 120)
    console.print(table)
    slower = [row["name"] for row in rows if row["share_of_time"] >= 1]
    if slower:
        _say(f"NO FASTER than the unpruned network, with fewer MACs: {', '.join(slower)}")
    if not all(row["depth_is_known"] for row in rows):
        _say(
            "Where an architecture does not tell how deep its unpruned network was, that has as "
            "many blocks as are left."
        )


def say_table(directory: RunDirectory) -> None:
    """Says what a pipeline has made: networks, costs, accuracies, times and paths."""
    table = rich.table.Table(title=_name(directory.path), box=rich.box.SIMPLE)
    for column in ("network", "MACs", "parameters", "accuracy", "time"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    rows = {
        "unpruned": "teacher",
        "derived": "student",
        "derived, distilled": "student_kd",
    }
    results = {
        title: RunDirectory(directory.file(part)).read_json(RESULT)
        for title, part in rows.items()
        if RunDirectory(directory.file(part)).exists(RESULT)
    }
    last = results["derived, distilled"]
    results = {"unpruned": {**last["unpruned"]}, **results} if "unpruned" in last else results
    unpruned = results["unpruned"]["cost"]
    for title, result in results.items():
        costs = [
            f"{shown(result['cost'][kind])} ({result['cost'][kind] / unpruned[kind]:.0%})"
            for kind in ("macs", "parameters")
        ]
        accuracy = f"{result['test']['accuracy']:.2%}"
        seconds = duration(result["seconds"]) if "seconds" in result else ""
        table.add_row(title, *costs, accuracy, seconds)
    search = RunDirectory(directory.file("search")).read_json(RESULT)
    table.caption = f"accuracy on the test split; the search took {duration(search['seconds'])}"
    print()
    rich.console.Console(file=plain_text.terminal()).print(table)
    exported = RunDirectory(directory.file("export"))
    for name, path in (
        ("architecture", directory.file("search", ARCHITECTURE)),
        ("Keras model", directory.file("student_kd", run_directory.MODEL)),
        *(
            (name, exported.file(each.file))
            for name, each in formats.FORMATS.items()
            if exported.exists(each.file)
        ),
    ):
        print(f"{name + ':':14}{path}")
