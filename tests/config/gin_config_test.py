"""What is taken of gin files and bindings: types, places, calls, and the text that repeats them."""

import re

import pytest
from toys import in_force, load, refusal, registered

from tas_tf.config import gin_config
from tas_tf.errors import BudgetError, SpecError, UserError, WorkerLostError

# Types


@pytest.mark.parametrize(
    ("parameter", "expected", "value"),
    [
        ("epochs", "int", "True"),
        ("epochs", "int", "1.5"),
        ("epochs", "int", "'3'"),
        ("epochs", "int", "None"),
        ("rate", "float", "True"),
        ("rate", "float", "'fast'"),
        ("shuffle", "bool", "1"),
        ("kind", "Literal['one', 'two']", "'three'"),
        ("note", "str | None", "3"),
        ("note", "str | None", "False"),
        ("part", "int | str", "1.5"),
        ("ratios", "Sequence[float]", "0.5"),
        ("ratios", "Sequence[float]", "[1.0, 'half']"),
        ("ratios", "Sequence[float]", "'0.5'"),
        ("space", "Callable[..., Any] | None", "3"),
    ],
)
def test_a_wrong_type_is_refused(parameter, expected, value):
    assert gin_config.type_of("toy_run", parameter) == expected
    message = f"expected {expected}. Received: {value}"
    assert refusal(f"\ntoy_run.{parameter} = {value}\n") == (
        f"toy_run.{parameter} (a.gin, line 2): {message}"
    )
    binding = f"toy_run.{parameter} = {value}"
    assert refusal("", binding) == (f"toy_run.{parameter} (--gin_bindings={binding!r}): {message}")
    assert refusal(f"M = {value}\ntoy_run.{parameter} = %M\n") == (
        f"toy_run.{parameter} (macro M, a.gin, line 1): {message}"
    )


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ("rate", "2", 2.0),
        ("rate", "0.5", 0.5),
        ("kind", "'two'", "two"),
        ("note", "None", None),
        ("note", "'text'", "text"),
        ("part", "'all'", "all"),
        ("ratios", "(1, 0.5)", (1, 0.5)),
        ("ratios", "[]", []),
        ("shuffle", "False", False),
    ],
)
def test_a_right_type_is_taken(parameter, value, expected):
    load(f"toy_run.{parameter} = {value}\n")
    received = gin_config.call("toy_run", run_dir="run", epochs=1)[parameter]
    assert received == expected and type(received) is type(expected)


def test_what_a_reference_gives_is_checked_when_it_is_there():
    load("toy_run.epochs = @Place()\nPlace.where = 'here'\n")
    message = r"^toy_run.epochs \(a.gin, line 1\): expected int. Received: <.*Place object at .*>$"
    with pytest.raises(UserError, match=message):
        gin_config.call("toy_run", run_dir="run")


def test_what_the_caller_gives_is_checked():
    with pytest.raises(UserError, match=r"^toy_run.epochs: expected int. Received: '3'$"):
        gin_config.call("toy_run", run_dir="run", epochs="3")


# Where a setting is bound


def test_the_last_binding_is_described():
    files = {"b": "\ntoy_run.rate = 0.5\nEPOCHS = 3\n"}
    load("toy_run.epochs = %EPOCHS\ninclude 'b.gin'\n# toy_run.kind = 'two'\n", **files)
    assert gin_config.described("toy_run.epochs") == "toy_run.epochs (macro EPOCHS, b.gin, line 3)"
    assert gin_config.described("toy_run.rate") == "toy_run.rate (b.gin, line 2)"
    assert gin_config.described("toy_run.kind") == "toy_run.kind"
    load("include 'b.gin'\ntoy_run.rate=0.1\ntoy_run.epochs = %EPOCHS", "EPOCHS=4", "EPOCHS=5")
    assert gin_config.described("toy_run.rate") == "toy_run.rate (a.gin, line 2)"
    assert gin_config.described("toy_run.epochs") == (
        "toy_run.epochs (macro EPOCHS, --gin_bindings='EPOCHS=5')"
    )
    gin_config.load(["b.gin", "a.gin"], ["EPOCHS = 4"])
    assert gin_config.described("toy_run.rate") == "toy_run.rate (a.gin, line 2)"


