"""Plots of a model that was read: the probabilities of its widths, and what is taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tas_tf.reports.canvas import new_figure
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace

# Groups that have their names beside their rows.
_NAMED = 60


def draw_widths(
    space: ModelSpace,
    probabilities: np.ndarray,
    of_branches: np.ndarray,
    architecture: ModelArchitecture,
) -> Figure:
    """Draws how probable each share of every group of channels is; a dot marks what is taken.

    Below stands how probable it is that each branch is there.

    Args:
        space: The search space.
        probabilities: (choices, candidates), zeros where absent.
        of_branches: (branches, 2), of being left out and of being there.
        architecture: The network that is taken.
    """
    choices = space.choices
    names = [*(choice.name for choice in choices), *space.depth_names]
    figure = new_figure(min(1.2 + 0.16 * len(names), 10.0))
    axes = figure.subplots()
    for row, (choice, of_choice) in enumerate(zip(choices, probabilities, strict=True)):
        edges = [0.0, *(width / choice.candidates[-1] for width in choice.candidates)]
        shades = np.asarray(of_choice[: len(choice.candidates)])
        for left, right, shade in zip(edges, edges[1:], shades, strict=False):
            axes.barh(row, right - left, left=left, height=0.9, color="C0", alpha=float(shade))
        if choice.name in architecture.widths:
            share = architecture.widths[choice.name] / choice.candidates[-1]
            axes.plot(share, row, ".", color="C1")
    for row, branch in enumerate(space.depth_names, start=len(choices)):
        shade = float(of_branches[row - len(choices), 1])
        axes.barh(row, 1.0, height=0.9, color="C2", alpha=shade)
        axes.plot(float(branch not in architecture.left_out), row, ".", color="C1", clip_on=False)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("share of the channels (shade: probability; dot: taken)")
    _name_rows(axes, names)
    return figure


def draw_kept(architecture: ModelArchitecture) -> Figure:
    """Draws for every group of channels what share of it a network keeps.

    Args:
        architecture: The network.
    """
    whole = architecture.space.graph.partition.widths
    figure = new_figure(min(1.2 + 0.16 * len(whole), 10.0))
    axes = figure.subplots()
    shares = [architecture.widths.get(name, 0) / width for name, width in whole.items()]
    rows = range(len(whole))
    axes.barh(rows, [1.0] * len(whole), height=0.8, fill=False, edgecolor="0.6", linewidth=0.6)
    axes.barh(rows, shares, height=0.8, color="C0")
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("share of the channels that is kept")
    _name_rows(axes, list(whole))
    return figure


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_ylim(len(names) - 0.5, -0.5)
    if len(names) <= _NAMED:
        axes.set_yticks(range(len(names)), names, fontsize=6)
    else:
        axes.set_ylabel("groups of channels")
