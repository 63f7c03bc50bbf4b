"""The record of a search by measurement, read without trust."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from tas_tf import json_schema
from tas_tf.json_schema import ANY, Optional, count, number, positive, text, truth
from tas_tf.spaces.expected_cost import table_shapes
from tas_tf.spaces.separable import Space
from tas_tf.training.measurement import RUNNER_UP
from tas_tf.training.scores import Score, standard_error

CHOSEN = "chosen"


def _not_negative(value: Any) -> bool:
    """A number, not below 0."""
    return number(value) and value >= 0


def _name(value: Any) -> bool:
    """A name that has room in a picture."""
    return text(value) and 0 < len(value) <= 30


# Of `measurement` in the result of a search, see `Choice.record`.
PATTERN = {
    **dict.fromkeys(("width_terms", "depth_terms"), [[number]]),
    **dict.fromkeys(("width_errors", "depth_errors"), [[_not_negative]]),
    "curve": [{"share": positive, "value": number}],
    "finalists": [
        {
            "name": Optional(_name),
            "widths": [count],
            "depths": [count],
            "losses": [number],
            "value": number,
        }
    ],
    "leads": {ANY: {"value": number, "standard_error": Optional(_not_negative), "decided": truth}},
}


@dataclasses.dataclass(frozen=True)
class Lead:
    """By how much the chosen network leads another one.

    Args:
        loss: Corrected loss of the other one, less that of the chosen one.
        alone: The same of the losses, not corrected; None where they are not known.
        error: The standard error of both; None where it is not known.
        decided: Whether the first is enough.
    """

    loss: float
    alone: float | None
    error: float | None
    decided: bool


@dataclasses.dataclass(frozen=True)
class Finalist:
    """A network of the last round.

    Args:
        name: What it is called.
        is_reference: Whether the others are compared with it, and it could not be chosen.
        network: The network.
        loss: Mean cross-entropy on the images that judge.
        corrected: That loss, corrected for capacity: minus the value (`path_values.PathValues`).
        lead: By how much the chosen one leads it there.
        error: The standard error of that; infinite where it is not known.
    """

    name: str
    is_reference: bool
    network: Any
    loss: float
    corrected: float
    lead: float
    error: float


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a search by measurement knows; losses are corrected for capacity.

    Args:
        widths: Terms (choices, max candidates) of minus the loss, and their standard errors.
        depths: Terms (stages, max depths), likewise.
        curve: Shares of the unpruned network's cost, and the least expected loss there.
        finalists: The chosen network, the other finalists, and what they are compared with.
        leads: Of the chosen network, by the name of the other one.
    """

    widths: tuple[np.ndarray, np.ndarray]
    depths: tuple[np.ndarray, np.ndarray]
    curve: list[tuple[float, float]]
    finalists: list[Finalist]
    leads: dict[str, Lead]


def read(record: Any, space: Space) -> Measured:
    """Reads a record.

    Args:
        record: `measurement` of a search's result.
        space: What was searched.

    Raises:
        ValueError: If it is damaged, or of another space.
    """
    json_schema.check(record, PATTERN)
    widths, depths = (
        (_table(record, f"{name}_terms", shape), _table(record, f"{name}_errors", shape))
        for name, shape in zip(("width", "depth"), table_shapes(space), strict=True)
    )
    if not record["curve"]:
        raise ValueError("curve: nothing stands there")
    finalists = list(_finalists(record["finalists"], space))
    alone = {finalist.name: finalist.loss - finalists[0].loss for finalist in finalists}
    return Measured(
        widths=widths,
        depths=depths,
        curve=sorted((point["share"], -point["value"]) for point in record["curve"]),
        finalists=finalists,
        leads={
            name: Lead(lead["value"], alone.get(name), lead["standard_error"], lead["decided"])
            for name, lead in record["leads"].items()
        },
    )


def _finalists(records: list[dict[str, Any]], space: Space) -> Iterator[Finalist]:
    """Yields the networks of the last round."""
    scores = [
        Score("final", (tuple(of["widths"]), tuple(of["depths"])), tuple(of["losses"]), of["name"])
        for of in records
    ]
    batches = {len(score.losses) for score in scores}
    if len(batches) != 1 or min(batches) < 2:
        raise ValueError("finalists: expected the losses of the same batches, two at least")
    first = scores[0].parts[1]
    for place, (of, score) in enumerate(zip(records, scores, strict=True), start=1):
        losses = score.parts[1]
        yield Finalist(
            name=score.name or {1: CHOSEN, 2: RUNNER_UP}.get(place, f"finalist {place}"),
            is_reference=score.name is not None,
            network=_network(space, score),
            loss=float(np.mean(losses)),
            corrected=-of["value"],
            lead=records[0]["value"] - of["value"],
            # What corrects a loss is the same for all batches.
            error=standard_error(np.subtract(losses, first)),
        )


def _table(record: dict[str, Any], name: str, shape: tuple[int, int]) -> np.ndarray:
    rows = record[name]
    if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
        raise ValueError(f"{name}: expected a table {shape}")
    return np.array(rows, np.float64)


def _network(space: Space, score: Score) -> Any:
    sizes = [len(choice.candidates) for choice in space.choices], [len(d) for d in space.depths]
    for name, indices, counts in zip(("widths", "depths"), score.indices, sizes, strict=True):
        if len(indices) != len(counts) or any(map(int.__ge__, indices, counts)):
            raise ValueError(f"finalists: {name}: {indices} are no candidates of the space")
    return space.architecture(*score.indices)
