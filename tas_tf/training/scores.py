"""Scores of paths, and their record, from which an interrupted measurement goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tas_tf.errors import RunDirectoryError
from tas_tf.runtime import files
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.separable import Indices

SCORES = "scores.jsonl"


@dataclasses.dataclass(frozen=True)
class Score:
    """The measured losses of one path.

    Args:
        round: `random`, `near` or `final`, see `measurement`.
        indices: Its candidates.
        losses: (batches,), mean cross-entropy of each batch.
        name: What a reference is called; None for others.
    """

    round: str
    indices: Indices
    losses: tuple[float, ...]
    name: str | None = None

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return float(np.mean(self.losses))

    @property
    def parts(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The losses by which finalists are chosen, and those by which the choice is judged."""
        first = choosing(len(self.losses))
        return self.losses[:first], self.losses[first:]

    def record(self) -> dict[str, Any]:
        """Returns it as plain data."""
        widths, depths = self.indices
        return {
            "round": self.round,
            "name": self.name,
            "widths": [*widths],
            "depths": [*depths],
            "losses": [*self.losses],
        }


def choosing(batches: int) -> int:
    """Returns how many of a finalist's batches choose: a third, at least one; the others judge.

    Finalists differ by more than a third leaves open; whether one leads takes the most images.
    """
    return max(batches // 3, 1)


def standard_error(differences: Sequence[float] | np.ndarray) -> float:
    """Returns the standard error of the mean of differences (n,); a single one tells nothing."""
    count = len(differences)
    return float(np.std(differences, ddof=1) / np.sqrt(count)) if count > 1 else float("inf")


class Scores:
    """`scores.jsonl` of a search: the scores so far, from which an interrupted one goes on.

    Args:
        directory: The run directory.

    Raises:
        RunDirectoryError: If they cannot be read.
    """

    def __init__(self, directory: RunDirectory):
        self._file = directory.file(SCORES)
        self.scores: list[Score] = read_scores(directory)
        self.taken = 0

    def next(self, wanted: Score, measure: Callable[[], Sequence[float]]) -> Score:
        """Returns the next score, measured now if it was not before.

        Args:
            wanted: What is measured, without losses.
            measure: Measures it.

        Raises:
            RunDirectoryError: If another path was measured in its place.
        """
        if self.taken < len(self.scores):
            score = self.scores[self.taken]
            if dataclasses.replace(score, losses=()) != wanted:
                raise RunDirectoryError(
                    f"{self._file}, line {self.taken + 1}: expected {wanted.record()}. Received: "
                    f"{score.record()}. Remove the file: then the paths are measured anew"
                )
        else:
            score = dataclasses.replace(wanted, losses=tuple(map(float, measure())))
            self.scores.append(score)
            lines = [json.dumps(of.record()) + "\n" for of in self.scores]
            files.write_whole(self._file, "".join(lines))
        self.taken += 1
        return score


def read_scores(directory: RunDirectory) -> list[Score]:
    """Reads the scores of a search so far.

    Raises:
        RunDirectoryError: If they cannot be read.
    """
    if not directory.exists(SCORES):
        return []
    path = directory.file(SCORES)
    try:
        records = [json.loads(line) for line in files.read_text(path).splitlines()]
        return [
            Score(
                round=record["round"],
                indices=(tuple(record["widths"]), tuple(record["depths"])),
                losses=tuple(map(float, record["losses"])),
                name=record["name"],
            )
            for record in records
        ]
    except (tf.errors.OpError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise RunDirectoryError(
            f"{path} cannot be read: {files.first_line(error)}. Put back a whole one, or remove "
            "it: then the paths are measured anew"
        ) from None
