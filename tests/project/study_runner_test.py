"""tools/study_runner.py: commands at once share what they need."""

import dataclasses
import pathlib
import shutil

import pytest
from checkout import ROOT
from studies import run_of_a_model, study
from study_grid import TABLE, Cell, Network, Study
from study_records import Records
from study_runner import Runner

EXAMPLE = ROOT / "docs/examples/resnet20_cifar10"
# Copies a run of the example, and notes when it begins and ends.
COPY = """
import shutil, sys, time
_, name, source, target, log = sys.argv
def note(what):
    with open(log, "a") as file:
        file.write(f"{what} {name}\\n")
note("begin")
time.sleep(0.3)
if name == "plain/0.4/search_1":
    sys.exit(1)
shutil.copytree(source, target)
note("end")
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copying(Study):
    """A study whose commands copy runs of the example."""

    log: str
    networks: str = str(EXAMPLE / "search")

    def command(self, item, root, architecture=None):
        script = str(pathlib.Path(self.log).with_name("copy.py"))
        if item == TABLE:
            return [script, item, str(EXAMPLE), f"{root}/{item}", self.log]
        folder = "networks" if isinstance(item, Network) else "trainings"
        target = f"{root}/{folder}/{item.key}"
        source = self.networks if isinstance(item, Network) else str(EXAMPLE / "student")
        return [script, item.key, source, target, self.log]


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_jobs_share_what_they_need_and_a_failure_is_their_own(tmp_path, capsys, jobs):
    (tmp_path / "copy.py").write_text(COPY)
    log = tmp_path / "log"
    grid = study(Copying, log=str(log), teachers=2)
    records = Records(tmp_path / "records.json", grid, "runs/s")
    assert Runner(grid, str(tmp_path / "root"), records, None, jobs).run(grid.cells()) == 1
    events = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    begun = [name for what, name in events if what == "begin"]
    assert len(begun) == len(set(begun))  # nothing is made twice
    ended = [name for what, name in events if what == "end"]
    assert {*begun} - {*ended} == {"plain/0.4/search_1"}
    missing = {cell.key for cell in grid.cells() if records.get(cell) is None}
    assert missing == {f"plain/0.4/search_1/scratch/training_{n}" for n in (1, 2)}
    assert not missing & {*begun}
    for item in (item for cell in grid.cells() for item in (cell, cell.network)):
        for needed in grid.needs(item) if item.key in begun else []:
            end = ["end", getattr(needed, "key", needed)]
            assert events.index(end) < events.index(["begin", item.key])
    # The table is measured alone; then commands run side by side, as many as there are jobs.
    assert events[:2] == [["begin", TABLE], ["end", TABLE]]
    running, failed = [0], "plain/0.4/search_1"  # whose end nobody notes
    for what, name in events:
        running.append(running[-1] + (what == "begin" and name != failed) - (what == "end"))
    assert max(running) <= jobs and (max(running) > 1) == (jobs > 1)
    assert "plain/0.4/search_1/scratch/training_1: FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("of_a_model", [False, True])
def test_a_model_is_needed_beside_the_record_of_its_network(tmp_path, of_a_model):
    (tmp_path / "copy.py").write_text(COPY)
    log, source, network = tmp_path / "log", EXAMPLE / "search", Network("search", 0.4, 1)
    if of_a_model:
        source = tmp_path / "searched"
        run_of_a_model(source)
    grid = study(Copying, log=str(log), networks=str(source))
    records = Records(tmp_path / "records.json", grid, "runs/s")
    shutil.copytree(source, tmp_path / f"root/networks/{network.key}")
    records.take(network, str(tmp_path / "root"))
    elsewhere = str(tmp_path / "elsewhere")
    assert Runner(grid, elsewhere, records, None, 1).run([Cell(network, "scratch", 1)]) == 0
    begun = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("begin")]
    assert (network.key in begun) == of_a_model
