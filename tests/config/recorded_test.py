"""Configurations that runs have recorded are read as data."""

import ast

import gin
import hypothesis
import hypothesis.strategies as st
import pytest

from tas_tf.config import recorded
from tas_tf.errors import SpecError


@pytest.fixture
def written(tmp_path):
    """Writes a configuration; returns its path."""

    def write(text: str) -> str:
        (tmp_path / "config.gin").write_text(text)
        return str(tmp_path / "config.gin")

    return write


def test_what_a_run_records_is_taken(written):
    path = written("# import os\nimportance = 3\nrun_search.start_from = 'import os'\nfroms = 1\n")
    assert recorded.check_recorded(path) is None


@pytest.mark.parametrize(
    "line", ["import os", "  import os", "from os import path", "include 'a.gin'", "\tinclude 'b'"]
)
def test_what_loads_code_is_refused(written, line):
    path = written(f"SEED = 3\n\n{line}\n")
    with pytest.raises(SpecError) as raised:
        recorded.check_recorded(path)
    assert str(raised.value) == (
        f"{path}, line 3: {line.strip()}: no run records such a line. If you trust it, give "
        f"--gin_file={path}"
    )


def test_a_record_that_is_gone_is_named(tmp_path):
    with pytest.raises(SpecError, match="config.gin does not exist"):
        recorded.check_recorded(str(tmp_path / "config.gin"))


def test_settings_are_values_with_macros_resolved():
    config = (
        "# Macros:\n# ====\nEPOCHS = 3\nNAME = 'digits'\n\n# Parameters for run_search:\n"
        "run_search.epochs = %EPOCHS\nrun_search.tolerance = 0.05\nrun_search.data = @ImageData()\n"
        "run_search.start_from = None\nrun_search.order_by_importance = True\n"
        "run_search.target = ['macs: 0.5', 'parameters: 0.3']\nteacher/SGD.momentum = 0.9\n"
        "ImageData.dataset = %NAME\nImageData.data_dir = '/data'\nImageData.download = False\n"
    )
    assert recorded.settings(config) == {
        "run_search.epochs": 3,
        "run_search.tolerance": 0.05,
        "run_search.data": "@ImageData()",
        "run_search.order_by_importance": True,
        "run_search.target": "['macs: 0.5', 'parameters: 0.3']",
        "teacher/SGD.momentum": 0.9,
        "ImageData.dataset": "digits",
    }


def test_values_that_gin_breaks_into_lines_are_whole():
    ratios, text = [number / 50 for number in range(1, 51)], "word " * 40
    gin.clear_config()
    gin.parse_config([f"RATIOS = {ratios}", f"TEXT = {text!r}"])
    macros = gin.config_str()
    gin.clear_config()
    assert len(macros.splitlines()) > 50
    config = f"{macros}\nresnet.ratios = %RATIOS\nrun_search.note = %TEXT\nrun_search.seed = 3\n"
    assert recorded.settings(config) == {
        "resnet.ratios": str(ratios),
        "run_search.note": text,
        "run_search.seed": 3,
    }


@pytest.mark.parametrize(
    "text", ["", "{", "a.b = [1,", "a.b = " + "[" * 100_000, "a.b =\n", "= 3\n", "a.b = \\\n"]
)
def test_a_damaged_record_gives_what_can_be_read(text):
    found = recorded.settings(f"{text}\nc.d = 3\n")
    assert found["c.d"] == 3 and set(found) <= {"a.b", "c.d"}


NAMES = st.text("ab '\"\\{}=%.\u00fc", min_size=1, max_size=6).filter(
    lambda n: n not in (".", "..")
)


@pytest.mark.parametrize("above", ["", "runs/", "./", "../", "~/", "/runs/", "gs://bucket/runs/"])
@hypothesis.settings(deadline=None, database=None, max_examples=40)
@hypothesis.given(run=NAMES, network=NAMES)
def test_what_lies_beside_a_run_is_found_wherever_both_have_gone(above, run, network):
    gin.clear_config()
    place = f"{above}{network}"
    config = f"EPOCHS = 3\nrun_training.teacher = {place!r}\n"
    written = recorded.anchored(config, f"{above}{run}")
    told = recorded.settings(written)["run_training.teacher"]
    assert told == f"{recorded.HERE}/../{network}"
    for new in ("elsewhere/", "/else/where/", ""):
        line = written.splitlines()[1]
        gone = recorded.without_here(line, f"{new}{run}/config.gin")
        assert ast.literal_eval(gone.partition("=")[2].strip()) == f"{new}{network}"


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("run_training.teacher = 'other/teacher'", "runs/one"),
        ("run_training.teacher = None", "runs/one"),
        ("run_training.teacher = %TEACHER", "runs/one"),
        ("run_training.note = 'runs/teacher'", "runs/one"),
        ("run_training.teacher = 'runs/teacher", "runs/one"),
    ],
)
def test_what_lies_elsewhere_stays_as_it_was_given(line, folder):
    assert recorded.anchored(f"{line}\n", folder) == f"{line}\n"


def test_a_place_that_gin_breaks_into_lines_is_one():
    for parent in ("/a" * 60, "/it's a place of many words" * 5):
        gin.clear_config()
        gin.parse_config([f"PLACE = {f'{parent}/student'!r}"])
        broken = gin.config_str().partition(" = ")[2]
        assert len(broken.splitlines()) > 1
        config = f"run_export.model = {broken}\nA = 3\n"
        told = recorded.anchored(config, f"{parent}/export")
        assert told.splitlines()[0] == "run_export.model = '{here}/../student'"
        assert told.splitlines()[-1] == "A = 3"


@pytest.mark.parametrize("parameter", recorded.PLACES)
@pytest.mark.parametrize("other", ["'./a'", "'/x/a'", "'gs://a'", "'{here}/../a'", "%PLACE"])
def test_a_place_is_no_part_of_an_experiment_but_that_there_is_one_is(parameter, other):
    macro = ["PLACE = 'b'"] if other == "%PLACE" else []
    one, two = ([f"{parameter} = {value}", "EPOCHS = 3"] for value in ("'a'", other))
    assert recorded.placeless(one) == recorded.placeless([*two, *macro])
    for different in (
        ["EPOCHS = 3"],
        [f"{parameter} = None", "EPOCHS = 3"],
        [one[0], "EPOCHS = 4"],
    ):
        assert recorded.placeless(one) != recorded.placeless(different)
