"""Does all of it in one run directory: teacher, search, student, distilled student, export.

python -m tas_tf.pipeline --gin_file=specs/resnet20.gin --run_dir=runs/resnet20
"""

from tas_tf import command_line


def _pipeline() -> int:
    return command_line.run_experiment("run_pipeline", profile_steps=command_line.profile_steps())


def run() -> None:
    """Runs the command."""
    command_line.define_flags("Directory of the run: new, or one to go on with.", trains=True)
    command_line.run(_pipeline)


if __name__ == "__main__":
    run()
