"""The record of a search by measurement, read without trust."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tas_tf import json_schema
from tas_tf.json_schema import ANY, Optional, count, number, positive, text, truth
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.separable import table_shapes
from tas_tf.training.scores import Score


def _not_negative(value: Any) -> bool:
    """A number, not below 0."""
    return number(value) and value >= 0


# Of `measurement` in the result of a search, see `Choice.record`.
PATTERN = {
    **dict.fromkeys(("width_terms", "depth_terms"), [[number]]),
    **dict.fromkeys(("width_errors", "depth_errors"), [[_not_negative]]),
    "curve": [{"share": positive, "loss": number}],
    "finalists": [
        {"name": Optional(text), "widths": [count], "depths": [count], "losses": [number]}
    ],
    "leads": {
        ANY: {"loss": number, "standard_error": Optional(_not_negative), "decided": truth}
    },
}


@dataclasses.dataclass(frozen=True)
class Lead:
    """By how much the chosen network leads another one.

    Args:
        loss: Loss of the other one, less that of the chosen one.
        error: Its standard error; None where it is not known.
        decided: Whether the lead is one.
    """

    loss: float
    error: float | None
    decided: bool

    @property
    def errors(self) -> float | None:
        """The lead in standard errors; None where these are not known."""
        return self.loss / self.error if self.error else None


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a search by measurement knows.

    Args:
        widths: Terms (choices, max candidates) of minus the loss, and their standard errors.
        depths: Terms (stages, max depths), likewise.
        curve: Shares of the unpruned network's cost, and the least expected loss there.
        finalists: The chosen network, the other finalists, and what they are compared with.
        networks: Their architectures.
        leads: Of the chosen network, by the name of the other one.
    """

    widths: tuple[np.ndarray, np.ndarray]
    depths: tuple[np.ndarray, np.ndarray]
    curve: list[tuple[float, float]]
    finalists: list[Score]
    networks: list[Architecture]
    leads: dict[str, Lead]


def read(record: Any, space: SearchSpace) -> Measured:
    """Reads a record.

    Args:
        record: `measurement` of a search's result.
        space: What was searched.

    Raises:
        ValueError: If it is damaged, or of another space.
    """
    json_schema.check(record, PATTERN)
    finalists = [
        Score("final", (tuple(of["widths"]), tuple(of["depths"])), tuple(of["losses"]), of["name"])
        for of in record["finalists"]
    ]
    if not finalists or not record["curve"]:
        raise ValueError("finalists or curve: nothing stands there")
    batches = len(finalists[0].losses)
    if batches < 2 or any(len(score.losses) != batches for score in finalists):
        raise ValueError("finalists: the losses are not of the same batches, two at least")
    widths, depths = (
        (_table(record, f"{name}_terms", shape), _table(record, f"{name}_errors", shape))
        for name, shape in zip(("width", "depth"), table_shapes(space), strict=True)
    )
    return Measured(
        widths=widths,
        depths=depths,
        curve=sorted((point["share"], point["loss"]) for point in record["curve"]),
        finalists=finalists,
        networks=[_network(space, score) for score in finalists],
        leads={
            name: Lead(lead["loss"], lead["standard_error"], lead["decided"])
            for name, lead in record["leads"].items()
        },
    )


def _table(record: dict[str, Any], name: str, shape: tuple[int, int]) -> np.ndarray:
    rows = record[name]
    if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
        raise ValueError(f"{name}: expected a table {shape}")
    return np.array(rows, np.float64)


def _network(space: SearchSpace, score: Score) -> Architecture:
    sizes = [len(choice.candidates) for choice in space.choices], [len(d) for d in space.depths]
    for name, indices, counts in zip(("widths", "depths"), score.indices, sizes, strict=True):
        if len(indices) != len(counts) or any(map(int.__ge__, indices, counts)):
            raise ValueError(f"finalists: {name}: {indices} are no candidates of the space")
    return space.architecture(*score.indices)