# What flags give, and what only the run knows


def test_what_a_flag_gives_is_no_setting():
    assert refusal("\ntoy_run.run_dir = 'run'\n") == (
        "toy_run.run_dir (a.gin, line 2) changes nothing: give the flag --run_dir"
    )
    assert refusal("RUN = 'run'\ntoy_run.run_dir = %RUN\n") == (
        "toy_run.run_dir (macro RUN, a.gin, line 1) changes nothing: give the flag --run_dir"
    )


def test_what_only_the_run_knows_is_given_later():
    load("toy_run.space = @outline()\noutline.depth = 8\n")
    space = gin_config.call("toy_run", run_dir="run", epochs=1)["space"]
    assert space(classes=10) == (8, 10, "toy")
    assert [line for line in gin_config.resolved().splitlines() if line.startswith("outl")] == [
        "outline.depth = 8",
        "outline.name = 'toy'",
    ]


def test_what_only_the_run_knows_is_no_setting():
    assert refusal("outline.classes = 10\n") == (
        "a.gin: Configurable 'outline' doesn't have a parameter named 'classes'. | "
        'In file "a.gin", line 1 | outline.classes = 10 | known are depth, name'
    )


# Calls


def test_what_nothing_gives_is_named():
    expected = (
        "toy_run: nothing gives run_dir, epochs; include a preset such as specs/resnet20.gin, or "
        "add `toy_run.run_dir = ...`"
    )
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        gin_config.call("toy_run")
    load("toy_run.space = @outline()\n")
    with pytest.raises(UserError, match="^outline: nothing gives depth; .* `outline.depth = "):
        gin_config.call("toy_run", run_dir="run", epochs=1)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserError("wrong"), UserError),
        (BudgetError("wrong\n  in two lines"), UserError),
        (WorkerLostError("wrong"), WorkerLostError),
    ],
)
def test_an_error_comes_without_what_gin_adds(error, kind):
    with pytest.raises(kind) as raised:
        gin_config.call("throw", error=error)
    assert type(raised.value) is kind and str(raised.value) == str(error)


def test_another_error_comes_through():
    with pytest.raises(ZeroDivisionError, match="In call to configurable 'throw'"):
        gin_config.call("throw", error=ZeroDivisionError("by nothing"))


@pytest.mark.parametrize(
    "spec",
    [
        "ONE = %TWO\nTWO = %ONE\ntoy_run.epochs = %ONE\n",
        "toy_run.epochs = 1\ntoy_run.space = @toy_run()\n",
    ],
)
def test_a_spec_that_goes_in_a_circle_is_refused(spec):
    load(spec)
    with pytest.raises(SpecError, match="^the spec goes in a circle: a macro or a reference leads"):
        gin_config.call("toy_run", run_dir="run")


def test_a_class_is_called_with_its_types_checked():
    load("Place.where = 'here'\n")
    assert gin_config.call("Place").where == "here"
    assert refusal("Place.where = 3\n") == (
        "Place.where (a.gin, line 1): expected str. Received: 3"
    )


def test_what_is_registered_is_called_like_itself():
    toys = registered()
    assert set(toys) == {"toy_run", "refuse", "throw", "Place", "outline"}
    assert toys["Place"](where="here").where == "here"
    with pytest.raises(SpecError, match="^Place.where: expected str. Received: 3$"):
        toys["Place"](where=3)


# What is loaded as text


def test_whole_is_a_spec_of_all_that_was_loaded():
    ratios = [number / 50 for number in range(1, 51)]
    load(
        f"EPOCHS = 3\nRATIOS = {ratios}\nLONG = {ratios}\ninclude 'b.gin'\n",
        "toy_run.ratios = (1.0,)",
        "toy_run.note = 'see %NOTE'",
        b="toy_run.epochs = %EPOCHS\ntoy_run.ratios = %RATIOS\ntoy_run.part = 'all'\n"
        "toy_run.space = @outline()\noutline.name = 'x'\ntoy_run.ratios = %LONG\n",
    )
    assert in_force() == [
        "EPOCHS = 3",
        "outline.name = 'x'",
        "toy_run.epochs = %EPOCHS",
        "toy_run.note = 'see %NOTE'",
        "toy_run.part = 'all'",
        "toy_run.ratios = (1.0,)",
        "toy_run.space = @outline()",
    ]
    before = gin_config.whole()
    load(before)
    assert gin_config.whole() == before


