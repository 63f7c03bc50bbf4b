"""Comparisons with the reference, recorded for the table that ends a run of the tests."""

import pathlib
from typing import Any

import numpy as np

from tas_tf.spaces.search_space import SearchSpace

# All errors of every (file, quantity, tolerance).
_errors: dict[tuple[str, str, float], list[float]] = {}
# Of every file that was opened the arrays that nothing has read so far.
_unread: dict[str, set[str]] = {}


def check(file: str, quantity: str, error: float, tolerance: float) -> None:
    """Asserts that an error is within its tolerance, and records it.

    Args:
        file: File of the reference that the expected numbers are from.
        quantity: What is compared, and how its error is measured where that is not relative.
        error: The error.
        tolerance: The largest error that passes; 0 where the numbers must be equal.
    """
    _errors.setdefault((file, quantity, float(tolerance)), []).append(float(error))
    assert error <= tolerance, f"{file}: {quantity}: {error:.3g} exceeds {tolerance:.3g}"


def records() -> tuple[list[tuple], dict[str, list[str]]]:
    """Returns all comparisons so far, and what was not read, for `add` in another process."""
    unread = {file: sorted(names) for file, names in _unread.items()}
    return [(*of_what, errors) for of_what, errors in _errors.items()], unread


def add(found: list[tuple], unread: dict[str, list[str]]) -> None:
    """Adds what another process has compared, and leaves unread what neither has read."""
    for *of_what, errors in found:
        _errors.setdefault(tuple(of_what), []).extend(errors)
    for file, names in unread.items():
        _unread[file] = _unread.get(file, {*names}).intersection(names)


def table() -> list[str]:
    """Returns the table of all comparisons so far, line by line; empty if there were none."""
    if not _errors:
        return []
    cells = [
        (file, quantity, str(len(errors)), f"{tolerance:.3g}", f"{np.max(errors):.2g}")
        for (file, quantity, tolerance), errors in sorted(_errors.items())
    ]
    header = ("file", "quantity", "checks", "tolerance", "worst error")
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    rows = [header, tuple("-" * width for width in widths), *cells]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return lines + [
        f"{file}: no test of this run has read {len(names)} of its arrays, such as {min(names)}"
        for file, names in sorted(_unread.items())
        if names
    ]


class Arrays(dict[str, np.ndarray]):
    """The arrays of a file of the reference; it notes which of them are read.

    Args:
        path: The file.
    """

    def __init__(self, path: pathlib.Path):
        super().__init__(np.load(path))
        self._unread = _unread.setdefault(path.name, {*self})

    def __getitem__(self, name: str) -> np.ndarray:
        self._unread.discard(name)
        return super().__getitem__(name)


def fixtures(reference_dir: pathlib.Path, pattern: str) -> dict[str, Arrays]:
    """Returns all arrays of every file of the reference that matches, by file name."""
    paths = sorted(reference_dir.glob(pattern))
    assert paths, f"no file matches {pattern} in {reference_dir}"
    return {path.name: Arrays(path) for path in paths}


def space_of(arrays: dict[str, np.ndarray]) -> SearchSpace:
    """Returns the search space that arrays of the reference are of, by all that they say of it."""
    return SearchSpace.resnet(
        int(arrays["depth"]),
        num_classes=int(arrays["num_classes"]),
        input_shape=arrays["x"].shape[1:],
        block=str(arrays["block"]),
    )


def relative(value: Any, reference: np.ndarray) -> float:
    """Largest error relative to the largest magnitude."""
    return np.abs(_difference(value, reference)).max() / max(np.abs(reference).max(), 1e-300)


def distance(value: Any, reference: np.ndarray) -> float:
    """Error of an array by its norm."""
    return np.linalg.norm(_difference(value, reference)) / max(np.linalg.norm(reference), 1e-300)


def absolute(value: Any, reference: Any) -> float:
    """Largest difference."""
    return np.abs(_difference(value, np.asarray(reference))).max()


def _difference(value: Any, reference: np.ndarray) -> np.ndarray:
    value = np.asarray(value)
    assert value.shape == reference.shape, (value.shape, reference.shape)
    return value - reference
