"""Reports of a run, and comparisons of several."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from tas_tf.data import identity
from tas_tf.errors import DataError
from tas_tf.reports import curve_plots, model_plots, shape_plots
from tas_tf.reports.pages import (
    Element,
    Items,
    Page,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
    write_page,
)
from tas_tf.reports.run_records import Part, Run, read_run
from tas_tf.reports.sections import sections
from tas_tf.reports.summary import lead, tiles, title
from tas_tf.reports.tables import (
    NONE,
    amount,
    comparable,
    network_name,
    network_of,
    percent,
    role,
    unpruned_of,
)
from tas_tf.runtime.run_directory import REPORT
from tas_tf.spaces.cost import cost
from tas_tf.spaces.model_space import ModelArchitecture
from tas_tf.training.callbacks import duration

COMPARISON = "comparison"

# What the paper reports with distillation: name, MACs, accuracy on the test split.
PUBLISHED = {
    "cifar10": (
        ("ResNet-20", 22.4e6, 0.9288),
        ("ResNet-32", 35.0e6, 0.9316),
        ("ResNet-56", 59.5e6, 0.9369),
        ("ResNet-110", 119e6, 0.9433),
        ("ResNet-164", 178e6, 0.9400),
    ),
    "cifar100": (
        ("ResNet-20", 22.4e6, 0.6890),
        ("ResNet-32", 42.5e6, 0.7241),
        ("ResNet-56", 61.2e6, 0.7225),
        ("ResNet-110", 120e6, 0.7316),
        ("ResNet-164", 171e6, 0.7776),
    ),
    "imagenet2012": (("ResNet-18", 1.21e9, 0.6915), ("ResNet-50", 2.31e9, 0.7620)),
}
SCHEDULES = {
    "imagenet2012": "120 epochs of search and 120 of training",
    "cifar10": "600 epochs of search and 300 of training",
    "cifar100": "600 epochs of search and 300 of training",
}


def write_report(run_dir: str, output: str | None = None) -> tuple[str, str]:
    """Writes the report of a run: `report.html` and `report.md`.

    Args:
        run_dir: The run directory.
        output: Folder to write to; by default the run directory.

    Returns:
        The paths of both.

    Raises:
        RunDirectoryError: If there is no such directory.
    """
    run = read_run(run_dir)
    page = Page(title(run), lead(run), tiles(run), sections(run))
    return write_page(page, output or run.path, REPORT)


def write_comparison(run_dirs: Sequence[str], output: str | None = None) -> tuple[str, str]:
    """Writes the comparison of several runs: `comparison.html` and `comparison.md`.

    Args:
        run_dirs: Their run directories.
        output: Folder to write to; by default the one that holds the first run directory.

    Returns:
        The paths of both.

    Raises:
        RunDirectoryError: If one of them is no directory.
    """
    runs = [read_run(path) for path in run_dirs]
    datasets = sorted(
        {part.data["dataset"] for run in runs for part in run.parts.values() if part.data}
    )
    images = " and ".join(datasets) or "unknown images"
    lead = (
        f"{len(runs)} runs on {images}: what each network costs, and what it reaches on the test "
        "split."
    )
    different = _differences(runs)
    if different:
        lead += f" Accuracies on different images cannot be compared: {different[0]}."
    page = Page("Runs compared", lead, {}, _comparison(runs, datasets, different))
    folder = output or os.path.dirname(runs[0].path) or "."
    return write_page(page, folder, COMPARISON)


def _differences(runs: Sequence[Run]) -> list[str]:
    """Says which runs have other images, or another test split of them, than the first has."""
    recorded = [(run.path, part.data) for run in runs for part in run.parts.values() if part.data]
    texts = []
    for path, data in recorded[1:]:
        before, first = recorded[0]
        found = _compared(first, data)
        test, other = (of["splits"].get("test", {}).get("fingerprint") for of in (first, data))
        if not found and first["dataset"] != data["dataset"] and not _has_both(first, data):
            found = [f"{data['dataset']} in place of {first['dataset']}"]
        if not found and test != other and _are_one(first, data):
            found = ["other images of the set are the test split"]
        if found:
            texts.append(f"{path} beside {before}: {'; '.join(found)}")
    return list(dict.fromkeys(texts))


def _has_both(*records: Mapping[str, Any]) -> bool:
    return all(identity.FIELD in record for record in records)


def _are_one(*records: Mapping[str, Any]) -> bool:
    """Whether fingerprints compare: they hash all that is recorded of the images."""
    return _has_both(*records) and len({identity.read(each).digest for each in records}) == 1


def _compared(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    try:
        return identity.compare(first, other)
    except DataError as error:
        return [error.message]


def _comparison(
    runs: Sequence[Run], datasets: Sequence[str], different: Sequence[str]
) -> list[Section]:
    names = _short_names([run.path for run in runs])
    missing = [f"{run.path}: {text}" for run in runs for text in run.missing]
    return [
        Section("Accuracy against cost", _accuracy_against_cost(runs, names, datasets)),
        Section("Images that differ", [Items(different)] if different else []),
        Section("Networks", [_table(runs, names)]),
        Section("Shapes", _shapes(runs, names)),
        Section("What is missing", [Items(missing)] if missing else []),
    ]


def _short_names(paths: Sequence[str]) -> list[str]:
    """Returns the last parts of paths, as many as tell them apart."""
    split = [path.split("/") for path in paths]
    longest = max(map(len, split))
    for size in range(1, longest + 1):
        names = ["/".join(parts[-size:]) for parts in split]
        if len(set(names)) == len(set(paths)):
            break
    return names


def _accuracy_against_cost(
    runs: Sequence[Run], names: Sequence[str], datasets: Sequence[str]
) -> list[Element]:
    points = [
        (name, role(part), part.result["cost"]["macs"], part.result["test"]["accuracy"])
        for name, run in zip(names, runs, strict=True)
        for part in run.of_kind("training")
        if part.result is not None
    ]
    published = PUBLISHED.get(datasets[0], ()) if len(datasets) == 1 else ()
    if not points:
        return [Text("None of the runs has a trained network yet.")]
    said = "; ".join(f"{n}, {r}: {amount(m, 'macs')}, {a:.2%}" for n, r, m, a in points)
    caption = (
        "Up is more accurate, left is cheaper: a run is better that lies above and to the left."
    )
    elements: list[Element] = [
        Picture(
            "comparison",
            curve_plots.draw_comparison(points, published),
            "Accuracy against cost",
            caption,
            f"Accuracy on the test split against MACs. {said}.",
        )
    ]
    if published:
        elements.append(
            Text(
                "Grey diamonds are what the paper (Dong and Yang, NeurIPS 2019) reports, with "
                f"distillation and {SCHEDULES[datasets[0]]}, by the epoch that was best on the "
                "test split. Runs with shorter schedules are not to be measured by them."
            )
        )
    return elements


def _table(runs: Sequence[Run], names: Sequence[str]) -> Table:
    rows = []
    for number, (name, run) in enumerate(zip(names, runs, strict=True), start=1):
        unpruned = unpruned_of(run)
        parts: list[Part | None] = [*run.of_kind("training")]
        for part in parts or [None]:
            result = part.result if part else None
            macs = result["cost"]["macs"] if result else None
            share = percent(macs / cost(unpruned), 1) if macs and unpruned else NONE
            last = part.records[-1] if part and part.records else {}
            rows.append(
                [
                    f"{number}  {name}",
                    role(part) if part else "no trained network",
                    amount(macs, "macs") if macs else NONE,
                    share,
                    amount(result["cost"]["parameters"], "parameters") if result else NONE,
                    percent(result["test"]["accuracy"]) if result else NONE,
                    str(last.get("epoch", NONE)),
                    duration(last["elapsed_seconds"]) if "elapsed_seconds" in last else NONE,
                ]
            )
    header = [
        "run",
        "network",
        "MACs",
        "of unpruned",
        "parameters",
        "accuracy",
        "epochs",
        "training",
    ]
    return Table("Every trained network", header, rows, left=(1,))


def _shapes(runs: Sequence[Run], names: Sequence[str]) -> list[Element]:
    pictures = []
    for number, (name, run) in enumerate(zip(names, runs, strict=True), start=1):
        network, unpruned = network_of(run), unpruned_of(run)
        if network is None:
            continue
        whole = unpruned if comparable(network, unpruned) else None
        if isinstance(network, ModelArchitecture):
            figure, parts = model_plots.draw_kept(network), f"{len(network.widths)} groups"
        else:
            figure = shape_plots.draw_architecture(network, whole)
            parts = f"stages of {[len(stage) for stage in network.stages]} blocks"
        pictures.append(
            Picture(
                f"shape-{number}",
                figure,
                f"{number}  {name}",
                f"{amount(cost(network), 'macs')} MACs"
                + (f", cut from {network_name(unpruned)}." if unpruned else "."),
                f"Widths of the layers of {name}, which has {parts}.",
            )
        )
    return [Pictures(pictures)] if pictures else []
