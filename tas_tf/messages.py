"""What commands say: what will be done, what was found, and the table at the end of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.console
import rich.table
import tensorflow as tf

from tas_tf import cost, derivation, runtime
from tas_tf.architecture import Architecture
from tas_tf.callbacks import duration
from tas_tf.cost import shown
from tas_tf.data import DataInfo
from tas_tf.runtime import ARCHITECTURE, RESULT, RunDirectory
from tas_tf.search_space import SearchSpace

# Above this relative entropy a search has hardly told its candidates apart.
UNDECIDED = 0.9


def _say(text: str) -> None:
    """Prints a line, broken between words where a terminal is narrower; a log gets it whole."""
    console = rich.console.Console(highlight=False)
    console.print(text, markup=False, soft_wrap=not console.is_terminal)


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
        f"{title}: {epochs} epochs, batch {batch_size}, on {', '.join(runtime.device_types())}; "
        f"run directory {directory.path}"
    )
    _say(
        f"Images: {info.dataset}, {info.input_shape}, {info.num_classes} classes, {split}, "
        f"{info.evaluation_images} for the test ({info.evaluation_split})"
    )


def say_how(precision: str, shapes: str | None = None) -> None:
    """Says in which precision and shapes a run computes, on how many threads and replicas."""
    computed = {
        None: "",
        "drawn": "; of the supernet what is drawn",
        "static": "; all channels of the supernet, in static shapes",
    }[shapes]
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    several = f", {replicas} replicas" if replicas > 1 else ""
    _say(f"Computes in {precision}, {runtime.threads()} threads{several}{computed}")


def say_skipped(skipped: Mapping[str, Sequence[str]]) -> None:
    """Says how many images are left out because they cannot be read, and names the first."""
    for split, faults in skipped.items():
        print(f"Left out of {split}: {len(faults)} images that cannot be read; first {faults[0]}")


def say_space(space: SearchSpace, budgets: Sequence[cost.Budget]) -> None:
    """Says how large a space is, what its networks cost, and the budgets."""
    unpruned = space.unpruned()
    middle = space.architecture(
        [len(choice.candidates) // 2 for choice in space.choices],
        [len(depths) // 2 for depths in space.depths],
    )
    _say(
        f"Space: {len(space.choices)} widths, depths up to {space.blocks_per_stage} blocks; "
        f"unpruned {cost.cost(unpruned):,} MACs, {cost.cost(unpruned, 'parameters'):,} parameters"
    )
    for budget in budgets:
        smallest, largest = derivation.reachable(space, budget.kind)
        _say(
            f"Budget: {budget}; reachable {shown(smallest)} to {shown(largest)}, "
            f"the middle candidates have {shown(cost.cost(middle, budget.kind))}"
        )


def say_network(architecture: Architecture, teacher: str | None) -> None:
    """Says which network is trained."""
    costs = cost.costs(architecture)
    depths = [len(stage) for stage in architecture.stages]
    learns = f"; learns from {teacher}" if teacher else ""
    _say(
        f"Network: {architecture.block} blocks {depths}, {costs['macs']:,} MACs, "
        f"{costs['parameters']:,} parameters, {costs['memory']:,} bytes of activations at its "
        f"peak{learns}"
    )


def say_derivation(summary: dict[str, Any], budgets: Sequence[cost.Budget], path: str) -> None:
    """Says what was derived, beside the plain argmax."""
    for budget in budgets:
        kind = summary["budgets"][budget.kind]
        _say(
            f"Derived: {kind['cost']:,} {budget.kind} ({kind['cost'] / budget.unpruned:.1%} of the "
            f"unpruned network's); band {budget}; plain argmax {kind['argmax_cost']:,}"
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


def say_table(directory: RunDirectory) -> None:
    """Says what a pipeline has made: networks, costs, accuracies, times and paths."""
    table = rich.table.Table(title=f"\n{directory.path}", box=rich.box.SIMPLE)
    for column in ("network", "MACs", "parameters", "accuracy", "time"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    rows = {
        "unpruned": "teacher",
        "derived": "student",
        "derived, distilled": "student_kd",
    }
    unpruned = RunDirectory(directory.file("teacher")).read_json(RESULT)["cost"]
    for title, part in rows.items():
        result = RunDirectory(directory.file(part)).read_json(RESULT)
        costs = [
            f"{shown(result['cost'][kind])} ({result['cost'][kind] / unpruned[kind]:.0%})"
            for kind in ("macs", "parameters")
        ]
        accuracy = f"{result['test']['accuracy']:.2%}"
        table.add_row(title, *costs, accuracy, duration(result["seconds"]))
    search = RunDirectory(directory.file("search")).read_json(RESULT)
    table.caption = f"accuracy on the test split; the search took {duration(search['seconds'])}"
    rich.console.Console().print(table)
    for name, path in (
        ("architecture", directory.file("search", ARCHITECTURE)),
        ("Keras model", directory.file("student_kd", runtime.MODEL)),
        ("SavedModel", directory.file("export", "saved_model")),
    ):
        print(f"{name + ':':14}{path}")
