"""Derives architectures for one or several budgets from one finished search.

python -m tas_tf.derive --run_dir=runs/search20 --target=0.3 --target=0.5
python -m tas_tf.derive --run_dir=runs/search20 --target='parameters: 0.4'
"""

import os

from absl import flags

from tas_tf import commands
from tas_tf.errors import SpecError

_TARGETS = flags.DEFINE_multi_string(
    "target", [], "Budget, such as 0.3, 'macs: 20M' or 'parameters: 0.5'. Repeatable."
)


def _derive() -> int:
    if not _TARGETS.value:
        raise SpecError("--target: at least one budget is needed, such as --target=0.4")
    run_dir = flags.FLAGS.run_dir
    spec = os.path.join(os.path.expanduser(run_dir), "config.gin") if run_dir else None
    bindings = ["run_derive.space = @resnet()", f"run_derive.targets = {_TARGETS.value!r}"]
    return commands.call_root("run_derive", bindings, default_spec=spec)


def run() -> None:
    """Runs the command."""
    commands.define_flags("Run directory of the search.")
    commands.run(_derive)


if __name__ == "__main__":
    run()
