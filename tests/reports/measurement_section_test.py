"""The report of a real search by measurement: what it decided, and what its record must be."""

import copy
import json
import pathlib
import shutil

import numpy as np
import pytest
from command_line import run
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from tas_tf.reports import measured_record, run_records
from tas_tf.reports.measurement_section import verdict
from tas_tf.reports.report import write_report
from tas_tf.reports.sections import sections
from tas_tf.reports.tables import amount
from tas_tf.spaces.cost import cost
from tas_tf.training.callbacks import duration

SPEC = """
include 'specs/base/digits.gin'
include 'specs/base/measured.gin'
DEPTH = 14
SEARCH_EPOCHS = 1
run_search.order_by_importance = False
Measurement.paths = 40
Measurement.near = 2
Measurement.finalists = 3
Measurement.images = 128
Measurement.final_images = 256
"""
# Pictures that only a search by gradients has, and what is said only of one.
OF_GRADIENTS = ("most probable", "log-probability", "entropy", "Distributions at the end")
HOSTILE = [None, True, -1, 0, 1e308, 10**30, "", "x" * 10_000, "<script>", [], {}, [[]], {"a": {}}]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The run directory of a search of one epoch."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "a.gin").write_text(SPEC)
    assert run("search", f"--gin_file={folder}/a.gin", f"--run_dir={folder}/run") in (0, 3)
    return folder / "run"


@pytest.fixture
def search(searched, tmp_path):
    """A copy of it that a test may damage."""
    return pathlib.Path(shutil.copytree(searched, tmp_path / "run"))


@pytest.fixture(scope="module")
def record(searched):
    return json.loads((searched / "result.json").read_text())["measurement"]


@pytest.fixture(scope="module")
def space(searched):
    return run_records.read_run(str(searched)).search.space


def written(run):
    page, twin = (pathlib.Path(path).read_text() for path in write_report(str(run)))
    return page, twin.replace("\\", "").replace("\N{NO-BREAK SPACE}", " ")


