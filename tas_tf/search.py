"""Searches an architecture within a budget, and writes it to `architecture.json`.

python -m tas_tf.search --gin_file=specs/resnet20.gin --run_dir=runs/search20
"""

from tas_tf import commands


def _search() -> int:
    return commands.call_root("run_search", profile_steps=commands.profile_steps())


def run() -> None:
    """Runs the command."""
    commands.define_flags("Directory of the run: new, or one to go on with.", trains=True)
    commands.run(_search)


if __name__ == "__main__":
    run()
