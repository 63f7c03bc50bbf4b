"""Measures how many images a second are made ready, and how long a search waits for them.

    python benchmarks/input.py --data_dir=~/tensorflow_datasets

The first table makes batches and does nothing with them, all kinds of augmentation in turn in one
run. The second takes a search of ResNet-20 through an epoch that TensorFlow's profiler watches, and
adds up what the loop spent in taking batches.
"""

import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import tensorflow as tf
from epoch import make_search
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tas_tf.data.batches import Feed
from tas_tf.data.image_data import ImageData, paired

AUGMENTATIONS = ("none", "crop", "crop_flip")
TAKING = "EagerLocalExecute: IteratorGetNext"  # the loop's own thread, in the profiler's words


def speeds(data: dict[str, ImageData], batch_size: int, steps: int, repeats: int) -> list[dict]:
    """Returns images a second for each kind of augmentation, and for pairs of batches."""

    def consumed(feed: Feed):
        def take():
            for _ in feed.batches(0, steps):
                pass

        return take

    feeds = {name: member.training(batch_size, 0) for name, member in data.items()}
    made = {name: consumed(feed) for name, feed in feeds.items()}
    made["crop_flip, pairs"] = consumed(paired(data["crop_flip"], batch_size, 0))
    times = measuring.interleaved(made, repeats)
    return [
        {
            "augmentation": name,
            "images a second": round(
                steps * batch_size * (2 if "pairs" in name else 1) / found.median_ms * 1e3
            ),
        }
        for name, found in times.items()
    ]


def waiting(data: ImageData, batch_size: int, steps: int, precision: str) -> dict:
    """Returns what share of a profiled epoch of a search went into taking batches."""
    search = make_search(precision)
    feed = Feed(steps, paired(data, batch_size, 0).batches)
    search.fit(Feed(2, feed.batches), epochs=1)  # traces
    search.step.assign(0)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            start = time.perf_counter()
            search.fit(feed, epochs=1)
            seconds = time.perf_counter() - start
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    waited = [
        event.duration_ps / 1e12
        for plane in space.planes
        for line in plane.lines
        for event in line.events
        if plane.event_metadata[event.metadata_id].name == TAKING
    ]
    return {
        "precision": precision,
        "steps": len(waited),
        "epoch, s": seconds,
        "waited, s": sum(waited),
        "share": f"{sum(waited) / seconds:.2%}",
    }


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data_dir")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=195, help="batches that are taken")
    parser.add_argument("--repeats", type=int, default=7)
    flags = parser.parse_args()
    data = {
        name: ImageData(flags.dataset, data_dir=flags.data_dir, augmentation=name)
        for name in AUGMENTATIONS
    }
    for member in data.values():
        member.prepare(0)
    rows = speeds(data, flags.batch_size, flags.steps, flags.repeats)
    waits = [
        waiting(data["crop_flip"], flags.batch_size, flags.steps, precision)
        for precision in ("float32", "mixed_bfloat16")
    ]
    measuring.report(rows, flags.json, batch_size=flags.batch_size, waiting=waits)
    print(f"\n{measuring.table(waits)}")


if __name__ == "__main__":
    main()