def test_report_says_what_was_decided_and_shows_what_widths_are_worth(search, record):
    page, twin = written(search)
    assert "What is missing" not in twin
    first = twin[: twin.index("What was asked")]
    decided = record["leads"]["uniform"]["decided"]
    for text in (first, twin):
        assert "uniform narrowing" in text
        assert any(word in text for word in (["decided"] if decided else ["NOT DECIDED", "WORSE"]))
    assert f"{abs(record['leads']['uniform']['value']):.4f} of corrected loss" in twin
    of_chosen, of_uniform = (
        np.mean(of["losses"][len(of["losses"]) // 3 :])
        for of in (record["finalists"][0], record["finalists"][-1])
    )
    side = "leads" if of_uniform >= of_chosen else "is behind"
    assert f"In loss alone it {side} by {abs(of_uniform - of_chosen):.4f}." in first
    result = json.loads((search / "result.json").read_text())
    epochs = json.loads((search / "metrics.jsonl").read_text().splitlines()[-1])["elapsed_seconds"]
    assert 0 < epochs < result["seconds"]
    row = ["measurement", *["–"] * 3, duration(result["seconds"] - epochs), "–"]
    assert f"| {' | '.join(row)} |" in twin
    assert f"| in all |  |  |  | {duration(result['seconds'])} |" in twin
    for title in ("What each width is worth", "What each depth is worth", "Loss against cost"):
        assert title in page and title in twin
    for name in ("widths", "depths", "expected", "losses"):
        assert (search / "report_pictures" / f"{name}.svg").is_file()
    assert not [text for text in OF_GRADIENTS if text.lower() in twin.lower()]
    assert "random paths 40, near the budget 2, finalists 3" in twin


def test_table_has_every_finalist_with_its_loss_and_its_cost(search, record, space):
    _, twin = written(search)
    names = ["chosen", "runner-up", "finalist 3", "uniform"]
    for name, finalist in zip(names, record["finalists"], strict=True):
        (row,) = [line for line in twin.splitlines() if line.startswith(f"| {name} |")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        losses = finalist["losses"][len(finalist["losses"]) // 3 :]
        assert float(cells[1]) == pytest.approx(sum(losses) / len(losses), abs=1e-4)
        assert float(cells[2]) == pytest.approx(-finalist["value"], abs=1e-4)
        macs = cost(space.architecture(finalist["widths"], finalist["depths"]))
        assert cells[5] == amount(macs, "macs").replace("\N{NO-BREAK SPACE}", " ")
        lead = record["leads"].get(name)
        if lead is not None:
            assert float(cells[3]) == pytest.approx(lead["value"], abs=1e-4)
            assert float(cells[4]) == pytest.approx(lead["standard_error"], abs=1e-4)


LEADS = {
    "decided. The chosen network leads it by 0.1000 of corrected loss, 5.0 standard errors.": (
        {"value": 0.1, "standard_error": 0.02, "decided": True}
    ),
    "NOT DECIDED. The chosen network leads it by 0.0300 of corrected loss, 1.5 standard errors (": (
        {"value": 0.03, "standard_error": 0.02, "decided": False}
    ),
    "NOT DECIDED. The chosen network is behind it by 0.0100 of corrected loss, 0.5 standard": (
        {"value": -0.01, "standard_error": 0.02, "decided": False}
    ),
    "WORSE. The chosen network is behind it by 0.1000 of corrected loss, 5.0 standard errors": (
        {"value": -0.1, "standard_error": 0.02, "decided": False}
    ),
    "NOT DECIDED. The chosen network leads it by 0.1000 of corrected loss, with an unknown": (
        {"value": 0.1, "standard_error": None, "decided": False}
    ),
}


@pytest.mark.parametrize("said", LEADS)
def test_verdict_is_in_plain_words(record, space, said):
    changed = copy.deepcopy(record)
    changed["leads"]["uniform"] = LEADS[said]
    text = verdict(measured_record.read(changed, space))
    assert text.startswith(f"Against uniform narrowing: {said}")
    assert text.index("uniform narrowing") < text.index("the runner-up")


def test_verdict_where_the_choice_is_what_it_is_compared_with(record, space):
    changed = copy.deepcopy(record)
    changed["leads"]["uniform"] = {"value": 0.0, "standard_error": 0.0, "decided": False}
    text = verdict(measured_record.read(changed, space))
    assert "The chosen network is that of uniform narrowing." in text


def test_verdict_where_nothing_was_compared(record, space):
    alone = {**record, "finalists": record["finalists"][:1], "leads": {}}
    assert "Only one network was measured" in verdict(measured_record.read(alone, space))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda record: record.pop("curve"), "curve is missing"),
        (lambda record: record["curve"].clear(), "curve: nothing stands there"),
        (lambda record: record["width_terms"].pop(), "width_terms: expected a table"),
        (lambda record: record["depth_errors"][0].pop(), "depth_errors: expected a table"),
        (lambda record: record["width_errors"][0].__setitem__(0, -1), "width_errors"),
        (lambda record: record["finalists"].clear(), "finalists: expected the losses"),
        (lambda record: record["finalists"][1]["losses"].pop(), "finalists: expected the losses"),
        (lambda record: record["finalists"][0]["widths"].__setitem__(0, 99), "no candidates"),
        (lambda record: record["finalists"][0]["depths"].pop(), "no candidates"),
        (lambda record: record["leads"]["uniform"].pop("decided"), "decided is missing"),
    ],
)
def test_damaged_record_is_named_and_the_rest_is_shown(search, damage, said):
    path = search / "result.json"
    result = json.loads(path.read_text())
    damage(result["measurement"])
    path.write_text(json.dumps(result))
    read = run_records.read_run(str(search))
    (missing,) = read.missing
    assert missing.startswith("The directory: result.json is damaged: measurement: ")
    assert said in missing
    _, twin = written(search)
    assert "Training of the paths" in twin and "What each width is worth" not in twin
    assert "of the least expected loss" in twin


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_value_that_is_not_what_it_should_be_does_no_harm(record, searched, data):
    changed = copy.deepcopy(record)
    place, key = changed, data.draw(st.sampled_from(sorted(changed)))
    while data.draw(st.booleans()) and isinstance(place[key], (dict, list)) and place[key]:
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
    place[key] = data.draw(st.sampled_from(HOSTILE))
    read = run_records.read_run(str(searched))
    try:
        read.search.measured = measured_record.read(changed, read.search.space)
    except ValueError:
        read.search.measured = None
    assert [s for s in sections(read) if s.title == "How the search went" and s.content]


def test_unfinished_search_says_how_far_it_is(search):
    for name in ("result.json", "architecture.json", "logits.json"):
        (search / name).unlink()
    _, twin = written(search)
    assert "The paths are trained; the measurement of some of them has not finished." in twin
    config = search / "config.gin"
    config.write_text(config.read_text().replace("SEARCH_EPOCHS = 1", "SEARCH_EPOCHS = 3"))
    _, twin = written(search)
    assert "So far 1 of 3 epochs are done." in twin and "The paths are trained" not in twin


def test_further_budgets_are_of_the_least_expected_loss(search, capsys):
    assert run("derive", f"--run_dir={search}", "--target=0.7") == 0
    assert "least expected loss at any cost" in capsys.readouterr().out
    derived = json.loads((search / "derived/0.7/architecture.json").read_text())
    derivation = derived["provenance"]["derivation"]
    assert derivation["method"] == "least expected loss within the budget"
    assert derivation["log_probability"] <= derivation["argmax_log_probability"] == 0
    assert "derived for 0.7" in written(search)[1]


def test_tensorboard_shows_what_widths_are_worth(searched):
    events = EventAccumulator(str(searched / "events"), size_guidance={IMAGES: 0})
    events.Reload()
    names = {"widths", "depths", "architecture"}
    assert names <= {tag.removesuffix("/image_0") for tag in events.Tags()["tensors"]}
