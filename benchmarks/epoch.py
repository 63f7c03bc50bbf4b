"""Measures what an epoch costs over its steps: images, metrics, callbacks, a checkpoint.

    python benchmarks/epoch.py --data_dir=~/tensorflow_datasets

An epoch of `fit`, as a run has it, on real images: a search of ResNet-20 and a training of it.
Every call of the step is timed; what the epoch takes beside them is `beside`. The first step, which
traces, is left out of both. Epochs cut short by `--steps` bound the overhead from above, since what
is done once an epoch weighs more in them. That images are made ready while steps run slows steps,
and is not seen here: `benchmarks/input.py` says what they take.
"""

import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring

from tas_tf.data.batches import Feed
from tas_tf.data.image_data import ImageData, paired
from tas_tf.experiments import common
from tas_tf.experiments.common import computing_in
from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.models.supernet import Supernet
from tas_tf.runtime import files, run_directory
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.architecture_search import ArchitectureSearch
from tas_tf.training.optimizers import SGD, Adam
from tas_tf.training.supervised import Training


class TimedSteps:
    """Times the steps of a loop, each until its work is done."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.times: list[tuple[float, float]] = []

    def distributed_step(self, *arguments):
        """Runs a step, and waits for it."""
        start = time.perf_counter()
        means, faults = super().distributed_step(*arguments)
        for value in (*means.values(), *faults.values()):
            value.numpy()
        self.times.append((start, time.perf_counter()))
        return means, faults


class TimedSearch(TimedSteps, ArchitectureSearch):
    """A search whose steps are timed."""


class TimedTraining(TimedSteps, Training):
    """A training whose steps are timed."""


def make_search(precision: str) -> TimedSearch:
    """Returns a search of ResNet-20."""
    search = TimedSearch(Supernet(SearchSpace.resnet(20, num_classes=10), dtype=precision))
    search.compile(SGD(0.01), Adam(1e-3))
    return search


def make_training(precision: str) -> TimedTraining:
    """Returns a training of the unpruned ResNet-20."""
    with computing_in(precision):
        network = build_model(SearchSpace.resnet(20, num_classes=10).unpruned(), TRAINING_LAYERS)
    training = TimedTraining(network)
    training.compile(SGD(0.01))
    return training


def measured(loop: TimedSearch | TimedTraining, feed: Feed, folder: str) -> tuple[float, float]:
    """Returns the seconds of an epoch's steps, and of what is done beside them."""
    directory = run_directory.RunDirectory(folder)
    files.write_whole(directory.file(run_directory.CONFIG), "")
    common.fit(loop, feed, title="epoch", epochs=1, directory=directory)
    whole = time.perf_counter() - loop.times[0][1]
    steps = sum(end - start for start, end in loop.times[1:])
    return steps, whole - steps


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data_dir")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--steps", type=int, help="steps of an epoch; by default all of them")
    flags = parser.parse_args()
    data = ImageData(flags.dataset, data_dir=flags.data_dir)
    data.prepare(0)
    feeds = {"search": paired, "training": ImageData.training}
    rows = []
    for kind, make in (("search", make_search), ("training", make_training)):
        whole = feeds[kind](data, flags.batch_size, 0)
        feed = Feed(flags.steps or whole.steps_per_epoch, whole.batches)
        for precision in ("float32", "mixed_bfloat16"):
            with tempfile.TemporaryDirectory() as folder:
                steps, beside = measured(make(precision), feed, folder)
            rows.append(
                {
                    "run": kind,
                    "precision": precision,
                    "steps": f"{feed.steps_per_epoch} of {whole.steps_per_epoch}",
                    "in steps, s": steps,
                    "beside, s": beside,
                    "overhead": f"{beside / steps:.2%}",
                }
            )
    measuring.report(rows, flags.json, batch_size=flags.batch_size)


if __name__ == "__main__":
    main()
