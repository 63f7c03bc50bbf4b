"""How every mistake in gin files and bindings is explained: names, syntax, includes, macros.

Against gin itself, whole messages: a version of gin that words its errors otherwise fails here.
"""

import re

import pytest
from toys import in_force, load, refusal

# Names and syntax, as gin complains of them

UNKNOWN = "No configurable matching 'outlien'."
PARAMETER = "Configurable 'toy_run' doesn't have a parameter named"
QUOTES = "text needs quotes, such as DATASET = 'cifar10'"
OPEN = "a bracket or a quote is not closed"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("outlien.depth = 3", f"a.gin: {UNKNOWN} | {{place}} | did you mean outline?"),
        (
            "toy_run.space = @outlien()",
            "a.gin: No configurable matching reference '@outlien()'. | {place} | "
            "did you mean outline?",
        ),
        ("toy_run.epoch = 3", f"a.gin: {PARAMETER} 'epoch'. | {{place}} | did you mean epochs?"),
        (
            "toy_run.zzz = 3",
            f"a.gin: {PARAMETER} 'zzz'. | {{place}} | known are run_dir, epochs, rate, kind, "
            "note, ratios, shuffle, part, space",
        ),
        ("import nothing_there", "a.gin: No module named 'nothing_there' | {place}"),
    ],
)
def test_an_unknown_name_is_named_with_what_it_may_mean(line, expected):
    message = refusal(f"toy_run.rate = 1.0\n{line}\n")
    assert message == expected.format(place=f'In file "a.gin", line 2 | {line}')


def test_an_unknown_name_that_resembles_none_gets_all_that_are_known():
    message = refusal("www.depth = 3\n")
    start = "a.gin: No configurable matching 'www'. | In file \"a.gin\", line 1 | www.depth = 3"
    assert message.startswith(f"{start} | known are ")
    assert {"toy_run", "outline", "Place"} <= set(re.split("[ ,]+", message))


def test_an_unknown_name_in_a_binding():
    place = "In bindings string line 1"
    assert refusal("", "outlien.depth = 3") == (
        f"--gin_bindings: {UNKNOWN} | {place} | outlien.depth = 3 | did you mean outline?"
    )
    assert refusal("", "toy_run.epoch = 3") == (
        f"--gin_bindings: {PARAMETER} 'epoch'. | {place} | toy_run.epoch = 3 | did you mean epochs?"
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("toy_run.note = abc", f"Failed to parse token 'abc'; {QUOTES}"),
        ("toy_run.note = one two", f"Failed to parse token 'one'; {QUOTES}"),
        ("toy_run.note = 'abc", "Unable to parse value."),
        ("toy_run.epochs = = 3", "Unable to parse value."),
        ("toy_run.epochs = 3 4", "Expected newline."),
        ("toy_run.epochs = (1, 2]", "Expected ',' or ')'."),
        ("toy_run.epochs 3", "Couldn't parse statement, expected ':' or '='."),
        ("= 3", "Unexpected token."),
    ],
)
def test_a_malformed_line_is_quoted(line, reason):
    assert refusal(f"toy_run.rate = 1.0\n{line}\n") == f"a.gin, line 2: {line}: {reason}"
    assert refusal("", line) == f"--gin_bindings, line 1: {line}: {reason}"


def test_what_is_not_closed_is_said():
    assert refusal("toy_run.epochs = 3\ntoy_run.ratios = [1,\n") == (
        f"a.gin: EOF in multi-line statement, line 3: {OPEN}"
    )
    assert refusal("toy_run.note = '''abc\n") == f"a.gin: EOF in multi-line string, line 1: {OPEN}"
    assert refusal("", "toy_run.ratios = [1,") == (
        f"--gin_bindings: EOF in multi-line statement, line 2: {OPEN}"
    )


# Includes


