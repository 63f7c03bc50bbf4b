"""Measures what an epoch costs over its bare steps: images, metrics, callbacks, a checkpoint.

    python benchmarks/epoch.py --data_dir=~/tensorflow_datasets

Epochs of `fit`, as a run has them, and as many bare steps on one batch that stays in memory are
measured in turn in one run: a search of ResNet-20 and a training of it, on real images. Epochs are
cut short, to two lengths: their difference gives what a step costs, the rest is what is done once
(here once a call of `fit`, which also reads the last checkpoint). `overhead` is that of a whole
epoch, from both.
"""

import functools
import itertools
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

SHORT = 5  # steps of the short epoch


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


def calls(make: Callable[[], Loop], feed: Feed, folder: str) -> dict[str, Callable[[], object]]:
    """Returns a short epoch of a run, a long one, and the bare steps of the long one."""
    found = {}
    for name, steps in (("short", SHORT), ("long", feed.steps_per_epoch)):
        directory = runtime.RunDirectory(os.path.join(folder, name))
        runtime.make_folder(directory.path)
        runtime.write_whole(directory.file(runtime.CONFIG), "")
        loop = make()
        found[name] = epochs(loop, Feed(steps, feed.batches), directory)
    batch = next(iter(feed.batches(0, 1)))

    def bare():
        for step in range(feed.steps_per_epoch):
            means, _ = loop._distributed_step(batch, tf.constant(step, tf.int64), loop.phase)
        return [value.numpy() for value in means.values()]

    return found | {"bare": bare}


def epochs(loop: Loop, feed: Feed, directory: runtime.RunDirectory) -> Callable[[], object]:
    """Returns what trains one epoch more at every call."""
    done = itertools.count(1)
    return lambda: run_parts.fit("epoch", loop, feed, next(done), directory)


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data_dir")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=35, help="steps of the long epoch")
    parser.add_argument("--repeats", type=int, default=3)
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
                made = calls(functools.partial(make, precision), feed, folder)
                times = measuring.interleaved(made, flags.repeats, warm=0)
            short, long, bare = (times[name].median_ms for name in ("short", "long", "bare"))
            step, bare = (long - short) / (flags.steps - SHORT), bare / flags.steps
            once, steps = short - SHORT * step, whole.steps_per_epoch
            rows.append(
                {
                    "run": kind,
                    "precision": precision,
                    "bare step, ms": bare,
                    "step of an epoch, ms": step,
                    "once, ms": once,
                    "steps of a whole epoch": steps,
                    "overhead": f"{(once + steps * step) / (steps * bare) - 1:.1%}",
                }
            )
    measuring.report(rows, flags.json, steps=flags.steps, batch_size=flags.batch_size)


if __name__ == "__main__":
    main()
