"""Trains a network from scratch: the unpruned one, or an architecture; plain or distilled.

python -m tas_tf.train --gin_file=specs/resnet20.gin --run_dir=runs/teacher20
python -m tas_tf.train --gin_file=specs/resnet20.gin --run_dir=runs/student20 \\
    --architecture=runs/search20 --teacher=runs/teacher20

A network that the authors published brings its own spec, and trains in runs/NAME:

python -m tas_tf.train --architecture=tas_resnet56_cifar100
"""

from absl import flags

from tas_tf import command_line
from tas_tf.config import presets

_ARCHITECTURE = flags.DEFINE_string(
    "architecture",
    None,
    "Architecture file, a search's run directory, or a published network such as "
    "tas_resnet56_cifar100; else the unpruned network.",
)
_TEACHER = flags.DEFINE_string("teacher", None, "Run directory of the network to learn from.")


def _train() -> int:
    bindings = command_line.path_binding("run_training.architecture", _ARCHITECTURE.value)
    bindings += command_line.path_binding("run_training.teacher", _TEACHER.value)
    published = presets.published_spec(_ARCHITECTURE.value)
    run_dir = f"runs/{_ARCHITECTURE.value}" if published else None
    profiled = command_line.profile_steps()
    return command_line.run_experiment(
        "run_training",
        bindings=bindings,
        default_spec=published,
        default_run_dir=run_dir,
        profile_steps=profiled,
    )


def run() -> None:
    """Runs the command."""
    command_line.define_flags("Directory of the run: new, or one to go on with.", trains=True)
    command_line.run(_train)


if __name__ == "__main__":
    run()
