"""Measures what networks take in a runtime, in turn with the unpruned ones they were cut from.

python -m tas_tf.measure --architecture=runs/search20 --runtime=litert
python -m tas_tf.measure --architecture=published --runtime=saved_model --batch_size=32 --threads=2
"""

from absl import flags

from tas_tf import command_line
from tas_tf.config import presets
from tas_tf.deployment import formats
from tas_tf.errors import SpecError

_ARCHITECTURES = flags.DEFINE_multi_string(
    "architecture",
    [],
    "Architecture file, run directory, name of a published network such as tas_resnet56_cifar100, "
    "or 'published' for all of them. Repeatable.",
)
_RUNTIME = flags.DEFINE_string(
    "runtime", "saved_model", f"One of {formats.told(formats.RUNTIMES)}."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Images in a call.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 1, "Number of threads.", lower_bound=1)
_SECONDS = flags.DEFINE_float(
    "seconds", 10.0, "About how long a network and its unpruned one are timed.", lower_bound=0.0
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file that also gets all times.")


def _measure() -> int:
    if not _ARCHITECTURES.value:
        raise SpecError(
            "--architecture: a network is needed, such as --architecture=tas_resnet20_cifar10"
        )
    formats.check_runtime(_RUNTIME.value)
    names = [
        name
        for given in _ARCHITECTURES.value
        for name in (presets.published_names() if given == "published" else [given])
    ]
    with command_line.started(_THREADS.value):
        from tas_tf.experiments.measure import run_measure

        return run_measure(
            architectures=names,
            runtime_name=_RUNTIME.value,
            batch_size=_BATCH_SIZE.value,
            threads=_THREADS.value,
            seconds=_SECONDS.value,
            output=_OUTPUT.value,
        )


def run() -> None:
    """Runs the command."""
    command_line.run(_measure)


if __name__ == "__main__":
    run()
