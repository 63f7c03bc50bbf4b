"""tools/run_study.py: the grid, its records and summary, and a study that is killed and goes on."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import study_summary
from checkout import ROOT
from studies import run_of_a_model, study
from study_grid import TABLE, Cell, Network, Round, Study
from study_records import Records

from tas_tf.config import gin_config
from tas_tf.errors import SpecError
from tas_tf.experiments import registry  # noqa: F401, what gin can bind
from tas_tf.spaces.cost import cost

STUDIES = sorted(path.stem for path in (ROOT / "specs/study").glob("*.gin"))
EXAMPLE = ROOT / "docs/examples/resnet20_cifar10"
TINY = """
run_study.name = 'tiny'
run_study.spec = 'specs/base/digits.gin'
run_study.bindings = ('DEPTH = 8', 'EPOCHS = 1', 'SEARCH_EPOCHS = 1')
TAUGHT = ('run_search.start_from = "{teacher}"',)
run_study.arms = {
    'pad': ('search', %TAUGHT),
    'interpolate': ('search', 'AGGREGATION = "interpolate"'),
}
run_study.rounds = [@Round()]
run_study.searches = 2
run_study.once = ['pad']
run_study.teachers = 1
run_study.reference = 'pad'
Round.arms = ['interpolate', 'pad']
Round.targets = [0.5]
Round.ways = ['scratch']
Round.trainings = 1
"""


def run(folder, *arguments, **options) -> subprocess.Popen:
    command = [sys.executable, ROOT / "tools/run_study.py", *arguments]
    environment = {**os.environ, "TF_DETERMINISTIC_OPS": "1"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )


def told(folder, *arguments, code=0) -> str:
    """What the tool says when it is run to its end."""
    with run(folder, *arguments) as process:
        said = process.communicate(timeout=3600)[0]
    assert process.returncode == code, said
    return said


def test_few_seeds_of_everything_come_first():
    assert [cell.key for cell in study().cells()] == [
        "unpruned/scratch/training_1",
        "search/0.4/search_1/scratch/training_1",
        "plain/0.4/search_1/scratch/training_1",
        "search/latency_0.6/search_1/distilled/training_1",
        "other/latency_0.6/search_1/distilled/training_1",
        "search/latency_0.6/search_1/inherited/training_1",
        "other/latency_0.6/search_1/inherited/training_1",
        "search/0.4/search_1/scratch/training_2",
        "plain/0.4/search_1/scratch/training_2",
        "search/0.4/search_2/scratch/training_1",
        "search/0.4/search_2/scratch/training_2",
        "search/latency_0.6/search_2/distilled/training_1",
        "other/latency_0.6/search_2/distilled/training_1",
        "search/latency_0.6/search_2/inherited/training_1",
        "other/latency_0.6/search_2/inherited/training_1",
    ]


def test_a_round_may_have_fewer_searches():
    few = Round(arms=["search"], targets=[0.4], ways=["scratch"], trainings=1, searches=1)
    grid = dataclasses.replace(study(), rounds=[few], searches=3)
    assert [cell.key for cell in grid.cells()] == [
        "unpruned/scratch/training_1",
        "search/0.4/search_1/scratch/training_1",
    ]


def test_items_need_what_their_commands_read():
    grid = study(teachers=2)
    network = Network("search", "latency: 0.6", 3)
    assert grid.needs(network) == [grid.teacher(1), TABLE]
    assert grid.needs(Network("search", 0.4, 2)) == [grid.teacher(2)]
    assert grid.needs(Network("plain", 0.4, 1)) == []
    assert grid.needs(Cell(network, "inherited", 2)) == [network]
    assert grid.needs(Cell(network, "distilled", 2)) == [network, grid.teacher(2)]
    assert grid.needs(grid.teacher(1)) == grid.needs(TABLE) == []


def test_commands_are_told_budget_teacher_and_seed():
    grid = study(bindings=["EPOCHS = 2"])
    common = ["--gin_file=a.gin", "--gin_bindings=EPOCHS = 2"]
    teacher = "r/trainings/unpruned/scratch/training_1"
    network = Network("search", "latency: 0.6", 2)
    path = "r/networks/search/latency_0.6/search_2"
    assert grid.command(network, "r") == [
        *["-m", "tas_tf.search", *common, '--gin_bindings=TARGET = "latency: 0.6"'],
        '--gin_bindings=run_search.latency_table = "r/table.json"',
        f'--gin_bindings=run_search.start_from = "{teacher}"',
        *["--seed=2", f"--run_dir={path}"],
    ]
    assert grid.command(Network("plain", 0.4, 1), "r") == [
        *["-m", "tas_tf.baseline", "--kind=uniform_width", *common, "--gin_bindings=TARGET = 0.4"],
        *["--seed=1", "--run_dir=r/networks/plain/0.4/search_1"],
    ]
    way = "inherited_distilled"
    assert grid.command(Cell(network, way, 1), "r") == [
        *["-m", "tas_tf.train", *common, f"--architecture={path}", f"--teacher={teacher}"],
        f'--gin_bindings=run_training.start_from = "{path}"',
        *["--seed=1", f"--run_dir=r/trainings/{network.key}/{way}/training_1"],
    ]
    assert grid.command(grid.teacher(1), "r")[1:] == [
        *["tas_tf.train", *common, "--seed=1", f"--run_dir={teacher}"]
    ]
    longer = dataclasses.replace(grid, unpruned=["EPOCHS = 9"])
    assert longer.command(grid.teacher(1), "r")[1:] == [
        *["tas_tf.train", *common, "--gin_bindings=EPOCHS = 9", "--seed=1", f"--run_dir={teacher}"]
    ]
    assert longer.command(Cell(network, way, 1), "r") == grid.command(Cell(network, way, 1), "r")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"once": ["plane"]},
            "run_study.once: expected of search, plain, other. Received: 'pl",
        ),
        ({"reference": "none"}, "run_study.reference: expected of search, plain, other"),
        ({"searches": 0}, "run_study.searches: expected at least 1"),
    ],
)
def test_what_is_not_declared_is_refused(settings, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        study(**settings)


@pytest.fixture
def made(tmp_path) -> tuple[Study, str, Records]:
    """A study some of whose runs are there: those of the example."""
    grid, root = study(), str(tmp_path / "root")
    network = Network("search", 0.4, 1)
    copies = {
        "trainings/unpruned/scratch/training_1": "teacher",
        f"networks/{network.key}": "search",
        f"trainings/{Cell(network, 'scratch', 1).key}": "student",
        f"trainings/{Cell(network, 'scratch', 2).key}": "student_kd",
    }
    for path, part in copies.items():
        shutil.copytree(EXAMPLE / part, f"{root}/{path}")
    records = Records(tmp_path / "records.json", grid, "runs/s")
    taken = [cell for cell in grid.cells() if records.take(cell, root)]
    assert len(taken) == 3
    return grid, root, records


def test_finished_runs_are_recorded(made):
    grid, root, records = made
    network = Network("search", 0.4, 1)
    result = json.loads((EXAMPLE / "search/result.json").read_text())
    budget = result["derivation"]["budgets"]["macs"]
    recorded = Records(records.path, grid, "runs/s").get(network)
    assert recorded["seconds"] == result["seconds"]
    assert recorded["shares"]["macs"] == pytest.approx(
        budget["cost"] / budget["unpruned"], abs=1e-4
    )
    assert recorded["command"].startswith("python -m tas_tf.search --gin_file=a.gin ")
    student = json.loads((EXAMPLE / "student/result.json").read_text())
    assert records.get(Cell(network, "scratch", 1))["accuracy"] == student["test"]["accuracy"]
    assert records.get(Cell(network, "scratch", 1))["seconds"] == student["seconds"]


def test_a_network_of_a_model_is_recorded(tmp_path):
    grid, network = study(), Network("search", 0.4, 1)
    narrow = run_of_a_model(tmp_path / f"root/networks/{network.key}")
    records = Records(tmp_path / "records.json", grid, "runs/s")
    recorded = records.take(network, str(tmp_path / "root"))
    whole = narrow.space.unpruned()
    for kind in ("macs", "parameters"):
        assert recorded["shares"][kind] == pytest.approx(
            cost(narrow, kind) / cost(whole, kind), abs=1e-4
        )
    assert recorded["architecture"]["widths"] == narrow.widths
    assert recorded == Records(records.path, grid, "runs/s").get(network)


def test_a_baseline_that_reads_no_image_is_recorded(tmp_path):
    """It has no record of the machine: nothing was computed."""
    grid, network = study(), Network("plain", 0.4, 1)
    folder = tmp_path / f"root/networks/{network.key}"
    words = ["--kind=uniform_width", "--gin_file=specs/base/digits.gin", f"--run_dir={folder}"]
    subprocess.run([sys.executable, "-m", "tas_tf.baseline", *words], cwd=ROOT, check=True)
    recorded = Records(tmp_path / "records.json", grid, "runs/s").take(network, tmp_path / "root")
    assert recorded["device"] == "" and recorded["shares"]["macs"] == pytest.approx(0.5, abs=0.05)


def test_records_outlive_the_runs(made):
    grid, root, records = made
    before = records.path.read_text()
    shutil.rmtree(root)
    again = Records(records.path, grid, "runs/s")
    assert again.take(grid.teacher(1), root) == records.get(grid.teacher(1))
    assert again.take(Cell(Network("plain", 0.4, 1), "scratch", 1), root) is None
    assert records.path.read_text() == before


def test_a_record_of_another_command_is_refused(made):
    _, _, records = made
    with pytest.raises(SpecError, match=r"records\.json: unpruned/scratch/training_1 was made by"):
        Records(records.path, study(bindings=["EPOCHS = 2"]), "runs/s")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"accuracy": 0.', '"accuracy": 7.', "accuracy: unexpected"),
        ("{", "[", "Expecting|expected"),
    ],
)
def test_damaged_records_are_refused(made, old, new, message):
    grid, _, records = made
    records.path.write_text(records.path.read_text().replace(old, new))
    with pytest.raises(SpecError, match=rf"records\.json: .*{message}"):
        Records(records.path, grid, "runs/s")


def test_the_summary_is_of_what_is_finished(made):
    grid, _, records = made
    lines = [*study_summary.lines(grid, records)]
    assert lines[0] == "3 of 15 trainings are finished."
    rows = {line.split()[1]: line.split(" | ") for line in lines if line.startswith("| `")}
    accuracies = [
        json.loads((EXAMPLE / part / "result.json").read_text())["test"]["accuracy"]
        for part in ("student", "student_kd")
    ]
    assert [*rows] == ["`unpruned`", "`search`"]
    assert rows["`search`"][1] == f"{100 * np.mean(accuracies):.2f}"
    assert rows["`search`"][3] == f"{100 * np.std(accuracies, ddof=1):.2f}"
    assert rows["`search`"][2] == rows["`search`"][5] == "-"  # one search, and no reference
    picture = study_summary.draw(grid, records)
    assert picture.startswith("<svg") and "40% of the MACs, scratch" in picture


def test_the_unpruned_network_stands_beside_all_where_nothing_is_trained_as_it_is(made):
    grid, root, records = made
    fine_tuned = dataclasses.replace(grid.rounds[0], ways=["inherited_distilled"])
    grid = dataclasses.replace(grid, rounds=[fine_tuned])
    cell = Cell(Network("search", 0.4, 1), "inherited_distilled", 1)
    shutil.copytree(EXAMPLE / "student_kd", f"{root}/trainings/{cell.key}")
    records = Records(records.path, grid, "runs/s")
    records.take(cell, root)
    lines = [*study_summary.lines(grid, records)]
    assert [line.split()[1] for line in lines if line.startswith("| `")] == [
        "`unpruned`",
        "`search`",
    ]
    assert "**40% of the MACs, inherited, distilled**" in lines


def test_the_summary_takes_its_place_on_a_page(made, tmp_path):
    grid, _, records = made
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- study s -->\nold\n<!-- end of study s -->\nAfter\n")
    study_summary.write(grid, records, page)
    written = page.read_text()
    assert written.startswith("Before\n<!-- study s -->\n\n3 of 15 trainings are finished.")
    assert written.endswith("(page/s.svg)\n\n<!-- end of study s -->\nAfter\n")
    assert (tmp_path / "page/s.svg").read_text() == study_summary.draw(grid, records)
    study_summary.write(grid, records, page)
    assert page.read_text() == written
    page.write_text("No place\n")
    with pytest.raises(SpecError, match="there is no place for s"):
        study_summary.write(grid, records, page)


@pytest.mark.parametrize("name", STUDIES)
def test_studies_can_be_planned_and_their_page_is_current(name, tmp_path):
    spec = f"--gin_file=specs/study/{name}.gin"
    plan = told(ROOT, spec, "--dry_run", f"--run_dir={tmp_path}/runs")
    assert plan.startswith(f"Study {name}: ") and not (tmp_path / "runs").exists()
    page = tmp_path / "study.md"
    shutil.copy(ROOT / "docs/study.md", page)
    told(ROOT, spec, "--summary", f"--write_docs={page}")
    assert page.read_text() == (ROOT / "docs/study.md").read_text()


def arms(name: str) -> dict[str, tuple[str, ...]]:
    """The arms that studies share, as their spec has them."""
    text = (ROOT / f"specs/study/base/{name}.gin").read_text()
    found = re.search(r"^run_study\.arms = (\{.*?^\})", text, re.M | re.S)[1]
    for macro, words in re.findall(r"^([A-Z]+) = (\(.*?\))$", text, re.M | re.S):
        found = found.replace(f"%{macro}", f"*{words}")
    # `*` unfolds a tuple, which no literal has.
    return eval(found, {"__builtins__": {}})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        *(("specs/study/base/resnet20.gin", words) for words in arms("arms").values()),
        *(("specs/densenet.gin", words) for words in arms("built").values()),
    ],
    ids=[*arms("arms"), *(f"{name}_of_models" for name in arms("built"))],
)
def test_arms_have_a_command_and_bind_what_exists(spec, words):
    called, *own = words
    assert (ROOT / "tas_tf" / f"{called.split()[0]}.py").is_file()
    gin_config.load([spec], ["TARGET = 0.4", *own])
    assert gin_config.whole().count("TARGET = 0.4") == 1


def test_what_is_asked_wrongly_is_refused(tmp_path):
    (tmp_path / "tiny.gin").write_text(TINY)
    said = told(tmp_path, "--gin_file=tiny.gin", "--dry_run", "--only=nothing", code=2)
    assert said.startswith("Error: --only: no training has 'nothing'")
    said = told(tmp_path, "--gin_file=tiny.gin", "--dry_run", "--only=(", code=2)
    assert said.startswith("Error: --only: '(' is no regular expression")
    (tmp_path / "tiny.gin").write_text(TINY + "Round.ways = ['fast']\n")
    said = told(tmp_path, "--gin_file=tiny.gin", "--dry_run", code=2)
    assert said.startswith("Error: Round.ways: expected of scratch, distilled, inherited")


def figures(path) -> dict:
    """What records say, less how long it took."""
    parts = json.loads(path.read_text())
    return {
        key: {name: value for name, value in record.items() if name != "seconds"}
        for part in parts.values()
        for key, record in part.items()
    }


@pytest.mark.slow
def test_a_study_that_is_killed_comes_to_the_same(tmp_path):
    """Minutes: it runs a study of small scans of digits twice, and once from records alone."""
    (tmp_path / "tiny.gin").write_text(TINY)
    ask = ["--gin_file=tiny.gin", "--jobs=2", "--run_dir=undisturbed", "--records=one"]
    said = told(tmp_path, *ask)
    assert "4 of 4 trainings are finished." in said and "| `interpolate` |" in said
    ask = ["--gin_file=tiny.gin", "--jobs=2", "--run_dir=killed", "--records=other"]
    records = tmp_path / "other/tiny.json"
    for ending in (signal.SIGKILL, signal.SIGTERM):
        before = len(figures(records)) if records.exists() else 0
        with run(tmp_path, *ask) as process:
            deadline = time.monotonic() + 900
            while not records.exists() or len(figures(records)) == before:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
            time.sleep(3)  # into the next command
            process.send_signal(ending)
            process.communicate(timeout=300)
        assert process.returncode == (75 if ending == signal.SIGTERM else -signal.SIGKILL)
    said = told(tmp_path, *ask)
    assert "4 of 4 trainings are finished." in said
    assert figures(records) == figures(tmp_path / "one/tiny.json")
    assert "4 trainings, 0 left" in told(tmp_path, *ask)
    check_a_training_starts_from_records(tmp_path, records)


def check_a_training_starts_from_records(folder, records):
    """Asserts that another machine needs no search for a further training of what is recorded."""
    everything = json.loads(records.read_text())
    key = "pad/0.5/search_1/scratch/training_1"
    accuracy = everything["trainings"].pop(key)["accuracy"]
    records.write_text(json.dumps(everything))
    ask = ["--gin_file=tiny.gin", "--jobs=2", "--run_dir=elsewhere"]
    told(folder, *ask, f"--records={records.parent}")
    assert json.loads(records.read_text())["trainings"][key]["accuracy"] == accuracy
    assert not (folder / "elsewhere/networks").exists()
    assert (folder / "elsewhere/trainings" / key / "result.json").exists()
