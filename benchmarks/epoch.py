"""Measures what an epoch costs over its bare steps: images, metrics, callbacks, a checkpoint.

    python benchmarks/epoch.py --data_dir=~/tensorflow_datasets

Epochs of `fit`, as a run has them, and as many bare steps on one batch that stays in memory are
measured in turn in one run: a search of ResNet-20 and a training of it, on real images. Epochs are
cut short, so that what is done once an epoch weighs more than in a whole one: `overhead` is a bound
from above.
"""

import os
import tempfile
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import tensorflow as tf

from tas_tf import run_parts, runtime
from tas_tf.data import ImageData, paired
from tas_tf.image_batches import Feed
from tas_tf.optimizers import SGD, Adam
from tas_tf.run_parts import computing_in
from tas_tf.search_loop import ArchitectureSearch
from tas_tf.search_space import SearchSpace
from tas_tf.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.supernet import Supernet
from tas_tf.training_loop import Loop, Training


def make_search(precision: str) -> ArchitectureSearch:
    """Returns a search of ResNet-20."""
    search = ArchitectureSearch(Supernet(SearchSpace.resnet(20, num_classes=10), dtype=precision))
    search.compile(SGD(0.01), Adam(1e-3))
    return search


def make_training(precision: str) -> Training:
    """Returns a training of the unpruned ResNet-20."""
    with computing_in(precision):
        network = build_model(SearchSpace.resnet(20, num_classes=10).unpruned(), TRAINING_LAYERS)
    training = Training(network)
    training.compile(SGD(0.01))
    return training


def epochs(loop: Loop, feed: Feed, folder: str) -> dict[str, Callable[[], object]]:
    """Returns an epoch of a run and its bare steps."""
    directory = runtime.RunDirectory(folder)
    batch = next(iter(feed.batches(0, 1)))
    done = 0

    def epoch():
        nonlocal done
        done += 1
        run_parts.fit("epoch", loop, feed, done, directory)

    def bare():
        for step in range(feed.steps_per_epoch):
            values = loop._distributed_step(batch, tf.constant(step, tf.int64), loop.phase)
        return [value.numpy() for value in values.values()]

    return {"epoch": epoch, "bare steps": bare}


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data_dir")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30, help="steps of an epoch")
    parser.add_argument("--repeats", type=int, default=2)
    flags = parser.parse_args()
    data = ImageData(flags.dataset, data_dir=flags.data_dir)
    data.prepare(0)
    feeds = {"search": paired, "training": ImageData.training}
    rows = []
    for kind, make in (("search", make_search), ("training", make_training)):
        whole = feeds[kind](data, flags.batch_size, 0)
        feed = Feed(flags.steps, whole.batches)
        for precision in ("float32", "mixed_bfloat16"):
            with tempfile.TemporaryDirectory() as folder:
                made = epochs(make(precision), feed, folder)
                times = measuring.interleaved(made, flags.repeats, warm=0)
            epoch, bare = (times[name].median_ms / 1e3 for name in made)
            rows.append(
                {
                    "run": kind,
                    "precision": precision,
                    "epoch, s": epoch,
                    "bare steps, s": bare,
                    "steps": flags.steps,
                    "steps of a whole epoch": whole.steps_per_epoch,
                    "overhead": f"{epoch / bare - 1:.1%}",
                }
            )
    measuring.report(rows, flags.json, steps=flags.steps, batch_size=flags.batch_size)


if __name__ == "__main__":
    main()
