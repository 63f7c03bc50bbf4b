"""Measures on this device what the layers of a search space take, as a table of latencies.

python -m tas_tf.profile_device --gin_file=specs/resnet20.gin --output=table.json --runtime=litert

A search then has a budget of milliseconds:

python -m tas_tf.search --gin_file=specs/resnet20.gin --run_dir=runs/fast \\
  --gin_bindings="TARGET = 'latency: 0.6'" \\
  --gin_bindings="run_search.latency_table = 'table.json'"
"""

from absl import flags

from tas_tf import command_line
from tas_tf.deployment import formats
from tas_tf.errors import SpecError

_OUTPUT = flags.DEFINE_string(
    "output", None, "The table's file; what is measured so far lies beside it."
)
_RUNTIME = flags.DEFINE_string("runtime", "litert", f"One of {formats.told(formats.RUNTIMES)}.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Images in a call.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 1, "Number of threads.", lower_bound=1)


def _profile() -> int:
    if not _OUTPUT.value:
        raise SpecError("--output: a file for the table is needed, such as --output=table.json")
    formats.check_runtime(_RUNTIME.value)
    bindings = ["run_profile.data = @ImageData()", "run_profile.space = @resnet()"]
    return command_line.run_experiment(
        "run_profile",
        bindings=bindings,
        threads=_THREADS.value,
        has_run_dir=False,
        output=_OUTPUT.value,
        setting=(_RUNTIME.value, _BATCH_SIZE.value, _THREADS.value),
    )


def run() -> None:
    """Runs the command."""
    command_line.define_flags(None)
    command_line.run(_profile)


if __name__ == "__main__":
    run()