def test_an_include_stands_in_its_place():
    load("include 'b.gin'\ntoy_run.epochs = 2\n", b="toy_run.epochs = 1\ntoy_run.rate = 0.5\n")
    assert in_force() == ["toy_run.epochs = 2", "toy_run.rate = 0.5"]
    load('toy_run.epochs = 2\n  include "b.gin"\n', b="toy_run.epochs = 1\n")
    assert in_force() == ["toy_run.epochs = 1"]


def test_lines_are_counted_across_an_include():
    spec = "toy_run.rate = 1.0\n\ninclude 'b.gin'\ntoy_run.note = abc\n"
    assert refusal(spec, b="toy_run.epochs = 3\n").startswith("a.gin, line 4: toy_run.note = abc: ")
    spec = "toy_run.rate = 1.0\ninclude 'b.gin'\n"
    assert refusal(spec, b="\n\ntoy_run.note = abc").startswith("b.gin, line 3: toy_run.note = abc")
    assert refusal(spec, b="\ntoy_run.epoch = 3").startswith(
        f"b.gin: {PARAMETER} 'epoch'. | In file \"b.gin\", line 2 | "
    )


def test_a_missing_include_is_named_by_its_place():
    assert refusal("\ninclude 'specs/resnet21.gin'\n") == (
        "a.gin, line 2: include: specs/resnet21.gin does not exist here, nor among the presets; "
        "did you mean specs/resnet32.gin or specs/resnet20.gin or specs/resnet18.gin?"
    )
    assert refusal("include 'b.gin'\n", b="include 'c.gin'\n").startswith(
        "b.gin, line 1: include: c.gin does not exist here, nor among the presets; "
    )


def test_includes_in_a_circle_are_refused():
    assert refusal("\ninclude 'a.gin'\n") == "a.gin, line 2: include: a.gin includes itself"
    assert refusal("include 'b.gin'\n", b="include 'c.gin'\n", c="include 'a.gin'\n") == (
        "c.gin, line 1: include: a.gin includes itself"
    )
    load("include 'b.gin'\ninclude 'b.gin'\n", b="toy_run.epochs = 3\n")  # twice is no circle


# Macros


def test_a_macro_that_nothing_uses_is_refused():
    spec = "EPOCHS = 3\nRATE = 0.5\ntoy_run.epochs = %EPOCHS\ntoy_run.rate = %RATE\n"
    load(spec)
    assert refusal(f"{spec}EPOCH = 4\n") == (
        "a.gin, line 5: nothing uses the macro EPOCH; did you mean EPOCHS?"
    )
    assert refusal(f"{spec}ZZZ = 4\n") == (
        "a.gin, line 5: nothing uses the macro ZZZ; in use are EPOCHS, RATE"
    )
    assert refusal(spec, "EPOCH = 4") == (
        "--gin_bindings='EPOCH = 4': nothing uses the macro EPOCH; did you mean EPOCHS?"
    )
    assert refusal("ZZZ = 4\n") == "a.gin, line 1: nothing uses the macro ZZZ; in use are none"


def test_what_stands_in_a_text_or_a_comment_uses_no_macro():
    text = "toy_run.note = 'see %NOTE'  # not %NOTE\n"
    load(text)
    assert refusal(f"NOTE = 'x'\n{text}") == (
        "a.gin, line 1: nothing uses the macro NOTE; in use are none"
    )


def test_a_macro_whose_use_is_overridden_is_in_use():
    load("EPOCHS = 3\ntoy_run.epochs = %EPOCHS\n", "toy_run.epochs = 4")
    assert in_force() == ["toy_run.epochs = 4"]


def test_a_macro_that_is_missing_is_refused():
    assert refusal("toy_run.epochs = %EPOCHS\n") == (
        "the macro EPOCHS is used but never given: add `EPOCHS = ...`"
    )
    load("toy_run.epochs = %EPOCHS\n", "EPOCHS = 3")
    load("toy_run.epochs = %EPOCHS\n", "toy_run.epochs = 3")  # what is overridden needs none
