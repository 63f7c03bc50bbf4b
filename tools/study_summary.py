"""The summary of a study: tables and a picture of what is finished of it, and the page of both."""

from __future__ import annotations

import collections
import json
import pathlib
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from study_grid import UNPRUNED, Cell, Network, Study
from study_records import Records
from study_statistics import Spread, difference, pooled, spread

from tas_tf.errors import SpecError
from tas_tf.reports import canvas

COLUMNS = (
    "method",
    "accuracy",
    "± searches",
    "± trainings",
    "lowest search",
    "above {reference}",
    "± error",
    "beyond 2 errors",
    "searches",
    "trainings",
    "cost",
    "search",
    "training",
)
NONE = "-"
Place = tuple[float | str | None, str]  # a budget and a way to train
Methods = dict[str, dict[Network, list[dict[str, Any]]]]  # records by arm and network


def finished(study: Study, records: Records) -> dict[Place, Methods]:
    """Returns the records of finished trainings, by budget and way, arm and network.

    Each has its training's `name`, which several searches share that found the same network.

    The unpruned network stands beside the networks of every budget that are trained as it is, and
    beside all where none is.
    """
    found: dict[Place, Methods] = {}
    cells = [cell for cell in study.cells() if records.get(cell) is not None]
    alone = not any(way == "scratch" for _, way in _places(study))
    for target, way in _places(study):
        if not any((cell.network.target, cell.way) == (target, way) for cell in cells):
            continue
        methods: Methods = collections.defaultdict(lambda: collections.defaultdict(list))
        for cell in cells:
            is_unpruned = cell.network.target is None
            if cell.network.target in (None, target) and (
                cell.way == way or (is_unpruned and alone)
            ):
                methods[cell.network.arm][cell.network].append(_named(records, cell))
        order = [arm for arm in (UNPRUNED, *study.arms) if arm in methods]
        found[target, way] = {arm: methods[arm] for arm in order}
    return found


def _named(records: Records, cell: Cell) -> dict[str, Any]:
    """Returns the record of a training with its `name`.

    Searches that found the same network share its trainings, whether they were run again or not: of
    one network and one seed, what has the same accuracy is the same training.
    """
    record = records.get(cell)
    network = records.get(cell.network)["architecture"]
    name = json.dumps([network, cell.training, record["accuracy"]])
    return {**record, "name": name}


def _places(study: Study) -> dict[Place, None]:
    """Returns all tables in the order of the rounds."""
    return dict.fromkeys(
        (target, way) for part in study.rounds for target in part.targets for way in part.ways
    )


def spreads(methods: Methods) -> dict[str, Spread]:
    """Returns what every method of a table reaches.

    The noise of a training is taken to be the same for all of them, so that it is known well.
    """
    accuracies = {
        arm: [{each["name"]: each["accuracy"] for each in some} for some in networks.values()]
        for arm, networks in methods.items()
    }
    noise = pooled(some for searches in accuracies.values() for some in searches)
    return {arm: spread(searches, noise) for arm, searches in accuracies.items()}


def lines(study: Study, records: Records) -> Iterator[str]:
    """Yields the lines of the summary: Markdown, as the page of studies has it."""
    cells = study.cells()
    done = sum(records.get(cell) is not None for cell in cells)
    yield f"{done} of {len(cells)} trainings are finished."
    for (target, way), methods in finished(study, records).items():
        yield from ("", f"**{_budget(target)}, {way.replace('_', ', ')}**", "")
        columns = [column.format(reference=study.reference) for column in COLUMNS]
        yield _row(columns)
        yield _row(["---", *["---:"] * (len(columns) - 1)])
        reached = spreads(methods)
        every = {
            each["name"]: each for networks in methods.values() for each in _trainings(networks)
        }.values()
        device, count = collections.Counter(each["device"] for each in every).most_common(1)[0]
        for arm, networks in methods.items():
            above = _above(reached, arm, study.reference)
            made = [records.get(network) for network in networks]
            seconds = (_seconds(some, device) for some in (made, _trainings(networks)))
            yield _row([*_cells(arm, reached[arm]), *above, *_counts(reached[arm]),
                        _costs(target, made), *seconds])  # fmt: skip
        others = len(every) - count
        elsewhere = f"; {others} trainings ran elsewhere" if others else ""
        yield from ("", f"Seconds on: {device}{elsewhere}.")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(arm: str, reached: Spread) -> list[str]:
    values = (reached.mean, reached.between, reached.within, reached.lowest)
    return [f"`{arm}`", *map(_percent, values)]


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.2f}"


