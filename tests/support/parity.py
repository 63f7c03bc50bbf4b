"""Comparisons with the reference, recorded for the table that ends a run of the tests."""

import pathlib
from typing import Any

import numpy as np

# All errors of every (file, quantity, tolerance).
_errors: dict[tuple[str, str, float], list[float]] = {}


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


def records() -> list[tuple]:
    """Returns all comparisons so far, for `add` in another process."""
    return [(*of_what, errors) for of_what, errors in _errors.items()]


def add(found: list[tuple]) -> None:
    """Adds what another process has compared."""
    for *of_what, errors in found:
        _errors.setdefault(tuple(of_what), []).extend(errors)


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
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]


def fixtures(reference_dir: pathlib.Path, pattern: str) -> dict[str, dict[str, np.ndarray]]:
    """Returns all arrays of every file of the reference that matches, by file name."""
    paths = sorted(reference_dir.glob(pattern))
    assert paths, f"no file matches {pattern} in {reference_dir}"
    return {path.name: dict(np.load(path)) for path in paths}


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
