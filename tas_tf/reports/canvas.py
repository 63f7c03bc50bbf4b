"""Figures: colours, style, and conversion to SVG, PNG or pixels."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tas_tf.plain_text import plain

if TYPE_CHECKING:
    from matplotlib.typing import LineStyleType, RcKeyType

PAPER, INK, MUTED, GRID = "#ffffff", "#1c1c21", "#6a6a75", "#dededf"
BLUE, VERMILION, GREEN, PURPLE, AMBER = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"
CUT = "#cfcfd4"
DOT = "#fdfdfd"  # on a map of colours, whatever the page
# CSS variable that stands for a colour where a page draws it, so that a dark page can change it.
VARIABLES = {
    PAPER: "paper",
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    CUT: "cut",
    BLUE: "blue",
    VERMILION: "vermilion",
    GREEN: "green",
    PURPLE: "purple",
    AMBER: "amber",
}
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, AMBER)
DASHES: tuple[LineStyleType, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1)),
)
MARKERS = ("o", "s", "^", "D", "v")
# A figure of 5 inches is 360 units of SVG wide: a phone shows a unit as a pixel.
_WIDTH = 5.0
_STYLE: dict[RcKeyType, Any] = {
    "axes.edgecolor": MUTED,
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "hatch.linewidth": 0.7,
    "image.cmap": "cividis",
    "image.interpolation": "nearest",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9,
}
# Decorates what draws.
styled = matplotlib.rc_context(_STYLE)


def new_figure(height: float) -> Figure:
    """Returns an empty figure of a height in inches."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def svg(figure: Figure, name: str, themed: bool = False) -> str:
    """Returns a figure as an SVG element.

    Args:
        figure: The figure.
        name: Prefix of its ids: several figures may stand on one page.
        themed: Whether it is to stand on a page: without a background or a size of its own, and in
            the CSS variables of `VARIABLES`.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    style = matplotlib.rc_context({**_STYLE, "svg.hashsalt": name})
    with style, warnings.catch_warnings():
        # What a font here lacks, that of who looks at the picture may have.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(file, format="svg", metadata=nothing, transparent=themed)
    text = plain(file.getvalue())  # names in it may hold what no XML can
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\1{name}-", text)
    text = text.replace("'DejaVu Sans', sans-serif", "system-ui, sans-serif")
    if themed:
        text = re.sub(r'width="[^"]*" height="[^"]*" viewBox', "viewBox", text, count=1)
        text = re.sub(r"\s*<style.*?</style>", "", text, flags=re.DOTALL)
        for colour, variable in VARIABLES.items():
            text = text.replace(colour, f"var(--{variable})")
    return text


def png(figure: Figure, dots_per_inch: int = 144) -> bytes:
    """Returns a figure as a PNG file's content, on white."""
    file = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(file, format="png", dpi=dots_per_inch)
    return file.getvalue()


def image(figure: Figure, dots_per_inch: int = 144) -> np.ndarray:
    """Returns a figure as pixels (height, width, 3) uint8, on white."""
    with matplotlib.rc_context(_STYLE):
        figure.set_dpi(dots_per_inch)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def label_epochs(ax: Axes) -> None:
    """Labels an axis of epochs."""
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
