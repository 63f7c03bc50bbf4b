"""Curves of a run by epoch, and comparisons of networks; `shape_plots` says how to use figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    NullFormatter,
    PercentFormatter,
)

from tas_tf.reports.canvas import (
    COLOURS,
    CUT,
    DASHES,
    GRID,
    MARKERS,
    MUTED,
    label_epochs,
    new_figure,
    styled,
)
from tas_tf.spaces.cost import Budget, name_of, shown

Series = tuple[list[float], list[float]]  # epochs and values
Trained = tuple[str, str, float, float]  # run, role, MACs and accuracy of a network
Published = tuple[str, float, float]  # name, MACs and accuracy


@styled
def draw_cost(records: Sequence[Mapping[str, Any]], budget: Budget) -> Figure:
    """Draws expected and argmax cost by epoch against the budget with its band.

    Args:
        records: The search's records, with `expected_KIND_ratio` and `argmax_KIND_ratio`.
        budget: The budget.
    """
    figure = new_figure(2.7)
    ax = figure.subplots()
    ratio, t = budget.amount / budget.unpruned, budget.tolerance
    band = ((1 - t) * ratio, (1 + t) * ratio)
    ax.axhspan(*band, facecolor=CUT, label=f"budget and its band of {t:.0%}", linewidth=0)
    ax.axhline(ratio, color=MUTED, linewidth=1)
    for look, (field, name) in enumerate(
        {"expected": "expected", "argmax": "most probable"}.items()
    ):
        _line(ax, name, *_series(records, f"{field}_{budget.kind.name}_ratio"), look)
    ax.yaxis.set_major_formatter(PercentFormatter(1, None))
    ax.set_ylabel(f"{name_of(budget.kind.name)}, of {shown(budget.unpruned, budget.kind.name)}")
    label_epochs(ax)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def draw_losses(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws cross-entropy and accuracy on both halves of a search's training set, by epoch."""
    names = {"": "weight half", "architecture_": "architecture half"}
    return _panels(
        {
            title: {name: _series(records, f"{prefix}{field}") for prefix, name in names.items()}
            for title, field in (("cross-entropy", "loss"), ("accuracy", "accuracy"))
        }
    )


@styled
def draw_decision(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the relative entropy of widths and depths, and the temperature, by epoch."""
    return _panels(
        {
            "relative entropy": {
                name: _series(records, f"{name[:-1]}_entropy") for name in ("widths", "depths")
            },
            "temperature": {"temperature": _series(records, "temperature")},
        }
    )


@styled
def draw_trainings(trainings: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draws accuracy on the training images by epoch.

    Args:
        trainings: Records of every training, by the name of its network.
    """
    curves = {name: _series(records, "accuracy") for name, records in trainings.items()}
    return _panels({"accuracy on\ntraining images": curves})


def _series(records: Sequence[Mapping[str, Any]], field: str) -> Series:
    """Returns epochs and values where there are any."""
    points = [(r["epoch"], r[field]) for r in records if field in r]
    return [x for x, _ in points], [y for _, y in points]


def _panels(panels: Mapping[str, Mapping[str, Series]]) -> Figure:
    """Draws panels of lines one above the other, over epochs; a line keeps its look in all."""
    figure = new_figure(0.9 + 1.5 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    looks: dict[str, int] = {}
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for name, series in lines.items():
            if series[0]:
                _line(ax, name, *series, looks.setdefault(name, len(looks)))
        ax.set_ylabel(title)
        if title.startswith("accuracy"):
            ax.yaxis.set_major_formatter(PercentFormatter(1, None))
        if title == "relative entropy":
            ax.set_ylim(0, 1.05)
        ax.grid(axis="y", color=GRID, linewidth=0.7)
    label_epochs(axes[-1])
    handles = {h.get_label(): h for ax in axes for h in ax.get_legend_handles_labels()[0]}
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=2)
    return figure


def _line(ax: Axes, name: str, xs: Sequence[float], ys: Sequence[float], look: int) -> None:
    every = max(1, len(xs) // 8)
    ax.plot(
        xs, ys, label=name, color=COLOURS[look % len(COLOURS)], markersize=4, markevery=every,
        linestyle=DASHES[look % len(DASHES)], marker=MARKERS[look % len(MARKERS)],
    )  # fmt: skip


# Marker of every part that a network may have in a comparison.
ROLES = {"unpruned": "s", "derived": "o", "derived, distilled": "^"}


@styled
def draw_comparison(points: Sequence[Trained], published: Sequence[Published] = ()) -> Figure:
    """Draws accuracy against MACs.

    Args:
        points: (run, role among `ROLES` or another name, MACs, accuracy) of every network.
        published: (name, MACs, accuracy) of published networks, in grey.
    """
    figure = new_figure(3.6)
    ax = figure.subplots()
    runs = list(dict.fromkeys(run for run, *_ in points))
    for index, (name, macs, accuracy) in enumerate(published):
        ax.plot(macs, accuracy, "D", mfc="none", mec=MUTED, ms=5)
        above = index % 2
        ax.annotate(
            name,
            (macs, accuracy),
            (0, 6 if above else -6),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            color=MUTED,
            fontsize=8,
        )
    for index, run in enumerate(runs):
        _draw_run(ax, index, [point[1:] for point in points if point[0] == run])
    costs = [*(macs for _, _, macs, _ in points), *(macs for _, macs, _ in published)]
    if max(costs) > 8 * min(costs):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
    ax.yaxis.set_major_formatter(PercentFormatter(1, None))
    ax.set(xlabel="MACs", ylabel="accuracy on the test split")
    ax.grid(color=GRID, linewidth=0.7)
    figure.legend(handles=_comparison_legend(runs, points, published),
                  loc="outside lower center", ncols=2)  # fmt: skip
    return figure


def _draw_run(ax: Axes, index: int, points: Sequence[tuple[str, float, float]]) -> None:
    """Draws the networks of a run, joined by a line, with its number at the last."""
    colour = COLOURS[index % len(COLOURS)]
    _, *places = zip(*points, strict=True)
    ax.plot(*places, color=colour, linestyle=DASHES[index % len(DASHES)], linewidth=1)
    for role, macs, accuracy in points:
        ax.plot(macs, accuracy, ROLES.get(role, "P"), color=colour, ms=7)
    ax.annotate(str(index + 1), points[-1][1:], (6, 4), textcoords="offset points", fontsize=9)


def _comparison_legend(
    runs: Sequence[str], points: Sequence[Trained], published: Sequence[Published]
) -> list[Line2D]:
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[index % len(COLOURS)],
            linestyle=DASHES[index % len(DASHES)],
            label=f"{index + 1}  {run}",
        )
        for index, run in enumerate(runs)
    ]

    def mark(marker: str, label: str, **look: Any) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, color=MUTED, label=label, **look)

    handles += [mark(ROLES.get(role, "P"), role) for role in dict.fromkeys(p[1] for p in points)]
    if published:
        handles.append(mark("D", "published", markerfacecolor="none"))
    return handles
