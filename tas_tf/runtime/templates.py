"""Templates of pages and cards: each package that fills some has them in its `templates/`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jinja2

from tas_tf.plain_text import plain


def filled(
    package: str,
    template: str,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    **values: Any,
) -> str:
    """Returns the text of a template; what is filled into HTML is escaped, and all is plain text.

    Markdown has the filter `markdown` for text, and `fence` for code.

    Args:
        package: The package that has it, such as `tas_tf.reports`.
        template: Name of its file.
        filters: Further filters that it uses.
        **values: What it is filled with.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=lambda name: name is None or not name.endswith(".md"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"markdown": markdown, "fence": fence, **(filters or {})}
    return plain(environment.get_template(template).render(**values))


def markdown(text: object) -> str:
    """Returns text for a line of Markdown, where none of its characters has a meaning."""
    text = re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(str(text).split()))
    return re.sub(r"^([-+]|\d+[.)])(?=\s)", r"\\\1", text)


def fence(text: str) -> str:
    """Returns a fence that the text cannot end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)
