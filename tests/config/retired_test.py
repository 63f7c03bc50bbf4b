"""Settings that no longer exist: older specs and run directories that have them still open."""

import pathlib

import pytest
from example import EXAMPLE

from tas_tf.config import gin_config, recorded
from tas_tf.errors import RunDirectoryError
from tas_tf.experiments import registry  # noqa: F401, what gin can bind
from tas_tf.runtime.run_directory import RunDirectory

SPEC = """include 'specs/base/digits.gin'

Supernet.formulation = 'fused'
run_search.cost_band = 'paper'
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_they_are_left_out_and_said(capsys):
    pathlib.Path("old.gin").write_text(SPEC)
    gin_config.load(["old.gin"], ["run_search.cost_band = 'published'"])
    assert "formulation" not in gin_config.whole() and "cost_band" not in gin_config.whole()
    said = capsys.readouterr().out
    assert "old.gin, line 3: Supernet.formulation is left out: every supernet is" in said
    assert "old.gin, line 4: run_search.cost_band is left out: run_search.cost_formula" in said
    assert "--gin_bindings=\"run_search.cost_band = 'published'\": run_search.cost_band" in said


def test_no_setting_that_exists_is_retired():
    settings = {
        f"{name}.{parameter}"
        for name, function in gin_config.registered.items()
        for parameter in function.__signature__.parameters
    }
    assert "run_search.cost_formula" in settings
    assert not settings & set(recorded.RETIRED)


def test_an_older_run_directory_holds_the_same_experiment():
    directory = RunDirectory("run")
    directory.open("Supernet.formulation = 'fused'\nrun_search.epochs = 3\n")
    before = directory.fingerprint()
    directory.check("run_search.epochs = 3\n")
    with pytest.raises(RunDirectoryError, match=r"\+run_search\.epochs = 4") as refused:
        directory.check("run_search.epochs = 4\n")
    assert "formulation" not in str(refused.value)
    # What its checkpoints are signed with stays.
    assert directory.fingerprint() == before


def test_the_committed_export_still_opens(capsys):
    config = str(EXAMPLE / "export/config.gin")
    gin_config.load([config])
    assert "qat_epochs" in gin_config.whole() and "qat_batch_size" not in gin_config.whole()
    said = capsys.readouterr().out
    assert "run_export.qat_batch_size is left out: batches of quantization-aware" in said
    assert "run_export.qat_learning_rate is left out: quantization-aware training" in said