def _above(reached: Mapping[str, Spread], arm: str, reference: str) -> list[str]:
    """Returns the cells that compare a method with the reference."""
    if arm in (reference, UNPRUNED) or reference not in reached:
        return [NONE] * 3
    value, error = difference(reached[arm], reached[reference])
    if error is None:
        return [f"{100 * value:+.2f}", NONE, NONE]
    side = "above" if value > 0 else "below"
    return [f"{100 * value:+.2f}", _percent(error), side if abs(value) > 2 * error else "no"]


def _counts(reached: Spread) -> list[str]:
    return [str(reached.searches), str(reached.trainings)]


def _trainings(networks: Mapping[Network, Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [record for some in networks.values() for record in some]


def _costs(target: float | str | None, networks: Sequence[Mapping[str, Any]]) -> str:
    """Returns the mean share of the budget's cost that networks have."""
    kind = _kind(target)
    shares = [network["shares"][kind] for network in networks if kind in network["shares"]]
    outside = sum(not network["in_band"] for network in networks)
    share = f"{statistics.fmean(shares):.1%}" if shares else NONE
    return share + (f" ({outside} outside the band)" if outside else "")


def _seconds(made: Sequence[Mapping[str, Any]], device: str) -> str:
    """Returns the mean seconds of what was made on a device: those of two do not compare."""
    there = [each["seconds"] for each in made if each["device"] == device]
    return f"{statistics.fmean(there):,.0f} s" if there else NONE


def _kind(target: float | str | None) -> str:
    return str(target).partition(":")[0] if ":" in str(target) else "macs"


def _budget(target: float | str | None) -> str:
    amount = str(target).rpartition(":")[2].strip()
    shown = f"{float(amount):.0%}" if re.fullmatch(r"[\d.]+", amount) else amount
    names = {"macs": "MACs", "latency": "milliseconds", "memory": "peak memory"}
    return f"{shown} of the {names.get(_kind(target), _kind(target))}"


@canvas.styled
def draw(study: Study, records: Records) -> str:
    """Returns a picture as SVG: accuracies with error bars, a panel for each table.

    A bar is two standard errors to either side of a method's mean; a grey dot is a search's mean.
    The unpruned network is left out, which would press the others together.
    """
    tables = {
        place: {arm: networks for arm, networks in methods.items() if arm != UNPRUNED}
        for place, methods in finished(study, records).items()
    }
    rows = [len(methods) for methods in tables.values()]
    figure = canvas.new_figure(sum(0.6 + 0.24 * count for count in rows) + 0.4)
    axes = figure.subplots(len(rows), 1, height_ratios=[count + 1 for count in rows], squeeze=False)
    for ax, ((target, way), methods) in zip(axes[:, 0], tables.items(), strict=True):
        reached = spreads(methods)
        names = [*reached][::-1]
        for height, arm in enumerate(names):
            means = [
                100 * statistics.fmean(record["accuracy"] for record in some)
                for some in methods[arm].values()
            ]
            ax.plot(means, [height] * len(means), "o", color=canvas.MUTED, markersize=3)
            bar = None if reached[arm].error is None else 200 * reached[arm].error
            colour = canvas.VERMILION if arm == study.reference else canvas.BLUE
            ax.errorbar(100 * reached[arm].mean, height, xerr=bar, fmt="D", color=colour,
                        markersize=4, capsize=2, linewidth=1.2)  # fmt: skip
        if study.reference in reached:
            ax.axvline(100 * reached[study.reference].mean, color=canvas.GRID, zorder=0)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(-0.6, len(names) - 0.4)
        ax.set_title(f"{_budget(target)}, {way.replace('_', ', ')}", loc="left")
    axes[-1, 0].set_xlabel("accuracy on the test split, %")
    return canvas.svg(figure, study.name)


def write(study: Study, records: Records, page: pathlib.Path) -> None:
    """Puts the summary of a study, and its picture, into the page where the page has its place.

    Args:
        study: The study.
        records: What is finished.
        page: A page with the comments `<!-- study NAME -->` and `<!-- end of study NAME -->`.

    Raises:
        SpecError: If the page has no such place.
    """
    start, end = f"<!-- study {study.name} -->\n", f"<!-- end of study {study.name} -->"
    before, found, rest = page.read_text().partition(start)
    after = rest.partition(end)[2]
    if not found or not after:
        raise SpecError(f"{page}: there is no place for {study.name}: {start.strip()} ... {end}")
    text = [*lines(study, records)]
    if finished(study, records):
        picture = page.with_suffix("") / f"{study.name}.svg"
        picture.parent.mkdir(exist_ok=True)
        picture.write_text(draw(study, records))
        about = f"Accuracies of {study.name}, with two standard errors to either side"
        text += ["", f"![{about}]({page.stem}/{picture.name})"]
    page.write_text("\n".join([before + start, *text, "", end + after]))
