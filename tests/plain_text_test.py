"""Text that came from elsewhere: what a terminal, a page and a file of lines get of it."""

import io
import sys
import xml.dom.minidom

import hypothesis
import hypothesis.strategies as st
import pytest

from tas_tf import plain_text
from tas_tf.plain_text import one_line, plain

ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gr\u00fcn \U0001f332 [red] <b>", "gr\u00fcn \U0001f332 [red] <b>"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("over\rwritten", r"over\rwritten"),
        ("a\x00b\x7fc\x9bd", r"a\x00b\x7fc\x9bd"),
        ("left\u202eright", r"left\u202eright"),
        ("two\u2028lines", r"two\u2028lines"),
        ("not \udcff UTF-8", r"not \udcff UTF-8"),
        ("a line\n\tand one", "a line\n\tand one"),
    ],
)
def test_plain_text_is_text(text, expected):
    assert plain(text) == expected
    assert one_line(text) == expected.replace("\n", r"\n").replace("\t", r"\t")


@hypothesis.settings(deadline=None, database=None)
@hypothesis.given(text=ANY_TEXT)
def test_any_text_becomes_one_line_that_everything_can_hold(text):
    line = one_line(text)
    assert len(f"{line}\n".splitlines()) <= 1 and line == one_line(line)
    assert line.encode().decode() == plain(line) == line
    element = xml.dom.minidom.Document().createElement("name")
    element.setAttribute("of", line)
    assert xml.dom.minidom.parseString(element.toxml()).documentElement.getAttribute("of") == line


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@hypothesis.settings(deadline=None, database=None, max_examples=30)
@hypothesis.given(text=ANY_TEXT)
def test_what_is_printed_is_plain_and_stops_nothing(encoding, text):
    raw = io.BytesIO()
    stdout = io.TextIOWrapper(raw, encoding, write_through=True, newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        with plain_text.plain_output():
            print(text)
            assert plain_text.terminal() is stdout and sys.stdout.encoding == encoding
        assert sys.stdout is stdout
    assert raw.getvalue().decode(encoding).splitlines(keepends=True)[-1].endswith("\n")
    if encoding == "utf-8":
        assert raw.getvalue().decode() == plain(text) + "\n"
    assert b"\x1b" not in raw.getvalue()


def test_a_stream_that_was_closed_stays_away(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with plain_text.plain_output():
        print("nothing reads this")
        assert sys.stdout is None
