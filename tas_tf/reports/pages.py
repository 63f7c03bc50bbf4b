"""Pages for people: text, tables and pictures, as one HTML file and its Markdown twin."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import markupsafe
from matplotlib.figure import Figure

from tas_tf.reports import canvas
from tas_tf.runtime import files, run_directory, templates


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclasses.dataclass(frozen=True)
class Items:
    """A list."""

    kind: ClassVar[str] = "items"
    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Facts:
    """Terms, and what is to be said of each."""

    kind: ClassVar[str] = "facts"
    facts: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; its first column holds names, the others numbers unless they are `left`.

    Args:
        caption: What it shows.
        header: Names of the columns.
        rows: Cells as text.
        left: Columns after the first that hold text.
        faded: Rows of what is not there, shown in grey.
        folded: Whether it is shown on demand only.
    """

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[int] = ()
    faded: Sequence[int] = ()
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        name: Name of its file, and of its parts.
        figure: The figure.
        title: What it is of.
        caption: What to see in it.
        description: What it shows, for those who do not see it.
    """

    kind: ClassVar[str] = "picture"
    name: str
    figure: Figure
    title: str
    caption: str
    description: str


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures side by side where there is room."""

    kind: ClassVar[str] = "pictures"
    pictures: Sequence[Picture]


@dataclasses.dataclass(frozen=True)
class Code:
    """Text for a machine: a command, a file."""

    kind: ClassVar[str] = "code"
    caption: str
    text: str
    folded: bool = False


Element = Text | Items | Facts | Table | Picture | Pictures | Code


@dataclasses.dataclass(frozen=True)
class Section:
    """A section with its heading; one without content is left out."""

    title: str
    content: Sequence[Element]

    @property
    def anchor(self) -> str:
        """Name that links lead to."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


@dataclasses.dataclass(frozen=True)
class Page:
    """A page.

    Args:
        title: Its heading.
        lead: What is to be known first, in a sentence or two.
        tiles: A few numbers that stand out, by what they are.
        sections: Its sections.
    """

    title: str
    lead: str
    tiles: dict[str, str]
    sections: Sequence[Section]

    @property
    def pictures(self) -> list[Picture]:
        """All its pictures."""
        pictures = []
        for section in self.sections:
            for element in section.content:
                if isinstance(element, Picture):
                    pictures.append(element)
                elif isinstance(element, Pictures):
                    pictures += element.pictures
        return pictures


def write_page(page: Page, folder: str, name: str) -> tuple[str, str]:
    """Writes a page as `NAME.html`, which needs nothing beside it, and as `NAME.md`.

    Args:
        page: The page.
        folder: Where to write.
        name: Name of the files. The pictures of the Markdown go to `NAME_pictures/`.

    Returns:
        The paths of both.
    """
    pictures = run_directory.PICTURES.format(name)
    if page.pictures:
        files.make_folder(f"{folder}/{pictures}")
    for picture in page.pictures:
        svg = canvas.svg(picture.figure, picture.name)
        files.write_whole(f"{folder}/{pictures}/{picture.name}.svg", svg)
    filters: dict[str, Callable[..., Any]] = {"inline": _inline}
    paths = f"{folder}/{name}.html", f"{folder}/{name}.md"
    for path, template in zip(paths, ("page.html", "page.md"), strict=True):
        text = templates.filled("tas_tf.reports", template, filters, page=page, folder=pictures)
        files.write_whole(path, text)
    return paths


def _inline(picture: Picture) -> markupsafe.Markup:
    """Returns a picture as an element of the page."""
    svg = canvas.svg(picture.figure, picture.name, themed=True)
    label = markupsafe.escape(picture.description)
    return markupsafe.Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))
