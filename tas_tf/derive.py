"""Derives architectures for one or several budgets from one finished search.

python -m tas_tf.derive --run_dir=runs/search20 --target=0.3 --target=0.5
python -m tas_tf.derive --run_dir=runs/search20 --target='macs: 0.4, parameters: 0.5'
python -m tas_tf.derive --run_dir=runs/search20 --target='latency: 0.6' --latency_table=table.json
"""

import os

from absl import flags

from tas_tf import command_line
from tas_tf.config import presets, recorded
from tas_tf.errors import RunDirectoryError, SpecError

_LATENCY_TABLE = flags.DEFINE_string(
    "latency_table",
    None,
    "Table of latencies, for budgets such as 'latency: 4.0 ms'; by default the search's.",
)


def _derive() -> int:
    if not flags.FLAGS.target:
        raise SpecError("--target: at least one budget is needed, such as --target=0.4")
    run_dir = flags.FLAGS.run_dir
    spec = os.path.join(os.path.expanduser(run_dir), "config.gin") if run_dir else None
    if spec and not flags.FLAGS.gin_file and not presets.is_file(spec):
        raise RunDirectoryError(f"{run_dir} is no run directory of a search: {spec} is missing")
    if spec and not flags.FLAGS.gin_file:
        recorded.check_recorded(spec)
    targets = [text.split(",") if "," in text else text for text in flags.FLAGS.target]
    bindings = [*_space(run_dir), f"run_derive.targets = {targets!r}"]
    bindings += command_line.path_binding("run_derive.latency_table", _LATENCY_TABLE.value)
    return command_line.run_experiment("run_derive", bindings=bindings, default_spec=spec)


def _space(run_dir: str | None) -> list[str]:
    """Returns what binds the space that was searched: of a model beside the search, or ours."""
    base = os.path.join(os.path.expanduser(run_dir or ""), presets.BASE)
    if run_dir and presets.is_file(base):
        return ["run_derive.space = @own_model()", f"own_model.model = {base!r}"]
    return ["run_derive.space = @resnet()"]


def run() -> None:
    """Runs the command."""
    command_line.define_target(
        "Budget, such as 0.3 or 'parameters: 0.5', or several at once, such as "
        "'macs: 20M, memory: 0.8'. Repeatable: each gives an architecture.",
        several=True,
    )
    command_line.define_flags("Run directory of the search.")
    command_line.run(_derive)


if __name__ == "__main__":
    run()
