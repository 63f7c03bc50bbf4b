"""Trains a network from scratch: the unpruned one, or an architecture; plain or distilled.

python -m tas_tf.train --gin_file=specs/resnet20.gin --run_dir=runs/teacher20
python -m tas_tf.train --gin_file=specs/resnet20.gin --run_dir=runs/student20 \\
    --architecture=runs/search20 --teacher=runs/teacher20
"""

from absl import flags

from tas_tf import commands

_ARCHITECTURE = flags.DEFINE_string(
    "architecture", None, "Architecture file, or a search's run directory; else the unpruned net."
)
_TEACHER = flags.DEFINE_string("teacher", None, "Run directory of the network to learn from.")


def _train() -> int:
    bindings = commands.path_binding("run_training.architecture", _ARCHITECTURE.value)
    bindings += commands.path_binding("run_training.teacher", _TEACHER.value)
    return commands.call_root("run_training", bindings)


def run() -> None:
    """Runs the command."""
    commands.define_flags("Directory of the run: new, or one to go on with.")
    commands.run(_train)


if __name__ == "__main__":
    run()
