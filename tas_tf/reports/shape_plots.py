"""Pictures of shapes: of an architecture, of the distributions over candidates, of how both moved.

Every `draw_...` function returns a matplotlib Figure, as those of `curve_plots` do (losses, costs,
entropies); `canvas.svg`, `canvas.png` and `canvas.image` turn it into text, bytes and pixels:

    figure = shape_plots.draw_architecture(architecture, unpruned)
    tf.summary.image("architecture", canvas.image(figure)[None], step)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from tas_tf.reports.canvas import (
    BLUE,
    CUT,
    DOT,
    INK,
    MUTED,
    PAPER,
    label_epochs,
    new_figure,
    styled,
)
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.search_space import SearchSpace

# Bars of more units than this carry no number.
_NUMBERED_UNITS = 24


@styled
def draw_architecture(architecture: Architecture, unpruned: Architecture | None = None) -> Figure:
    """Draws the width of every layer against the unpruned outline, and every stage's depth.

    Args:
        architecture: The network.
        unpruned: The network that it was cut from; None draws the network alone.
    """
    whole = unpruned or architecture
    sizes = [sum(map(len, stage)) for stage in whole.stages]
    numbered = 1 + sum(sizes) <= _NUMBERED_UNITS
    figure = new_figure(2.6)
    # A narrow stage still needs room for its title.
    shares = [max(size, sum(sizes) / 5) for size in sizes]
    axes = figure.subplots(1, len(sizes), width_ratios=shares, squeeze=False)[0]
    for s, ax in enumerate(axes):
        _draw_stage(ax, architecture, whole, s, numbered)
    axes[0].set_ylabel("channels")
    handles = [Patch(facecolor=BLUE, label="kept")]
    if unpruned is not None:
        handles += [
            Patch(facecolor=CUT, label="channels cut"),
            Patch(facecolor="none", edgecolor=MUTED, hatch="/////", label="blocks cut"),
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


Bars = list[tuple[float, float]]  # place and height of each


def _draw_stage(
    ax: Axes, architecture: Architecture, whole: Architecture, s: int, numbered: bool
) -> None:
    """Draws one stage, in the first one the stem before it, each on its own scale of channels."""
    kept, unpruned = architecture.stages[s], whole.stages[s]
    stem = [((architecture.stem_width,), (whole.stem_width,))] if s == 0 else []
    pairs = [*stem, *itertools.zip_longest(kept, unpruned, fillvalue=())]
    bars: Bars = []
    outline: Bars = []
    gone: Bars = []
    ticks, x = [], 0.0
    for b, (widths, limits) in enumerate(pairs, start=1 - len(stem)):
        places = [x + u for u in range(len(widths or limits))]
        bars += zip(places, widths, strict=False)
        (outline if widths else gone).extend(zip(places, limits, strict=False))
        if b or numbered:
            ticks.append((float(np.mean(places)), str(b) if b else "stem", bool(widths)))
        x += len(places) + (0.6 if numbered else 0.3)
    gap = 0.1 if numbered else 0.0
    _bars(ax, outline, gap, facecolor=CUT)
    _bars(ax, gone, gap, facecolor="none", edgecolor=MUTED, hatch="/////", linewidth=0)
    _bars(ax, bars, gap, facecolor=BLUE)
    _bars(ax, [*outline, *gone], gap, fill=False, edgecolor=MUTED, linewidth=0.8 if numbered else 0)
    widest = max(width for _, width in [*outline, *gone, *bars])
    ax.set(xlim=(-0.8, x - 0.4), ylim=(0, widest * 1.05))
    ax.set_title(f"stage {s + 1}\n{len(kept)}/{max(len(kept), len(unpruned))} blocks", fontsize=9)
    ax.set_yticks(sorted({width for _, width in [*outline, *gone]}))
    _label_blocks(ax, ticks)
    if numbered:
        _number(ax, bars, widest)


def _number(ax: Axes, bars: Bars, widest: float) -> None:
    """Writes widths above their bars, or into those that leave no room above."""
    for place, width in bars:
        inside = width > 0.85 * widest
        ax.annotate(
            str(width),
            (place, width),
            (0, -1.5 if inside else 1.5),
            textcoords="offset points",
            ha="center",
            va="top" if inside else "bottom",
            color=PAPER if inside else INK,
            fontsize=7,
        )


def _bars(ax: Axes, bars: Bars, gap: float, **options: Any) -> None:
    """Draws bars as one path, whatever their number."""
    if not bars:
        return
    edges: list[float] = []
    values: list[float] = []
    for place, width in bars:
        values += [0.0] * bool(edges) + [width]
        edges += [place - 0.5 + gap / 2, place + 0.5 - gap / 2]
    ax.stairs(values, edges, fill=options.pop("fill", True), **options)


def _label_blocks(ax: Axes, ticks: Sequence[tuple[float, str, bool]]) -> None:
    """Labels blocks below their bars, some of them where they are many; cut ones are grey."""
    named = ticks[:: -(-len(ticks) // 6)]
    ax.set_xticks([place for place, _, _ in named], [name for _, name, _ in named])
    ax.tick_params(axis="x", length=0)
    for label, (_, _, is_kept) in zip(ax.get_xticklabels(), named, strict=True):
        label.set_color(INK if is_kept else MUTED)


@styled
def draw_distributions(
    space: SearchSpace,
    width_probabilities: np.ndarray,
    depth_probabilities: np.ndarray,
    architecture: Architecture | None = None,
) -> Figure:
    """Draws how probable every candidate is: a row for every width choice and every stage.

    Args:
        space: The search space.
        width_probabilities: (choices, max candidates).
        depth_probabilities: (stages, max depths).
        architecture: The network whose candidates are marked; a width of a cut block is none of it.
    """
    widths = [choice.candidates for choice in space.choices]
    taken = taken_widths(space, architecture) if architecture is not None else [None] * len(widths)
    depths = [len(stage) for stage in architecture.stages] if architecture is not None else None
    figure = new_figure(min(1.9 + 0.13 * (len(widths) + len(space.depths)), 9.0))
    upper, lower = figure.subplots(2, 1, height_ratios=_heights(len(widths), len(space.depths)))
    picture = _grid(upper, width_probabilities, widths, taken)
    _label_choices(upper, space)
    upper.set_title("widths: narrowest candidate to the left")
    _grid(lower, depth_probabilities, space.depths, depths or [None] * len(space.depths))
    lower.set_yticks(range(len(space.depths)), [f"stage {s + 1}" for s in range(len(space.depths))])
    lower.set_title("depths: shallowest candidate to the left")
    bar = figure.colorbar(picture, ax=(upper, lower), format=PercentFormatter(1, 0), aspect=40)
    bar.set_label("probability")
    return figure


def _heights(widths: int, depths: int) -> tuple[float, float]:
    """Returns the heights of a picture of widths above one of depths."""
    return max(widths, 12), max(depths, 4, widths / 8)


def _grid(
    ax: Axes,
    probabilities: np.ndarray,
    candidates: Sequence[Sequence[int]],
    taken: Sequence[int | None],
) -> AxesImage:
    """Draws probabilities as cells, and a dot where a candidate is taken."""
    size = max(map(len, candidates))
    cells = np.full((len(candidates), size), np.nan)
    for row, (values, p) in enumerate(zip(candidates, probabilities, strict=True)):
        cells[row, : len(values)] = p[: len(values)]
    picture = ax.imshow(cells, vmin=0, vmax=1, aspect="auto")
    dots = [
        (values.index(value), row)
        for row, (values, value) in enumerate(zip(candidates, taken, strict=True))
        if value in values
    ]
    if dots:
        ax.plot(*zip(*dots, strict=True), "o", ms=4, mfc=DOT, mec="black", mew=0.8)
    ax.set_xticks([])
    return picture


def taken_widths(space: SearchSpace, architecture: Architecture) -> list[int | None]:
    """Returns the width that every choice has in an architecture; None where it is cut."""
    taken: list[int | None] = [None] * len(space.choices)
    taken[space.unit_choices[0]] = architecture.stem_width
    for stage, kept in zip(space.block_units, architecture.stages, strict=True):
        for units, widths in zip(stage, kept, strict=False):
            for unit, width in zip(units, widths, strict=True):
                taken[space.unit_choices[unit]] = width
    return taken


def _label_choices(ax: Axes, space: SearchSpace) -> None:
    """Names the rows: the stem and the first row of every stage."""
    rows = {"stem": space.unit_choices[0]} if len(space.choices) <= 40 else {}
    for s, stage in enumerate(space.block_units):
        own = {space.unit_choices[unit] for units in stage for unit in units}
        rows[f"stage {s + 1}"] = min(own - set(rows.values()), default=0)
    ax.set_yticks(list(rows.values()), list(rows))
    ax.tick_params(axis="y", length=3)


@styled
def draw_movement(space: SearchSpace, records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws how the most probable architecture moved: every width and depth by epoch.

    Args:
        space: The search space.
        records: The search's records, with `argmax_widths` of all choices and `argmax_depths`.
    """
    widths = np.array([record["argmax_widths"] for record in records], float).T
    depths = np.array([record["argmax_depths"] for record in records], float).T
    widths /= np.array([[choice.candidates[-1]] for choice in space.choices])
    depths /= np.array([[stage[-1]] for stage in space.depths])
    figure = new_figure(min(2.2 + 0.11 * (len(widths) + len(depths)), 7.0))
    upper, lower = figure.subplots(
        2, 1, sharex=True, height_ratios=_heights(len(widths), len(depths))
    )
    span = (records[0]["epoch"] - 0.5, records[-1]["epoch"] + 0.5)
    for ax, cells in ((upper, widths), (lower, depths)):
        place = (*span, len(cells) - 0.5, -0.5)
        picture = ax.imshow(cells, vmin=0, vmax=1, aspect="auto", extent=place)
    _label_choices(upper, space)
    upper.set_title("most probable width of every layer")
    lower.set_yticks(range(len(depths)), [f"stage {s + 1}" for s in range(len(depths))])
    lower.set_title("most probable depth of every stage")
    label_epochs(lower)
    bar = figure.colorbar(picture, ax=(upper, lower), format=PercentFormatter(1, 0), aspect=40)
    bar.set_label("share of the unpruned network's")
    return figure
