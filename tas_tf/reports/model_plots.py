"""Plots of a model that was read: the probabilities of its widths, and what is taken."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from tas_tf.reports.canvas import new_figure
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace

# Groups that have their names beside their rows.
_NAMED = 60


def draw_widths(
    space: ModelSpace, probabilities: np.ndarray, architecture: ModelArchitecture
) -> Figure:
    """Draws how probable each share of every group of channels is; a dot marks what is taken.

    Args:
        space: The search space.
        probabilities: (choices, candidates), zeros where absent.
        architecture: The network that is taken.
    """
    choices = space.choices
    figure = new_figure(min(1.2 + 0.16 * len(choices), 10.0))
    axes = figure.subplots()
    for row, (choice, of_choice) in enumerate(zip(choices, probabilities, strict=True)):
        edges = [0.0, *(width / choice.candidates[-1] for width in choice.candidates)]
        shades = np.asarray(of_choice[: len(choice.candidates)])
        for left, right, shade in zip(edges, edges[1:], shades, strict=False):
            axes.barh(row, right - left, left=left, height=0.9, color="C0", alpha=float(shade))
        axes.plot(architecture.widths[choice.name] / choice.candidates[-1], row, ".", color="C1")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(len(choices) - 0.5, -0.5)
    axes.set_xlabel("share of the channels (shade: probability; dot: taken)")
    if len(choices) <= _NAMED:
        axes.set_yticks(range(len(choices)), [choice.name for choice in choices], fontsize=6)
    else:
        axes.set_ylabel("groups of channels")
    return figure
