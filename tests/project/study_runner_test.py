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
# Copies a run of the example, with a first width of its own, and notes when it begins and ends.
COPY = """
import json, pathlib, shutil, sys, time
_, name, source, target, log, width = sys.argv
def note(what):
    with open(log, "a") as file:
        file.write(f"{what} {name}\\n")
note("begin")
time.sleep(0.3)
if name == "plain/0.4/search_1":
    sys.exit(1)
shutil.copytree(source, target)
if width != "None":
    path = pathlib.Path(target, "architecture.json")
    architecture = json.loads(path.read_text())
    architecture["stages"][0][0][0] = int(width)
    del architecture["cost"]
    path.write_text(json.dumps(architecture))
note("end")
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copying(Study):
    """A study whose commands copy runs of the example."""

    log: str
    networks: str = str(EXAMPLE / "search")
    differ: bool = True

    def command(self, item, root, architecture=None):
        script = str(pathlib.Path(self.log).with_name("copy.py"))
        if item == TABLE:
            return [script, item, str(EXAMPLE), f"{root}/{item}", self.log, "None"]
        is_network = isinstance(item, Network)
        folder = "networks" if is_network else "trainings"
        target = f"{root}/{folder}/{item.key}"
        source = self.networks if is_network else str(EXAMPLE / "student")
        width = self._width(item) if is_network and self.differ else None
        return [script, item.key, source, target, self.log, str(width)]

    def _width(self, network):
        """A width that no other network has."""
        networks = [cell.network for cell in self.cells() if cell.network.target is not None]
        return 1 + [*dict.fromkeys(networks)].index(network)


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
    grid = study(Copying, log=str(log), networks=str(source), differ=False)
    records = Records(tmp_path / "records.json", grid, "runs/s")
    shutil.copytree(source, tmp_path / f"root/networks/{network.key}")
    records.take(network, str(tmp_path / "root"))
    elsewhere = str(tmp_path / "elsewhere")
    assert Runner(grid, elsewhere, records, None, 1).run([Cell(network, "scratch", 1)]) == 0
    begun = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("begin")]
    assert (network.key in begun) == of_a_model


def test_what_searches_find_twice_is_trained_once(tmp_path, capsys):
    (tmp_path / "copy.py").write_text(COPY)
    log = tmp_path / "log"
    grid = study(Copying, log=str(log), differ=False)
    records, root = Records(tmp_path / "records.json", grid, "runs/s"), str(tmp_path / "root")
    one, two = (Network("search", 0.4, search) for search in (1, 2))
    first, second = ([Cell(network, "scratch", seed) for seed in (1, 2)] for network in (one, two))
    # Weights that a search leaves are its own.
    inherited = [
        Cell(Network(arm, "latency: 0.6", 1), "inherited", 1) for arm in grid.rounds[1].arms
    ]
    assert Runner(grid, root, records, None, 1).run([*first, *second, *inherited]) == 0
    events = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    begun = {name for what, name in events if what == "begin"}
    assert begun >= {item.key for item in (one, two, *first, *inherited)}
    assert not begun & {cell.key for cell in second}
    said = capsys.readouterr().out
    for done, shared in zip(first, second, strict=True):
        record = {**records.get(done), "same_as": done.key}
        assert {**records.get(shared), "command": record["command"]} == record
        assert f"{shared.key}: {record['accuracy']:.2%}" in said and f"as {done.key}\n" in said
    again = Records(records.path, grid, "runs/s")
    assert [again.get(cell) for cell in second] == [records.get(cell) for cell in second]
