"""Finds an architecture within a budget without a search, as people would pick one.

python -m tas_tf.baseline --gin_file=specs/resnet20.gin --run_dir=runs/uniform20 \\
    --kind=uniform_width --target=0.4
python -m tas_tf.baseline --gin_file=specs/resnet20.gin --run_dir=runs/taylor20 \\
    --kind=taylor --target=0.4 --start_from=runs/teacher20

Kinds without a network: uniform_width and uniform_depth (one share for all widths or depths), and
random. Kinds that start from the trained unpruned network: magnitude, taylor, sensitivity and l0.
"""

from absl import flags

from tas_tf import command_line

_KIND = flags.DEFINE_string(
    "kind",
    None,
    "uniform_width, uniform_depth, random, magnitude, taylor, sensitivity or l0.",
)
_START_FROM = flags.DEFINE_string(
    "start_from", None, "Run directory of the trained unpruned network."
)


def _baseline() -> int:
    bindings = command_line.path_binding("run_baseline.start_from", _START_FROM.value)
    if _KIND.value is not None:
        bindings.append(f"run_baseline.kind = {_KIND.value!r}")
    if flags.FLAGS.target is not None:
        bindings.append(f"run_baseline.target = {flags.FLAGS.target.split(',')!r}")
    return command_line.run_experiment("run_baseline", bindings=bindings)


def run() -> None:
    """Runs the command."""
    command_line.define_target(
        "Budget, such as 0.4 or 'parameters: 0.5', or several at once, such as "
        "'macs: 20M, memory: 0.8'; by default the spec's TARGET."
    )
    command_line.define_flags("Directory of the run: new, or one to go on with.")
    command_line.run(_baseline)


if __name__ == "__main__":
    run()
