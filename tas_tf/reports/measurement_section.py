"""The section on a search by measurement: whether it decided, and what its widths are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from tas_tf.reports import curve_plots, measurement_plots
from tas_tf.reports.measured_record import Finalist, Lead, Measured
from tas_tf.reports.measurement_plots import CHOSEN, OTHERS
from tas_tf.reports.pages import Element, Picture, Pictures, Table, Text
from tas_tf.reports.run_records import Part
from tas_tf.reports.tables import NONE, amount, epochs_text, percent
from tas_tf.spaces import cost
from tas_tf.spaces.cost import Budget
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.separable import Space
from tas_tf.training.measurement import DECIDED, RUNNER_UP

UNIFORM = "uniform"
_NAMES = {UNIFORM: "uniform narrowing", RUNNER_UP: "the runner-up"}


def measurement_section(search: Part) -> Iterator[Element]:
    """Yields what is to be said of a search by measurement that has begun."""
    measured, space = search.measured, search.space
    if measured is not None and space is not None:
        yield Text(verdict(measured))
        yield Text(
            "Losses are cross-entropies of the supernet's paths on the architecture half. They are "
            "corrected for capacity and for the widths of residual streams, which they rank too "
            "low: paths share their weights and train for few steps. Only differences count. Leads "
            "are those on images that had no part in the choice."
        )
        pictures = list(_worth(space, measured))
        pictures += [_curve(measured, budget) for budget in search.budgets[:1]]
        yield Pictures([*pictures, _losses(search)])
        yield _table(measured, search.budgets)
        yield Text(
            "± is the standard error of “behind the chosen”: smaller than that of a loss, because "
            "all networks saw the same images."
        )
        return
    if search.records:
        if search.result is None and not epochs_text(search):
            yield Text("The paths are trained; the measurement of some of them has not finished.")
        yield Pictures([_losses(search)])


def verdict(measured: Measured) -> str:
    """Returns whether a search decided, in plain words."""
    leads = measured.leads
    # What a user would pick instead comes first.
    names = sorted(leads, key=lambda name: (name != UNIFORM, name != RUNNER_UP, name))
    texts = [_lead_text(_NAMES.get(name, name), leads[name]) for name in names]
    return " ".join(texts) or "Only one network was measured: there is nothing that it leads."


def decision(lead: Lead) -> str:
    """Returns a lead in two or three words."""
    if lead.decided:
        return "decided"
    behind = lead.error is not None and lead.loss < -DECIDED * lead.error
    return "WORSE" if behind else "NOT DECIDED"


def size_of(lead: Lead) -> str:
    """Returns how large a lead is, in corrected loss and standard errors."""
    if lead.error is None:
        return f"{abs(lead.loss):.4f} of corrected loss, with an unknown standard error"
    errors = f"{abs(lead.loss) / lead.error:.1f}" if lead.error else NONE
    return f"{abs(lead.loss):.4f} of corrected loss, {errors} standard errors"


def loss_alone(lead: Lead) -> str:
    """Returns what a lead is without the correction, if that is known."""
    if lead.alone is None:
        return ""
    return f" In loss alone it {where(lead.alone)} by {abs(lead.alone):.4f}."


def where(lead: float) -> str:
    """Returns on which side a lead is."""
    return "leads" if lead >= 0 else "is behind"


def _lead_text(name: str, lead: Lead) -> str:
    if not lead.loss and not lead.error and lead.error is not None:
        return f"The chosen network is that of {name}."
    word = decision(lead)
    text = f"Against {name}: {word}. The chosen network {where(lead.loss)} it by {size_of(lead)}"
    if word == "NOT DECIDED":
        text += f" (below {DECIDED:g}, that may be chance)"
    return f"{text}.{loss_alone(lead)}"


def _worth(space: Space, measured: Measured) -> Iterator[Picture]:
    """Yields the pictures of what widths and depths are worth, where they were searched."""
    figures = measurement_plots.draw_worth(
        space, measured.widths, measured.depths, measured.finalists[0].network
    )
    if "widths" in figures:
        yield Picture(
            "widths",
            figures["widths"],
            "What each width is worth",
            "Where a curve is flat, narrowing costs nothing that was measured; where it is steep, "
            "the channels are needed. All curves have one scale, and compare with the unpruned "
            "width. A band as high as its curve says that this layer is hardly known."
            + (" 2.1 is the first layer of block 2." if isinstance(space, SearchSpace) else ""),
            "What every candidate width adds to the loss, by layer. "
            + _ends_text(
                {
                    choice.name: (-measured.widths[0][c, 0], measured.widths[1][c, 0])
                    for c, choice in enumerate(space.choices)
                    if len(choice.candidates) > 1
                }
            ),
        )
    if "depths" in figures:
        yield Picture(
            "depths",
            figures["depths"],
            "What each depth is worth",
            "The same for the number of blocks of a stage, or for a branch that is there (1) or "
            "left out (0), all as wide as in the unpruned network.",
            "What every candidate depth adds to the loss. "
            + _ends_text(
                {
                    name: (-measured.depths[0][s, 0], measured.depths[1][s, 0])
                    for s, (name, candidates) in enumerate(
                        zip(space.depth_names, space.depths, strict=True)
                    )
                    if len(candidates) > 1
                }
            ),
        )


def _ends_text(ends: Mapping[str, tuple[float, float]]) -> str:
    """Says what the smallest candidates cost: loss and standard error, by name."""
    needed = {name: loss for name, (loss, error) in ends.items() if loss > DECIDED * error}
    most = max(ends, key=lambda name: ends[name][0])
    loss, error = ends[most]
    return (
        f"The smallest candidate costs most at {most.replace('_', ' ')}: {loss:.4f}, standard "
        f"error {error:.4f}. At {len(ends) - len(needed)} of {len(ends)} it costs less than "
        f"{DECIDED:g} standard errors."
    )


def _curve(measured: Measured, budget: Budget) -> Picture:
    networks: dict[str, list[measurement_plots.Point]] = {}
    for finalist in measured.finalists:
        name = finalist.name if finalist.is_reference or finalist.name == CHOSEN else OTHERS
        share = cost.cost(finalist.network, budget.kind) / budget.unpruned
        networks.setdefault(name, []).append((share, finalist.corrected))
    (first, at_first), (last, at_last) = measured.curve[0], measured.curve[-1]
    share, loss = networks[CHOSEN][0]
    return Picture(
        "expected",
        measurement_plots.draw_loss_against_cost(measured.curve, networks, budget),
        "Loss against cost",
        "The line is the best that the model of widths and depths expects at each cost: what "
        "python -m tas_tf.derive would find for another budget, with no further search. Marks are "
        "networks whose own loss was measured, on more images: they need not lie on the line.",
        f"The least expected loss by share of {cost.name_of(budget.kind.name)}: {at_first:.4f} at "
        f"{percent(first, 0)}, {at_last:.4f} at {percent(last, 0)}. The chosen network has "
        f"{percent(share, 1)} and a measured loss of {loss:.4f}.",
    )


def _losses(search: Part) -> Picture:
    values = [record["loss"] for record in search.records if "loss" in record]
    ends = f"{values[0]:.2f} after the first epoch, {values[-1]:.2f} at the end" if values else ""
    return Picture(
        "losses",
        curve_plots.draw_losses(search.records),
        "Training of the paths",
        "Every step trains one random path on the weight half, by the outputs of the trained "
        "network where the search starts from one. The loss is a mean over paths of all sizes: it "
        "should fall, and need not come near that of a single network.",
        f"Loss and accuracy of random paths by epoch. Loss: {ends or 'unknown'}.",
    )


def _table(measured: Measured, budgets: list[Budget]) -> Table:
    kinds = [budget.kind for budget in budgets]
    rows = [_row(finalist) for finalist in measured.finalists]
    for row, finalist in zip(rows, measured.finalists, strict=True):
        row += [amount(cost.cost(finalist.network, kind), kind.name) for kind in kinds]
    header = ["network", "loss", "corrected", "behind the chosen", "±"]
    header += [cost.name_of(kind.name) for kind in kinds]
    return Table("Networks of the last round, on the images that judge", header, rows)


def _row(finalist: Finalist) -> list[str]:
    row = [finalist.name, f"{finalist.loss:.4f}", f"{finalist.corrected:.4f}"]
    if finalist.name == CHOSEN:
        return [*row, NONE, NONE]
    error = f"{finalist.error:.4f}" if np.isfinite(finalist.error) else "unknown"
    return [*row, f"{finalist.lead:+.4f}", error]
