"""Measures what a checkpoint costs in time and bytes, on the search of a CIFAR ResNet.

    python benchmarks/checkpoint.py --depth 110

One line for each depth: bytes and files of a checkpoint, the pause that saving it makes (written,
hashed, flushed to disk, the oldest removed), the time to verify and restore it, what share of the
ten minutes between two of them the pause is, and what looking for weights that are not finite costs
a step.
"""

import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import tensorflow as tf

from tas_tf.models.supernet import Supernet
from tas_tf.runtime.checkpoints import CheckpointInterval, Checkpoints
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.architecture_search import ArchitectureSearch
from tas_tf.training.optimizers import SGD, Adam


def search(depth: int) -> ArchitectureSearch:
    """Makes the search of a ResNet, as the presets do."""
    loop = ArchitectureSearch(Supernet(SearchSpace.resnet(depth)))
    loop.compile(SGD(), Adam())
    return loop


def measure(depth: int, repeats: int) -> dict[str, object]:
    """Saves and restores checkpoints of one search; returns a line of the table."""
    loop = search(depth)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(RunDirectory(folder), **loop.state())

        def save():
            checkpoints.save((checkpoints.saved or 0) + 1)

        times = measuring.interleaved({"save": save, "restore": checkpoints.restore}, repeats)
        newest = list(pathlib.Path(folder, "checkpoints").glob(f"ckpt-{checkpoints.saved}.*"))
        size = sum(path.stat().st_size for path in newest)
    save, restore = times["save"], times["restore"]
    step = finite_check(loop, repeats)
    return {
        "ResNet": depth,
        "MiB": size / 2**20,
        "files": len(newest),
        "save ms": save.median_ms,
        "upper quartile": save.upper_ms,
        "verify and restore ms": restore.median_ms,
        "% of 10 min": 100 * save.median_ms / 1e3 / CheckpointInterval().seconds,
        "finite check ms a step": step.median_ms,
    }


def finite_check(loop: ArchitectureSearch, repeats: int) -> measuring.Times:
    """Measures the sums by which a step tells whether its weights are finite."""
    variables = [variable.value for variable in loop.supernet.weight_variables]

    @tf.function(autograph=False)
    def check():
        return tf.math.is_finite(tf.add_n([tf.reduce_sum(value) for value in variables]))

    return measuring.interleaved({"check": lambda: bool(check())}, 5 * repeats)["check"]


def main():
    """Runs the benchmark."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--depth", type=int, nargs="+", default=[20, 110])
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    rows = [measure(depth, arguments.repeats) for depth in arguments.depth]
    measuring.report(rows, arguments.json)


if __name__ == "__main__":
    main()
