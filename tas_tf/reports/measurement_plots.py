"""Pictures of a search by measurement: what widths and depths are worth, and loss against cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from tas_tf.reports.canvas import BLUE, CUT, GRID, MUTED, PURPLE, VERMILION, new_figure, styled
from tas_tf.reports.shape_plots import taken_widths
from tas_tf.spaces.cost import Budget, name_of, shown
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.separable import Space

if TYPE_CHECKING:
    from matplotlib.typing import LineStyleType

Terms = tuple[np.ndarray, np.ndarray]  # values and standard errors
Point = tuple[float, float]  # cost as a share of the unpruned network's, and loss
# Curves beside each other, and how many where a network has more than so many layers.
_COLUMNS, _MANY_LAYERS, _MANY_COLUMNS = 6, 60, 9
_ROOM = 18  # letters of a name above a curve
# Standard errors of a band, to each side.
_BAND, _BAND_ALPHA = 2, 0.22
# Of so many candidates each is marked and labelled.
_FEW = 4
_CUT_STYLE: LineStyleType = (0, (3, 1.5))
# How networks look in a picture of losses against costs, and what they are compared with.
CHOSEN, OTHERS = "chosen", "other finalists"
_LOOKS: dict[str, dict[str, Any]] = {
    CHOSEN: {"marker": "o", "ms": 8, "color": VERMILION, "zorder": 4},
    OTHERS: {"marker": "o", "ms": 5, "mfc": "none", "color": VERMILION},
}
_REFERENCE: dict[str, Any] = {"marker": "D", "ms": 6, "color": PURPLE}


@dataclasses.dataclass(frozen=True)
class _Curve:
    """What the candidates of one choice add to the loss.

    Args:
        name: What is written at it.
        candidates: (n,), ascending.
        losses: (n,), what each adds beside the largest.
        errors: (n,), standard errors.
        taken: The chosen candidate; None where its blocks are cut.
    """

    name: str
    candidates: Sequence[int]
    losses: np.ndarray
    errors: np.ndarray
    taken: int | None

    @property
    def band(self) -> tuple[np.ndarray, np.ndarray]:
        """Its lower and its upper edge."""
        return self.losses - _BAND * self.errors, self.losses + _BAND * self.errors


Rows = list[tuple[str, list[_Curve]]]  # titles, and curves beside each other


@styled
def draw_worth(space: Space, widths: Terms, depths: Terms, architecture: Any) -> dict[str, Figure]:
    """Draws what candidates add to the loss: `widths` by layer, `depths` by stage, on one scale.

    Args:
        space: The search space; what is not searched has no picture.
        widths: Terms (choices, max candidates) of minus the loss, and their standard errors:
            `Separable.width_terms`.
        depths: Terms (stages, max depths), likewise: `Separable.depth_terms`.
        architecture: The network whose candidates are marked.
    """
    rows = {
        "widths": _width_rows(space, widths, architecture),
        "depths": _depth_rows(space, depths, architecture),
    }
    return {name: _draw_rows(of_kind) for name, of_kind in rows.items() if of_kind}


def _width_rows(space: Space, terms: Terms, architecture: Any) -> Rows:
    """Returns the curves of the searched widths, a few beside each other."""
    if isinstance(space, ModelSpace):
        taken = [architecture.widths.get(choice.name) for choice in space.choices]
        return _group_rows(space, terms, taken)
    taken = taken_widths(space, architecture)
    layers = _layers(space)
    columns = _COLUMNS if len(space.choices) <= _MANY_LAYERS else _MANY_COLUMNS
    rows: Rows = []
    for s in range(len(space.depths)):
        curves = [
            _curve(name, space.choices[c].candidates, terms, c, taken[c])
            for c, (stage, name) in layers.items()
            if stage == s and len(space.choices[c].candidates) > 1
        ]
        # The stem stands before the others of its row: blocks begin a row after it.
        first = columns + (bool(curves) and curves[0].name == "stem")
        for start in (0, *range(first, len(curves), columns)):
            of_row = curves[start : start + columns if start else first]
            if of_row:
                rows.append(("" if start else f"stage {s + 1}", of_row))
    return rows


def _group_rows(space: ModelSpace, terms: Terms, taken: Sequence[int | None]) -> Rows:
    """Returns the curves of the groups of a model that was read, a few beside each other."""
    curves = [
        _curve(_short(choice.name), choice.candidates, terms, c, taken[c])
        for c, choice in enumerate(space.choices)
        if len(choice.candidates) > 1
    ]
    return _rows_of(curves)


def _rows_of(curves: Sequence[_Curve]) -> Rows:
    """Returns curves of unlike candidates in rows."""
    rows = range(0, len(curves), _COLUMNS)
    return [(" " * bool(start == 0), [*curves[start : start + _COLUMNS]]) for start in rows]


def _short(name: str) -> str:
    """Returns a name that has room above a curve."""
    return name if len(name) <= _ROOM else f"…{name[1 - _ROOM :]}"


def _depth_rows(space: Space, terms: Terms, architecture: Any) -> Rows:
    """Returns the curves of the searched depths, beside each other."""
    _, taken = space.indices(architecture)
    curves = [
        _curve(_short(name.replace("stage", "stage ")), depths, terms, s, depths[taken[s]])
        for s, (name, depths) in enumerate(zip(space.depth_names, space.depths, strict=True))
        if len(depths) > 1
    ]
    return _rows_of(curves)


def _curve(
    name: str, candidates: Sequence[int], terms: Terms, row: int, taken: int | None
) -> _Curve:
    losses, errors = (table[row, : len(candidates)] for table in terms)
    return _Curve(name, candidates, -losses, errors, taken)


def _layers(space: SearchSpace) -> dict[int, tuple[int, str]]:
    """Returns the stage of every width choice, and the name of its first layer: block.unit."""
    layers = {space.unit_choices[0]: (0, "stem")}
    for s, blocks in enumerate(space.block_units):
        for b, units in enumerate(blocks, start=1):
            for u, unit in enumerate(units, start=1):
                layers.setdefault(space.unit_choices[unit], (s, f"{b}.{u}"))
    return layers


def _draw_rows(rows: Rows) -> Figure:
    """Draws rows of curves, on one scale of loss."""
    height = {1: 1.7}.get(len(rows), 1.3) if len(rows) <= 4 else max(7.5 / len(rows), 0.45)
    figure = new_figure(0.5 + height * len(rows))
    axes = figure.subplots(len(rows), 1, sharey=True, squeeze=False)[:, 0]
    columns = max(len(curves) for _, curves in rows)
    curves = [curve for _, several in rows for curve in several]
    lowest = min(float(curve.band[0].min()) for curve in curves)
    highest = max(float(curve.band[1].max()) for curve in curves)
    span = highest - lowest or abs(highest) or 1.0
    ticks = MaxNLocator(4 if height > 1 else 2).tick_values(lowest, highest)
    for ax, (title, several) in zip(axes, rows, strict=True):
        ax.set(xlim=(-0.1, columns), ylim=(lowest - 0.06 * span, highest + 0.2 * span))
        ax.set_title(title, loc="left", fontsize=9)
        ax.grid(axis="y", color=GRID, linewidth=0.7)
        # None where names stand.
        ax.set_yticks([tick for tick in ticks if lowest <= tick <= highest])
        ax.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:+g}" if loss else "0"))
        for place, curve in enumerate(several):
            _draw_curve(ax, place, curve)
        # All rows of a stage have the same candidates.
        _label_candidates(ax, several if title or len(rows) == 1 else [])
    figure.supylabel("added loss", fontsize=10)
    figure.legend(handles=list(_legend(curves)), loc="outside lower center", ncols=4)
    return figure


def _draw_curve(ax: Axes, place: int, curve: _Curve) -> None:
    """Draws a curve with its band, its name, and a dot at what was chosen, in a row's place."""
    xs, (lower, upper) = _places(place, curve), curve.band
    colour = MUTED if curve.taken is None else BLUE
    style = _CUT_STYLE if curve.taken is None else "-"
    marks = "." if len(xs) <= _FEW else ""
    ax.fill_between(xs, lower, upper, facecolor=colour, alpha=_BAND_ALPHA, linewidth=0)
    ax.plot(xs, curve.losses, color=colour, linestyle=style, marker=marks)
    top = ax.get_ylim()[1]
    ax.text(xs[-1], top, curve.name, ha="right", va="top", color=MUTED, fontsize=7.5)
    if curve.taken in curve.candidates:
        index = curve.candidates.index(curve.taken)
        spot = (xs[index], float(curve.losses[index]))
        # Numbers of neighbours do not touch.
        side = ("left", "center", "right")[min(3 * index // len(xs), 2)]
        ax.plot(*spot, "o", ms=5.5, mfc=VERMILION, mec="none", zorder=3)
        ax.annotate(
            str(curve.taken), spot, (0, 4), textcoords="offset points", ha=side, fontsize=8,
            fontweight="bold",
        )  # fmt: skip


def _places(place: int, curve: _Curve) -> list[float]:
    """Returns where the candidates of a curve stand in a row."""
    first, last = curve.candidates[0], curve.candidates[-1]
    return [place + 0.05 + 0.8 * (c - first) / (last - first) for c in curve.candidates]


def _label_candidates(ax: Axes, curves: Sequence[_Curve]) -> None:
    """Labels the candidates of every curve; of many the ends, where there is room for both."""
    ticks: list[float] = []
    names: list[str] = []
    sides: list[str] = []
    for place, curve in enumerate(curves):
        last = len(curve.candidates) - 1
        ends = [0, last] if len(f"{curve.candidates[0]}{curve.candidates[-1]}") < 7 else [last]
        shown_at = range(last + 1) if last < _FEW else ends
        ticks += [_places(place, curve)[index] for index in shown_at]
        names += [str(curve.candidates[index]) for index in shown_at]
        sides += [{0: "left", last: "right"}.get(index, "center") for index in shown_at]
    ax.set_xticks(ticks, names, fontsize=7.5)
    ax.tick_params(axis="x", length=2)
    for label, side in zip(ax.get_xticklabels(), sides, strict=True):
        label.set(ha=side, color=MUTED)
    ax.spines["bottom"].set_visible(False)


def _legend(curves: Sequence[_Curve]) -> Iterator[Artist]:
    yield Line2D([], [], color=BLUE, label="expected")
    yield Patch(facecolor=BLUE, alpha=_BAND_ALPHA, label=f"± {_BAND} standard errors")
    yield Line2D([], [], color=VERMILION, marker="o", linestyle="", label="chosen")
    if any(curve.taken is None for curve in curves):
        yield Line2D([], [], color=MUTED, linestyle=_CUT_STYLE, label="cut")


@styled
def draw_loss_against_cost(
    curve: Sequence[Point], networks: Mapping[str, Sequence[Point]], budget: Budget
) -> Figure:
    """Draws the least expected loss by cost, and the networks whose loss was measured.

    Args:
        curve: The best that the model knows, by cost.
        networks: What was measured: `CHOSEN`, `OTHERS`, and references by their names.
        budget: The budget; costs are of its kind.
    """
    figure = new_figure(3.2)
    ax = figure.subplots()
    low, high = (edge / budget.unpruned for edge in (budget.floor, budget.amount))
    ax.axvspan(low, high, facecolor=CUT, alpha=0.6, label="the budget's band", linewidth=0)
    ax.plot(*zip(*curve, strict=True), color=BLUE, marker=".", label="least expected")
    for name, points in networks.items():
        look = _LOOKS.get(name, _REFERENCE)
        ax.plot(*zip(*points, strict=True), linestyle="", label=f"{name}, measured", **look)
    ax.xaxis.set_major_formatter(PercentFormatter(1, None))
    kind = budget.kind.name
    ax.set(xlabel=f"{name_of(kind)}, of {shown(budget.unpruned, kind)}", ylabel="corrected loss")
    ax.grid(color=GRID, linewidth=0.7)
    figure.legend(loc="outside lower center", ncols=2)
    return figure
