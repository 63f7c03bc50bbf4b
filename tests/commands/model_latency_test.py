"""Milliseconds of models of one's own, by the commands: measured first, kept, and kept to."""

import json
import pathlib
import shutil

import keras
import pytest
import spaces
from command_line import PROJECT, bindings, check_refused, finished, run
from keras import layers

import tas_tf
from tas_tf.models import network_files
from tas_tf.reports.report import write_report
from tas_tf.spaces.cost import cost
from tas_tf.spaces.latency_table import LatencyTable
from tas_tf.spaces.model_space import ModelArchitecture

RATIOS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
TARGET = "TARGET = 'latency: 0.7'"


def network(width=4):
    """A network that adds, and scales its pixels itself."""
    i = keras.Input((8, 8, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1)(i)
    x = layers.Conv2D(2 * width, 3, padding="same", activation="relu")(x)
    y = layers.Conv2D(3 * width, 3, padding="same", activation="relu")(x)
    x = layers.Add()([x, layers.Conv2D(2 * width, 1)(y)])
    return keras.Model(i, layers.Dense(10)(layers.GlobalMaxPooling2D()(x)), name="mine")


def spec(*more):
    given = bindings(
        "MODEL = 'mine.keras'",
        "DATASET = 'digits'",
        "AUGMENTATION = 'none'",
        "SEARCH_EPOCHS = 1",
        "EPOCHS = 1",
        f"own_model.ratios = {RATIOS}",
        *more,
    )
    return [f"--gin_file={PROJECT / 'specs' / 'model.gin'}", *given]


def a_table(model) -> LatencyTable:
    return spaces.piece_table(tas_tf.SearchSpace.from_model(model, ratios=RATIOS), seed=None)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test runs in a directory of its own, with a model and a table of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = network()
    model.save("mine.keras")
    pathlib.Path("table.json").write_text(a_table(model).to_json())
    return tmp_path


def test_a_search_within_milliseconds_by_a_table_that_is_given(folder):
    given = ["run_search.latency_table = 'table.json'", TARGET]
    assert run("search", *spec(*given), "--run_dir=run") == 0
    table = LatencyTable.from_json(pathlib.Path("run/latency_table.json").read_text())
    assert table.to_json() == pathlib.Path("table.json").read_text()
    found = network_files.load_architecture("run")
    share = cost(found, table.kind) / cost(found.space.unpruned(), table.kind)
    assert found.cost["latency"] == cost(found, table.kind) and 0.665 <= share <= 0.7
    assert run("derive", "--run_dir=run", "--target=latency: 0.8") == 0
    text = pathlib.Path("run/derived/latency_0.8/architecture.json").read_text()
    wider = ModelArchitecture.from_json(text, found.space).cost["latency"]
    assert 0.76 <= wider / cost(found.space.unpruned(), table.kind) <= 0.8
    _, markdown = write_report("run", str(folder / "report"))
    text = pathlib.Path(markdown).read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert f"{found.cost['latency'] / 1e6:.4g} ms" in text and "latency by the table" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["TARGET = 'latency: 1 us'"], r"Reachable are [\d.e-]+ ms to [\d.e-]+ ms latency"),
        ([TARGET, "own_model.ratios = (0.1, 1.0)"], r"table\.json has no time of .*width 1 is not"),
        (["TARGET = 'latency: 0.7 @ litert8'"], r"expected one of saved_model, .*'litert8'"),
        (["TARGET = 'latency: 0.7 @ litert, batch 4'"], r"table\.json was measured in"),
    ],
)
def test_refuses_what_cannot_be_kept(given, said, capsys):
    given = spec("run_search.latency_table = 'table.json'", *given)
    check_refused(capsys, "search", *given, "--run_dir=run", expected=[said])


def test_refuses_the_table_of_another_model(capsys):
    other = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(6, 5), layers.Flatten()])
    other.add(layers.Dense(10))
    pathlib.Path("table.json").write_text(a_table(other).to_json())
    given = spec("run_search.latency_table = 'table.json'", TARGET)
    said = r"has no time of Rescaling .*It was measured for \w+ \(\w+\), images"
    check_refused(capsys, "search", *given, "--run_dir=run", expected=[said])


def test_refuses_a_model_whose_milliseconds_are_not_measured():
    i = keras.Input((6, 6, 3))
    x = layers.Flatten()(layers.Conv2D(4, 3)(i))
    model = keras.Model(i, [layers.Dense(3)(x), layers.Dense(2)(x)])
    space = tas_tf.SearchSpace.from_model(model, ratios=(0.5, 1.0))
    with pytest.raises(tas_tf.errors.SpecError, match="one input and one output of floats"):
        tas_tf.deployment.latency_subjects.subjects_of(space)


@pytest.mark.slow  # some thirty networks are traced, and a pipeline is run
def test_a_pipeline_measures_first_and_once(folder):
    network(width=128).save("mine.keras")  # it takes longer than calling it does
    few = "own_model.ratios = (0.5, 1.0)"
    several = few, "TARGET = ['latency: 0.7 @ keras', 'parameters: 0.9']"
    code, out, err = finished("pipeline", *spec(*several), "--run_dir=run", cwd=folder, timeout=600)
    assert code in (0, 3), err
    assert out.index("this device is profiled first, in keras") < out.index("1/3 The search")
    (kept,) = (folder / "cache/tas_tf/latency").glob("*.json")
    assert kept.read_text() == (folder / "run/search/latency_table.json").read_text()
    fields = json.loads(kept.read_text())
    assert fields["schema_version"] == 2 and fields["space"]["model"] == "mine"
    # What is asked again is known: another command, another budget.
    more = (
        "--kind=uniform_width",
        "--run_dir=other",
        *spec(few, "TARGET = 'latency: 0.8 @ keras'"),
    )
    code, out, err = finished("baseline", *more, cwd=folder)
    assert code in (0, 3), err
    assert "profiled" not in out
    shutil.rmtree(folder / "run")
    code, out, _ = finished("search", *spec(*several), "--run_dir=run", "--dry_run", cwd=folder)
    assert code == 0 and "profiled" not in out and "Budget: latency from" in out
