"""Templates of pages and cards: each package that fills some has them in its `templates/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2


def filled(
    package: str,
    template: str,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    **values: Any,
) -> str:
    """Returns the text of a template; what is filled into HTML is escaped.

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
    environment.filters |= filters or {}
    return environment.get_template(template).render(**values)
