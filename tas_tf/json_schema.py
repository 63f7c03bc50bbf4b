"""JSON that may come from anywhere: read with limits, and compared with a pattern.

A pattern has the fields of a file and their types; an error names the difference.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

MAX_TEXT = 8 * 2**20
MAX_NESTING = 100
_TOO_NESTED = f"lists and objects are nested more than {MAX_NESTING} deep"


class NotJSONError(ValueError):
    """Text that is no JSON."""


class _RefusedError(ValueError):
    """JSON that is not taken."""


def load(content: str | bytes, what: str = "file") -> Any:
    """Reads JSON that may come from anywhere.

    Args:
        content: The text, or its bytes in UTF-8.
        what: What errors call it.

    Raises:
        NotJSONError: If it is no JSON, or has a number that is not finite.
        ValueError: If it is too long or nested too deep, or has a field twice.
    """
    if len(content) > MAX_TEXT:
        raise ValueError(f"longer than {MAX_TEXT} bytes: no {what} is")
    try:
        value = json.loads(
            content.decode("utf-8-sig") if isinstance(content, bytes) else content,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        if _nesting(value) > MAX_NESTING:
            raise _RefusedError(_TOO_NESTED)
    except RecursionError:
        raise ValueError(_TOO_NESTED) from None
    except _RefusedError:
        raise
    except ValueError as error:  # of a decoder, or of a number with too many digits
        raise NotJSONError(str(error)) from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        raise _RefusedError(f"field {brief(counts.most_common(1)[0][0])} stands twice")
    return fields


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{brief(text)} is too large a number")
    return value


def _nesting(value: Any) -> int:
    if not isinstance(value, (dict, list)):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((_nesting(v) for v in inner if isinstance(v, (dict, list))), default=0)


def brief(value: Any) -> str:
    """Returns a value as messages show it: as Python writes it, at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


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


def parse(content: str | bytes, pattern: dict[str, Any], what: str = "file") -> dict[str, Any]:
    """Reads JSON that must have a pattern; what else it has is left as it is.

    Args:
        content: The file's or the line's text, or its bytes in UTF-8.
        pattern: A value of it is a function above; objects and lists hold patterns.
        what: What errors call it.

    Raises:
        ValueError: If `load` refuses it, or where a field differs.
    """
    value = load(content, what)
    check(value, pattern)
    return value


def check(value: Any, pattern: Any) -> None:
    """Refuses a value that does not have a pattern, see `parse`.

    Raises:
        ValueError: Where it differs.
    """
    mismatch = next(_mismatches(value, pattern), None)
    if mismatch:
        raise ValueError(mismatch)


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
