"""Text that came from elsewhere, made safe for a terminal, a page and a file of lines."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

# Characters that move a cursor, colour a terminal, break a line or turn its direction, and those
# that no file of UTF-8 and no XML can hold; line feed and tab are text.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def plain(text: str) -> str:
    r"""Returns text of several lines with all that is not text written out, as `\x1b`."""
    return _UNSAFE.sub(_written_out, text)


def one_line(text: str) -> str:
    r"""Returns a name as it can stand in one line, also of a file of lines; breaks become `\n`."""
    return re.sub(r"[\n\t]", _written_out, plain(text))


def _written_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def is_broken(text: str) -> bool:
    """Whether text stands for bytes that are no UTF-8, as a name on a disk may have."""
    return bool(re.search(r"[\ud800-\udfff]", text))


class PlainStream:
    """A stream that writes plain text only; all else is the stream's own.

    Args:
        stream: Where it writes.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes text, see `plain`."""
        return self.stream.write(plain(text))

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """Whatever is printed inside is plain text, and no character of it stops the command.

    A name from a folder, an archive or a file may hold what colours or clears a terminal, and a
    terminal may lack what a name has.
    """
    before = sys.stdout, sys.stderr
    for name, stream in zip(("stdout", "stderr"), before, strict=True):
        if stream is not None:  # as where it was closed
            with contextlib.suppress(AttributeError):
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
            setattr(sys, name, PlainStream(stream))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def terminal() -> TextIO:
    """Returns stdout for what draws by escape codes of its own; its texts have to be plain."""
    return sys.stdout.stream if isinstance(sys.stdout, PlainStream) else sys.stdout
