"""`python -m tas_tf.baseline`: every kind, its run directory, and what it refuses."""

import json
import pathlib

import pytest
from command_line import QUICK, RUN, bindings, check_message, check_refused, finished, run

import tas_tf
from tas_tf.models import network_files
from tas_tf.reports import report
from tas_tf.spaces.cost import cost, costs

TINY = bindings("DEPTH = 8", "SEARCH_EPOCHS = 1", "EPOCHS = 1", "run_baseline.batches = 2")
FREE = ("uniform_width", "uniform_depth", "random")
KINDS = (*FREE, "magnitude", "taylor", "sensitivity", "l0")
SPACE = tas_tf.SearchSpace.resnet(8, 10, (8, 8, 1))


pytestmark = pytest.mark.usefixtures("empty_directory")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The run directory of an unpruned network, trained for an epoch."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    assert run("train", QUICK, f"--run_dir={folder}", *TINY) == 0
    return folder


def baseline(kind, teacher, *arguments, target="0.5"):
    start = [] if kind in FREE else [f"--start_from={teacher}"]
    flags = [QUICK, f"--kind={kind}", f"--target={target}", *start, *TINY]
    return run("baseline", *flags, *([] if "--run_dir" in str(arguments) else [RUN]), *arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_an_architecture_that_the_training_takes(kind, teacher, capsys):
    assert baseline(kind, teacher) == 0
    said = capsys.readouterr().out
    assert f"Found by {kind}: " in said and "Architecture: run/architecture.json" in said
    found = network_files.load_architecture("run")
    assert dict(found.cost) == costs(found)
    summary = found.provenance["derivation"]
    assert summary["method"].startswith(f"{kind}: ") and summary["in_band"]
    placed = summary["budgets"]["macs"]
    assert placed["cost"] == cost(found) and placed["unpruned"] == cost(SPACE.unpruned())
    assert 0.95 * 0.5 <= cost(found) / cost(SPACE.unpruned()) <= 0.5
    result = json.loads(pathlib.Path("run/result.json").read_text())
    assert result["derivation"] == summary and result["seconds"] > 0
    assert pathlib.Path("run/space.json").exists() and pathlib.Path("run/config.gin").exists()
    # Weights are there where the kind has them, and a training starts from them.
    assert pathlib.Path("run/model.keras").exists() == (kind not in FREE)
    start = [] if kind in FREE else bindings("run_training.start_from = 'run'")
    arguments = [QUICK, "--run_dir=student", "--architecture=run", *TINY, *start]
    assert run("train", *arguments, "--dry_run") == 0
    before = {path: path.stat().st_mtime_ns for path in pathlib.Path("run").rglob("*")}
    assert baseline(kind, teacher) == 0
    assert "Already done" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in pathlib.Path("run").rglob("*")}


@pytest.mark.slow
def test_training_starts_with_inherited_weights(teacher, capsys):
    assert baseline("l0", teacher) == 0
    start = bindings("run_training.start_from = 'run'")
    arguments = [QUICK, "--run_dir=student", "--architecture=run", *TINY, *start]
    assert run("train", *arguments) == 0
    assert "Test accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["uniform_width", "sensitivity", "l0"])
def test_report_opens_a_baseline(kind, teacher):
    assert baseline(kind, teacher) == 0
    _, page = report.write_report("run")
    text = pathlib.Path(page).read_text()
    assert "The network found has" in text and "missing" not in text
    method = kind.replace("_", r"\_")
    assert f"It was found by {method}: " in text and "Budget of MACs" in text


def test_report_shows_what_is_damaged(teacher):
    assert baseline("random", teacher) == 0
    pathlib.Path("run/result.json").write_text('{"derivation": {}}')
    _, page = report.write_report("run")
    assert "result.json is damaged" in pathlib.Path(page).read_text()


def test_several_budgets_at_once(teacher):
    assert baseline("magnitude", teacher, target="macs: 0.5, parameters: 0.6") == 0
    found = network_files.load_architecture("run")
    budgets = found.provenance["derivation"]["budgets"]
    assert set(budgets) == {"macs", "parameters"}
    for kind, budget in budgets.items():
        assert budget["floor"] <= cost(found, kind) <= budget["amount"]


def test_seed_decides_the_random_network(teacher):
    found = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert baseline("random", teacher, f"--run_dir={name}", f"--seed={seed}") == 0
        found.append(network_files.load_architecture(name))
    assert found[0] == found[1] != found[2]


def test_measurements_are_taken_up_again(teacher):
    assert baseline("sensitivity", teacher) == 0
    measured = json.loads(pathlib.Path("run/sensitivity.json").read_text())
    expected = network_files.load_architecture("run")
    pathlib.Path("run/result.json").unlink()
    kept = dict(list(measured.items())[:9])
    pathlib.Path("run/sensitivity.json").write_text(json.dumps(kept))
    assert baseline("sensitivity", teacher) == 0
    again = json.loads(pathlib.Path("run/sensitivity.json").read_text())
    assert again == pytest.approx(measured, rel=1e-4)
    assert network_files.load_architecture("run") == expected


def test_outside_its_band_is_an_exit_code_of_its_own(teacher, capsys):
    exactly = bindings("run_baseline.tolerance = 0.0")
    assert baseline("uniform_width", teacher, *exactly, target="macs: 300001") == 3
    assert "this is the nearest below" in capsys.readouterr().out
    assert baseline("uniform_width", teacher, *exactly, target="macs: 300001") == 3


def test_dry_run_leaves_nothing(teacher, capsys):
    assert baseline("taylor", teacher, "--dry_run") == 0
    assert "Baseline: taylor" in capsys.readouterr().out
    assert not list(pathlib.Path().iterdir())


def test_process():
    arguments = [QUICK, RUN, *TINY, "--kind=uniform_width"]
    code, stdout, stderr = finished("baseline", *arguments)
    assert (code, stderr) == (0, "")
    assert "Found by uniform_width: " in stdout
    code, _, stderr = finished("baseline", QUICK, "--run_dir=other", "--kind=taylor")
    assert code == 2
    check_message(stderr, "start_from: taylor needs the run directory of the trained")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "run_baseline: nothing gives kind"),
        (["--kind=best"], "run_baseline.kind .*expected .*uniform_width.*Received: 'best'"),
        (["--kind=l0"], "start_from: l0 needs the run directory of the trained unpruned network"),
        (["--kind=random", "--start_from=x"], "start_from .*random starts from no network"),
        (["--kind=random", "--target=half"], "TARGET: expected a share.*Received: 'half'"),
        (["--kind=random", "--target=0.0001"], "no architecture of the space .*Reachable are"),
        (["--kind=taylor", "--start_from=nowhere"], "start_from: nowhere does not exist"),
        (["--kind=random", *bindings("run_baseline.batches = 0")], "batches .*expected at least 1"),
    ],
)
def test_mistakes_are_refused(capsys, arguments, expected):
    check_refused(capsys, "baseline", QUICK, RUN, *TINY, *arguments, expected=[expected])


def test_another_network_is_refused(teacher, capsys):
    start = ["--kind=magnitude", f"--start_from={teacher}"]
    other = [*start, *TINY, *bindings("DEPTH = 14")]
    expected = "start_from: its network is of another architecture"
    check_refused(capsys, "baseline", QUICK, RUN, *other, expected=[expected])
    narrow = [*start, *TINY, *bindings("resnet.ratios = (0.5, 0.7)")]
    expected = "resnet.ratios: magnitude needs 1.0 among them"
    check_refused(capsys, "baseline", QUICK, RUN, *narrow, expected=[expected])
