"""Configurations that runs have recorded are read as data."""

import gin
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
