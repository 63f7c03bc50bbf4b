"""The section on the course of a search: losses, cost against budget, entropy, and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tas_tf.reports import curve_plots, model_plots, shape_plots
from tas_tf.reports.measurement_section import measurement_section
from tas_tf.reports.pages import Element, Picture, Pictures, Text
from tas_tf.reports.run_records import Part, Run
from tas_tf.reports.tables import comparable, epochs_text
from tas_tf.spaces import cost, derivation
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import Budget
from tas_tf.spaces.model_space import ModelArchitecture, ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.architecture_search import UNDECIDED


def search_section(run: Run) -> Iterator[Element]:
    """Yields what is to be said of a run's search, where it has one."""
    search = run.search
    if search is None:
        return
    if unfinished := epochs_text(search):
        yield Text(unfinished)
    if search.is_measured:
        yield from measurement_section(search)
    elif search.records:
        yield from _gradient_section(search)


def _gradient_section(search: Part) -> Iterator[Element]:
    """Yields what is to be said of a search whose logits are moved by gradients."""
    if entropies := _entropy_text(search):
        yield Text(entropies)
    pictures = [_losses(search), *(_costs(search, budget) for budget in search.budgets)]
    pictures.append(_decision(search))
    if isinstance(search.space, ModelSpace):
        if search.logits is not None and search.architecture is not None:
            pictures.append(_widths(search.space, search.logits, search.architecture))
        yield Pictures(pictures)
        return
    moved = [record for record in search.records if "argmax_widths" in record]
    if moved and search.space is not None:
        pictures.append(_movement(search.space, moved))
    if search.space is not None and search.logits is not None:
        pictures.append(_distributions(search.space, search.logits, search.architecture))
    yield Pictures(pictures)


def _entropy_text(search: Part) -> str:
    last, texts = search.records[-1], []
    entropies = {
        name: last[field]
        for name, field in (("widths", "width_entropy"), ("depths", "depth_entropy"))
        if field in last
    }
    if entropies:
        values = ", ".join(f"{name} {value:.2f}" for name, value in entropies.items())
        texts.append(
            f"Relative entropy of the distributions in the last epoch: {values} (1: nothing is "
            "known of the candidates, 0: all is decided)."
        )
    texts += [
        f"The search has hardly told its {name} apart."
        for name, value in entropies.items()
        if value > UNDECIDED
    ]
    return " ".join(texts)


def _span(records: list[dict[str, Any]], field: str, form: str = "{:.2f}") -> str:
    values = [record[field] for record in records if field in record]
    if not values:
        return "unknown"
    return f"{form.format(values[0])} after the first epoch, {form.format(values[-1])} at the end"


def _losses(search: Part) -> Picture:
    records = search.records
    weights, shape = _span(records, "loss"), _span(records, "architecture_loss")
    return Picture(
        "losses",
        curve_plots.draw_losses(records),
        "Losses and accuracy",
        "Both losses should fall and stay near each other: the weights learn on one half of the "
        "training set, widths and depths on the other.",
        f"Cross-entropy by epoch. Weight half: {weights}. Architecture half: {shape}.",
    )


def _costs(search: Part, budget: Budget) -> Picture:
    kind = budget.kind.name
    expected = _span(search.records, f"expected_{kind}_ratio", "{:.1%}")
    argmax = _span(search.records, f"argmax_{kind}_ratio", "{:.1%}")
    return Picture(
        f"cost-{kind}",
        curve_plots.draw_cost(search.records, budget),
        f"Cost in {cost.name_of(kind)}",
        "Expected cost (over all candidates) and that of the most probable network should enter "
        "the grey band around the budget and stay there.",
        f"{cost.name_of(kind)} as shares of the unpruned network's, by epoch. Budget: "
        f"{budget.amount / budget.unpruned:.1%}. Expected: {expected}. Most probable: {argmax}.",
    )


def _decision(search: Part) -> Picture:
    return Picture(
        "decision",
        curve_plots.draw_decision(search.records),
        "Entropy and temperature",
        "An entropy near 1 knows nothing of its candidates; a search that works brings it down as "
        "the temperature falls.",
        f"Relative entropy by epoch. Widths: {_span(search.records, 'width_entropy')}. Depths: "
        f"{_span(search.records, 'depth_entropy')}. Temperature: "
        f"{_span(search.records, 'temperature')}.",
    )


def _movement(space: SearchSpace, records: list[dict[str, Any]]) -> Picture:
    shapes = [(record["argmax_widths"], record["argmax_depths"]) for record in records]
    changes = [
        sum(x != y for a, b in zip(before, after, strict=True) for x, y in zip(a, b, strict=True))
        for before, after in zip(shapes, shapes[1:], strict=False)
    ]
    last = next((i + 2 for i in reversed(range(len(changes))) if changes[i]), 1)
    return Picture(
        "movement",
        shape_plots.draw_movement(space, records),
        "How the most probable network moved",
        "A row is a layer (below: a stage), a column an epoch, bright what is kept whole. Rows "
        "that keep one colour to the right have settled; rows that flicker have not.",
        f"The most probable width of every layer and depth of every stage by epoch. "
        f"{sum(changes)} changes in all, the last in epoch {records[last - 1]['epoch']}.",
    )


def _widths(space: ModelSpace, logits: Sequence[np.ndarray], network: ModelArchitecture) -> Picture:
    widths, branches = derivation.probabilities(space, *logits)
    of_branches = (
        " Green rows are branches, the darker, the more probable that they stay: a dot at 0 is "
        "left out."
    )
    return Picture(
        "distributions",
        model_plots.draw_widths(space, widths, branches, network),
        "Where the search put its probability",
        "A row is a group of channels, a box a candidate width: the darker, the more probable. The "
        "dot is what was taken. Rows of one shade are undecided."
        + of_branches
        * bool(space.branches),
        f"Probabilities of the widths of {len(space.choices)} groups of channels; the most "
        f"probable candidates have {np.mean(widths.max(axis=1)):.0%} on average.",
    )


def _distributions(
    space: SearchSpace, logits: Sequence[np.ndarray], network: Architecture | None
) -> Picture:
    widths, depths = derivation.probabilities(space, *logits)
    tops = np.concatenate([p.max(axis=1) for p in (widths, depths)])
    if network is not None and not comparable(network, space.unpruned()):
        network = None
    return Picture(
        "distributions",
        shape_plots.draw_distributions(space, widths, depths, network),
        "Distributions at the end",
        "A row holds the candidates of a layer, bright what is probable; dots mark what was taken. "
        "A dot beside the brightest cell was moved there by the budget; rows without a dot belong "
        "to blocks that were cut.",
        f"Probabilities of all candidates at the end of the search. The most probable candidate of "
        f"a row has {tops.mean():.0%} on average.",
    )
