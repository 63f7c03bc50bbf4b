#!/usr/bin/env python3
"""Lists the runs below a folder: what each is, how far it is, what it costs and what it reaches.

tools/list_runs.py runs
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tas_tf import json_schema
from tas_tf.config.recorded import settings
from tas_tf.errors import EXIT_DONE, EXIT_USER_ERROR
from tas_tf.reports import record_schema
from tools.show_architecture import aligned, printable, show

HEADER = ("run", "kind", "state", "MACs", "parameters", "accuracy")
# Folders of a run that hold no other run.
INSIDE = {"checkpoints", "events", "saved_model", "derived"}


def runs(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the run directories below a folder, a pipeline before its parts."""
    for path, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if name not in INSIDE)
        if "config.gin" in files:
            yield pathlib.Path(path)


def describe(run: pathlib.Path) -> dict[str, Any]:
    """Returns what a run directory's records tell, as JSON data; what is damaged is `damaged`."""
    config = settings(_text(run / "config.gin") or "")
    kind = record_schema.run_kind(config) or "unknown"
    row = {"run": str(run), "kind": kind, "state": None}
    if kind == "pipeline":
        done = [part for part in record_schema.PIPELINE if (run / part / "result.json").is_file()]
        return {**row, "state": f"{len(done)} of {len(record_schema.PIPELINE)} parts done"}
    if kind == "unknown":
        return {**row, "state": "unknown"}
    result = _parse(_text(run / "result.json"), record_schema.RESULTS[kind])
    if result is None:
        return {**row, "state": _progress(run, config.get(f"run_{kind}.epochs"))}
    row["state"] = "damaged" if result == {} else "done"
    if result and kind == "training":
        row |= {"accuracy": result["test"]["accuracy"]}
        row |= {name: result["cost"][name] for name in ("macs", "parameters")}
    elif result and kind in ("search", "baseline"):
        budgets = result["derivation"]["budgets"]
        row |= {name: budget["cost"] for name, budget in budgets.items()}
        row["state"] += "" if result["derivation"]["in_band"] else ", outside the band"
    return row


def _progress(run: pathlib.Path, epochs: Any) -> str:
    lines = (_text(run / "metrics.jsonl") or "").splitlines()
    last = _parse(lines[-1], record_schema.EPOCH) if lines else {"epoch": 0}
    if not last:
        return "damaged"
    return f"epoch {last['epoch']}" + (f" of {epochs}" if isinstance(epochs, int) else "")


def _text(path: pathlib.Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _parse(text: str | None, pattern: dict[str, Any]) -> dict[str, Any] | None:
    """Returns what a file holds; nothing of a damaged one, None of one that is not there."""
    try:
        return None if text is None else json_schema.parse(text, pattern)
    except ValueError:
        return {}


def _cells(run: dict[str, Any]) -> tuple[str, ...]:
    costs = [f"{run[kind]:,}" if kind in run else "-" for kind in ("macs", "parameters")]
    accuracy = f"{run['accuracy']:.2%}" if "accuracy" in run else "-"
    return printable(run["run"]), run["kind"], run["state"], *costs, accuracy


def main() -> int:
    """Prints what the command line asks for and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default="runs", type=pathlib.Path)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        print(f"{arguments.folder} is no folder; give one that holds runs", file=sys.stderr)
        return EXIT_USER_ERROR
    rows = [describe(run) for run in runs(arguments.folder)]
    if not rows and not arguments.json:
        print(f"No run below {arguments.folder}: a run has a config.gin")
        return EXIT_DONE
    lines = aligned([HEADER, *map(_cells, rows)], "<<<>>>")
    show([json.dumps(rows, indent=1)] if arguments.json else lines)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
