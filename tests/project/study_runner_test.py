"""tools/study_runner.py: commands at once share what they need."""

import dataclasses
import pathlib

import pytest
from checkout import ROOT
from studies import study
from study_grid import TABLE, Network, Study
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

    def command(self, item, root, architecture=None):
        script = str(pathlib.Path(self.log).with_name("copy.py"))
        if item == TABLE:
            return [script, item, str(EXAMPLE), f"{root}/{item}", self.log]
        part = "search" if isinstance(item, Network) else "student"
        folder = "networks" if isinstance(item, Network) else "trainings"
        target = f"{root}/{folder}/{item.key}"
        return [script, item.key, str(EXAMPLE / part), target, self.log]


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
