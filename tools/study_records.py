"""Records of a study: what is known of every finished network and training, a line each."""

from __future__ import annotations

import json
import pathlib
import shlex
from typing import Any

from study_grid import Cell, Network, Study, run_dir

from tas_tf import json_schema
from tas_tf.errors import RunDirectoryError, SpecError
from tas_tf.json_schema import ANY, number, positive, share, text, truth
from tas_tf.reports import record_schema
from tas_tf.spaces.cost import LATENCY

_RECORDS = {
    "networks": {
        ANY: {
            "seconds": number,
            "device": text,
            "shares": {ANY: positive},
            "in_band": truth,
            "command": text,
        }
    },
    "trainings": {ANY: {"accuracy": share, "seconds": number, "device": text, "command": text}},
}


class Records:
    """What is known of the finished parts of a study, in a file that grows with each.

    Args:
        path: The file.
        study: The study.
        root: The study's directory as recorded commands have it.

    Raises:
        SpecError: If it is malformed, or has a part that was made by another command.
    """

    def __init__(self, path: pathlib.Path, study: Study, root: str):
        self.path, self._study, self._root = path, study, root
        self._parts: dict[str, dict[str, Any]] = {"networks": {}, "trainings": {}}
        if path.exists():
            try:
                self._parts = json_schema.parse(path.read_bytes(), _RECORDS, "records")
            except ValueError as error:
                raise SpecError(f"{path}: {error}") from None
        for cell in study.cells():
            for item in (cell.network, cell):
                self._check(item)

    def _check(self, item: Network | Cell) -> None:
        """Refuses a record of another command: other settings make another experiment."""
        record, command = self.get(item), self._command(item)
        if record and record["command"] != command:
            raise SpecError(
                f"{self.path}: {item.key} was made by another command than this study has now. "
                f"Give that part of the study another name, or remove its records.\n"
                f"  there: {record['command']}\n  now:   {command}"
            )

    def _command(self, item: Network | Cell) -> str:
        if isinstance(item, Network) and item.target is None:
            return ""  # the unpruned network needs none
        return shlex.join(["python", *self._study.command(item, self._root)])

    def get(self, item: Network | Cell) -> dict[str, Any] | None:
        """Returns the record of a network or a training; None of one that is not finished."""
        return self._parts[_part(item)].get(item.key)

    def take(self, item: Network | Cell, root: str) -> dict[str, Any] | None:
        """Records a network or a training whose run is finished; returns its record, if it is.

        What is recorded stays, such as that of a teacher that another machine has trained again.

        Args:
            item: The network or the training.
            root: The study's directory.
        """
        if self.get(item) is None:
            record = _of_network if isinstance(item, Network) else _of_training
            found = record(pathlib.Path(run_dir(item, root)))
            if found is None:
                return None
            if isinstance(item, Cell):
                self._take_network(item, root)
            self._add(item, found)
        return self.get(item)

    def share(self, cell: Cell) -> bool:
        """Records a training whose like is on record: same network, same way and same seed.

        Searches may find the same network, and a training is a function of network and seed. The
        record names the other one as `same_as`. Returns whether a training shares its record.

        Args:
            cell: The training.
        """
        if self.get(cell) is None:
            same = self._same(cell)
            if same is not None:
                record = self.get(same)
                self._add(cell, {**record, "same_as": record.get("same_as", same.key)})
        return "same_as" in (self.get(cell) or {})

    def _same(self, cell: Cell) -> Cell | None:
        """Returns the recorded training of the same network, in the same way, by the same seed."""
        if "inherited" in cell.way or cell.network.target is None:
            return None
        if not self.suffices(cell.network):
            return None
        done = (
            other
            for other in self._study.cells()
            if (other.way, other.training) == (cell.way, cell.training)
            and other.network.target is not None
            and self.get(other) is not None
        )
        network = self.architecture(cell.network)
        return next((other for other in done if self.architecture(other.network) == network), None)

    def _take_network(self, cell: Cell, root: str) -> None:
        if cell.network.target is not None:
            self.take(cell.network, root)
        elif self.get(cell.network) is None:  # no search made it
            network = _network(pathlib.Path(run_dir(cell, root)))
            made = {"seconds": 0.0, "device": "", "in_band": True}
            self._add(cell.network, {**network, **made})

    def _add(self, item: Network | Cell, record: dict[str, Any]) -> None:
        self._parts[_part(item)][item.key] = {**record, "command": self._command(item)}
        lines = [
            f" {json.dumps(part)}: {{\n" + ",\n".join(_lines(records)) + "\n }"
            for part, records in self._parts.items()
        ]
        from tas_tf.runtime.files import write_whole  # late: it loads TensorFlow

        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(str(self.path), "{\n" + ",\n".join(lines) + "\n}\n")

    def suffices(self, network: Network) -> bool:
        """Whether a record says all of a network: that of a model needs the model beside it."""
        record = self.get(network)
        return record is not None and "model" not in record["architecture"]

    def architecture(self, network: Network) -> str:
        """Returns the recorded architecture of a network as the text of its file."""
        return json.dumps(self.get(network)["architecture"], indent=1) + "\n"


def _lines(records: dict[str, Any]) -> list[str]:
    return [f"  {json.dumps(key)}: {json.dumps(records[key])}" for key in sorted(records)]


def _part(item: Network | Cell) -> str:
    return "networks" if isinstance(item, Network) else "trainings"


def _result(run: pathlib.Path, pattern: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the result of a run, None of one that is not finished."""
    path = run / "result.json"
    try:
        return json_schema.parse(path.read_bytes(), pattern) if path.exists() else None
    except ValueError as error:
        raise RunDirectoryError(f"{path}: {error}") from None


def _of_training(run: pathlib.Path) -> dict[str, Any] | None:
    result = _result(run, record_schema.RESULTS["training"])
    if result is None:
        return None
    accuracy = result["test"]["accuracy"]
    return {"accuracy": accuracy, "seconds": result["seconds"], "device": _device(run)}


def _device(run: pathlib.Path) -> str:
    """Returns what a run computed on; nothing of a baseline that read no image."""
    machine = run / "machine.json"
    return json.loads(machine.read_bytes())["device_names"][0] if machine.exists() else ""


def _of_network(run: pathlib.Path) -> dict[str, Any] | None:
    result = _result(run, {"seconds": number, "derivation": {"in_band": truth}})
    if result is None:
        return None
    network = _network(run)
    latency = result["derivation"].get("budgets", {}).get(LATENCY)
    if latency:
        network["shares"][LATENCY] = round(latency["cost"] / latency["unpruned"], 4)
    made = {"seconds": result["seconds"], "device": _device(run)}
    return {**network, **made, "in_band": result["derivation"]["in_band"]}


def _network(run: pathlib.Path) -> dict[str, Any]:
    """Returns the architecture of a run, and its costs as shares of the unpruned network's."""
    from tas_tf.deployment.speed import unpruned_counterpart  # late: it loads TensorFlow
    from tas_tf.models.network_files import load_architecture
    from tas_tf.spaces.cost import costs

    architecture = load_architecture(str(run))
    whole = costs(unpruned_counterpart(architecture)[0])
    shares = {kind: round(cost / whole[kind], 4) for kind, cost in costs(architecture).items()}
    fields = json.loads(architecture.replace(cost=None, provenance=None).to_json())
    return {"architecture": fields, "shares": shares}
