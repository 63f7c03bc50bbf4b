"""JSON from anywhere: what is read, and what is refused by which words."""

import json
import math
import re

import pytest

from tas_tf import json_schema
from tas_tf.json_schema import ANY, MAX_NESTING, MAX_TEXT, Optional, count, number, share, text

PATTERN = {"name": text, "sizes": [count], "parts": {ANY: {"share": share}}, "note": Optional(text)}
VALID = {"name": "a", "sizes": [1, 2], "parts": {"x": {"share": 0.5}}, "note": None, "more": [[]]}


@pytest.mark.parametrize(
    "content", [json.dumps(VALID), b"\xef\xbb\xbf" + json.dumps(VALID).encode()]
)
def test_what_has_the_pattern_is_read_with_all_that_it_has_besides(content):
    assert json_schema.parse(content, PATTERN) == VALID


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("{", "Expecting property name"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff"),
        ("NaN", "NaN is no JSON number"),
        ("[-Infinity]", "-Infinity is no JSON number"),
        ('{"a": 1e999}', "'1e999' is too large a number"),
        ("9" * 100_000, "Exceeds the limit"),
    ],
)
def test_refuses_what_is_no_json(content, said):
    with pytest.raises(json_schema.NotJSONError, match=re.escape(said)):
        json_schema.load(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "field 'a' stands twice"),
        ('[{"a": {"x": 1, "x": 1}}]', "field 'x' stands twice"),
        (" " * (MAX_TEXT + 1), f"longer than {MAX_TEXT} bytes: no record is"),
        *(
            (opening * depth + "1" + closing * depth, f"nested more than {MAX_NESTING} deep")
            for depth in (MAX_NESTING + 1, 990, 100_000)
            for opening, closing in ("[]", ('{"a":', "}"))
        ),
    ],
)
def test_refuses_json_that_no_file_of_ours_is(content, said):
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        json_schema.load(content, "record")
    assert not isinstance(refused.value, json_schema.NotJSONError)


def test_reads_what_is_nested_as_deep_as_may_be():
    content = "[" * MAX_NESTING + "]" * MAX_NESTING
    assert json.dumps(json_schema.load(content)) == content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 7}, "name: unexpected '7'"),
        ({"sizes": [1, -1]}, "sizes[1]: unexpected '-1'"),
        ({"sizes": [True]}, "sizes[0]: unexpected 'True'"),
        ({"sizes": 3}, "sizes: expected a list"),
        ({"parts": []}, "parts: expected an object"),
        ({"parts": {"y": {}}}, "parts.y.share is missing"),
        ({"parts": {"y": {"share": 1.1}}}, "parts.y.share: unexpected '1.1'"),
        ({"note": "n" * 100}, None),
        ({"note": 1}, "note: unexpected '1'"),
    ],
)
def test_what_differs_from_the_pattern_is_named(change, said):
    content = json.dumps(VALID | change)
    if said is None:
        assert json_schema.parse(content, PATTERN) == VALID | change
        return
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        json_schema.parse(content, PATTERN)


@pytest.mark.parametrize("content", ["[]", "null", "3"])
def test_a_pattern_of_fields_is_one_of_an_object(content):
    with pytest.raises(ValueError, match="^the file: expected an object$"):
        json_schema.parse(content, PATTERN)


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**30, True, None, "1"])
def test_numbers_are_those_that_can_be_shown(value):
    assert not number(value)