def test_resolved_repeats_what_was_called_defaults_included():
    load("EPOCHS = 3\ntoy_run.epochs = %EPOCHS\noutline.depth = 8\n")
    gin_config.call("toy_run", run_dir="run")
    resolved = gin_config.resolved()
    assert "toy_run.epochs = %EPOCHS\n" in resolved and "EPOCHS = 3\n" in resolved
    assert "toy_run.rate = 0.1\n" in resolved and "toy_run.kind = 'one'\n" in resolved
    assert "outline" not in resolved and "run_dir" not in resolved
    load(resolved)
    gin_config.call("toy_run", run_dir="run")
    assert gin_config.resolved() == resolved


def test_given_arguments_win_as_long_as_their_context_lasts():
    load("EPOCHS = 3\ntoy_run.epochs = %EPOCHS\n", "toy_run.rate = 0.5")
    before = gin_config.whole()
    with gin_config.given({"toy_run.epochs": 4, "toy_run.kind": "two"}):
        received = gin_config.call("toy_run", run_dir="run")
        assert (received["epochs"], received["rate"], received["kind"]) == (4, 0.5, "two")
        assert "toy_run.kind = 'two'" in in_force() and "EPOCHS = 3" not in in_force()
    assert gin_config.whole() == before
    with pytest.raises(KeyError), gin_config.given({"toy_run.epochs": 5}):
        raise KeyError
    assert gin_config.whole() == before


def test_given_arguments_are_checked_when_they_are_used():
    with gin_config.given({"toy_run.epochs": 1.5}):
        with pytest.raises(UserError, match=r"^toy_run.epochs: expected int. Received: 1.5$"):
            gin_config.call("toy_run", run_dir="run")


def test_what_is_loaded_takes_the_place_of_what_was():
    load("toy_run.epochs = 3\n")
    load("toy_run.rate = 0.5\n")
    assert in_force() == ["toy_run.rate = 0.5"]


def test_what_names_its_setting_still_does():
    load("toy_run.epochs = @refuse()\nrefuse.size = 3\n")
    with pytest.raises(UserError, match="^size: expected less than 3$") as refused:
        gin_config.call("toy_run", run_dir="run")
    assert (refused.value.field, refused.value.message) == ("size", "expected less than 3")


# Files that include others, and the folder that a file lies in


def test_what_is_included_lies_beside_the_including_file(tmp_path, monkeypatch):
    for folder in ("mine/parts", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "mine/a.gin").write_bytes(b"\xef\xbb\xbfinclude 'parts/b.gin'\n")
    (tmp_path / "mine/parts/b.gin").write_text("include 'c.gin'\ntoy_run.rate = 0.5\n")
    (tmp_path / "mine/parts/c.gin").write_text("toy_run.epochs = 7\n")
    for start, file in (("mine", "a.gin"), ("elsewhere", "../mine/a.gin"), (".", "mine/a.gin")):
        monkeypatch.chdir(tmp_path / start)
        gin_config.load([file])
        assert in_force() == ["toy_run.epochs = 7", "toy_run.rate = 0.5"]
    assert gin_config.described("toy_run.epochs") == "toy_run.epochs (mine/parts/c.gin, line 1)"


def test_a_file_that_includes_itself_by_another_name_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.gin").write_text("include '../mine/./a.gin'\n")
    with pytest.raises(SpecError, match="a.gin, line 1: include: .* includes itself$"):
        gin_config.load(["mine/a.gin"])


def test_here_is_the_folder_of_the_file(tmp_path):
    (tmp_path / "it's").mkdir()
    (tmp_path / "it's/a.gin").write_text("toy_run.note = '{here}/b'\n")
    gin_config.load(["it's/a.gin"])
    assert gin_config.call("toy_run", run_dir="run", epochs=1)["note"] == "it's/b"
