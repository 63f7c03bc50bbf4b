"""Patterns of JSON: the fields of a file and their types; an error names the difference."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any


def number(value: Any) -> bool:
    """A number of a size that can be shown."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18


def positive(value: Any) -> bool:
    """A number above 0."""
    return number(value) and value > 0


def share(value: Any) -> bool:
    """A number from 0 to 1."""
    return number(value) and 0 <= value <= 1


def count(value: Any) -> bool:
    """A whole number, not below 0."""
    return number(value) and isinstance(value, int) and value >= 0


def text(value: Any) -> bool:
    """Text."""
    return isinstance(value, str)


def truth(value: Any) -> bool:
    """true or false."""
    return isinstance(value, bool)


@dataclasses.dataclass(frozen=True)
class Optional:
    """A pattern that null has too."""

    pattern: Any


ANY = "*"  # whatever the name


def parse(content: str, pattern: dict[str, Any]) -> dict[str, Any]:
    """Reads JSON that must have a pattern; what else it has is left as it is.

    Args:
        content: The file's or the line's text.
        pattern: One of those above.

    Raises:
        ValueError: Where the text is no JSON, or where a field differs.
    """
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
        mismatch = next(_mismatches(value, pattern), None)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if mismatch:
        raise ValueError(mismatch)
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _mismatches(value: Any, pattern: Any, place: str = "") -> Iterator[str]:
    """Yields where a value differs from a pattern."""
    if isinstance(pattern, Optional):
        if value is not None:
            yield from _mismatches(value, pattern.pattern, place)
    elif isinstance(pattern, dict):
        if not isinstance(value, dict):
            yield f"{place or 'the file'}: expected an object"
        elif ANY in pattern:
            for name, inner in value.items():
                yield from _mismatches(inner, pattern[ANY], f"{place}.{name}".lstrip("."))
        else:
            for name, inner in pattern.items():
                field = f"{place}.{name}".lstrip(".")
                if name not in value:
                    yield f"{field} is missing"
                else:
                    yield from _mismatches(value[name], inner, field)
    elif isinstance(pattern, list):
        if not isinstance(value, list):
            yield f"{place}: expected a list"
        else:
            for index, inner in enumerate(value):
                yield from _mismatches(inner, pattern[0], f"{place}[{index}]")
    elif not pattern(value):
        yield f"{place}: unexpected {str(value)[:40]!r}"
