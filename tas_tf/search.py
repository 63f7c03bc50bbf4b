"""Searches an architecture within a budget, and writes it to `architecture.json`.

python -m tas_tf.search --gin_file=specs/resnet20.gin --run_dir=runs/search20
"""

from tas_tf import command_line


def _search() -> int:
    return command_line.run_experiment("run_search", profile_steps=command_line.profile_steps())


def run() -> None:
    """Runs the command."""
    command_line.define_flags("Directory of the run: new, or one to go on with.", trains=True)
    command_line.run(_search)


if __name__ == "__main__":
    run()
