"""What each part of a search by measurement is worth: one at a time made different.

    python benchmarks/ablations.py --networks=networks.json --data_dir=~/tensorflow_datasets

A supernet is trained as `ranking.py` says, from the same teacher, which lies under `--runs`, and
with one thing made different. Random paths are then measured, by loss and by accuracy, and the
separable model is fitted to either. Kendall's correlation with the networks' true accuracies is
printed of the fitted models, of the model without capacity and streams (`plain`), and of the first
networks' own scores (`raw`). `--folder` keeps what is done: the same command goes on from there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import pathlib
import time
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measuring
import numpy as np
import scipy.stats
import tensorflow as tf
from ranking import Ladder

from tas_tf.data.batches import Feed
from tas_tf.layers import sampling
from tas_tf.layers.sampling import Draw
from tas_tf.layers.searchable_unit import Mode
from tas_tf.spaces.separable import Indices
from tas_tf.training import losses
from tas_tf.training.loop import Batch, batch_share, faults_after, gradients_of
from tas_tf.training.path_search import PathSearch
from tas_tf.training.path_values import PathValues, random_path
from tas_tf.training.progress import Progress
from tas_tf.training.schedules import warm_cosine
from tas_tf.training.scores import Score


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is made different.

    Args:
        bindings: Settings.
        taught: Whether paths learn from the teacher, or from the labels.
        paths: Paths in a step, all on the same batch.
        started: Whether paths have the teacher's weights at first.
    """

    bindings: tuple[str, ...] = ()
    taught: bool = True
    paths: int = 1
    started: bool = True


VARIANTS = {
    "as it is": Variant(),
    "the paper's streams": Variant(('Supernet.streams = "paper"',)),
    "normalization shared": Variant(('Supernet.normalization = "shared"',)),
    "labels in place of the teacher": Variant(taught=False),
    "from new weights": Variant(started=False),
    "two paths a step": Variant(paths=2),
    "one epoch": Variant(("SEARCH_EPOCHS = 1",)),
    "six epochs": Variant(("SEARCH_EPOCHS = 6",)),
    "500 measured": Variant(("Measurement.paths = 500",)),
}


class SeveralPaths(PathSearch):
    """Steps of several paths: the mean of their losses.

    Args:
        search: The search that it is as.
        teacher: The trained network; None for labels.
        paths: Paths in a step.
    """

    def __init__(self, search: PathSearch, teacher: keras.Model | None, paths: int):
        super().__init__(search.supernet, teacher, search.seed)
        self.compile(search.optimizer, search.budgets)
        self.paths = paths

    def train_step(self, batch: Batch, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step of the weights."""
        images, labels = batch
        variables = self.supernet.weight_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            each = []
            for number in range(self.paths):
                draw = self.supernet.uniform_path(sampling.step_seed(self.seed, step, number))
                logits = self.supernet(images, draw, mode=Mode.WEIGHTS)
                each.append(tf.reduce_mean(self._losses(images, labels, logits)))
            loss = tf.reduce_mean(each)
        self.optimizer.apply(gradients_of(tape, loss, variables), variables)
        shown = self.objective.shown(labels, logits, batch_share(logits))
        return {"loss": loss, **shown, **faults_after(loss, variables, "the training of paths")}


def trained(ladder: Ladder, variant: Variant, seed: int) -> tuple[PathSearch, Feed]:
    """Returns a supernet that was trained as a variant says, and the images that measure."""
    search, half = ladder.supernet(seed)
    experiment = ladder.experiment
    experiment.data.prepare(seed)
    feed = experiment.data.training(experiment.batch_size, seed, "weights")
    teacher = ladder.start(search, feed) if variant.started else ladder.teacher()
    several = SeveralPaths(search, teacher if variant.taught else None, variant.paths)
    peak = float(search.optimizer.learning_rate.numpy())
    several.learning_rate = warm_cosine(peak, experiment.epochs * feed.steps_per_epoch)
    progress = Progress("paths", experiment.epochs, feed.steps_per_epoch)
    several.fit(feed, experiment.epochs, [progress])
    return several, half


def scores_of(search: PathSearch, feed: Feed, wanted: Sequence[Indices], images: int) -> np.ndarray:
    """Returns loss and share of errors of paths (paths, 2), by the batch's statistics."""
    (_, labels), *_ = feed.batches(0, 1)
    batches = [*feed.batches(0, max(2, math.ceil(images / len(labels))))]

    @tf.function(autograph=False)
    def of_batch(batch: Batch, draw: Draw) -> tf.Tensor:
        pixels, labels = batch
        logits = search.supernet(pixels, draw, mode=Mode.ARCHITECTURE)
        wrong = tf.not_equal(tf.argmax(logits, 1), tf.cast(labels, tf.int64))
        both = losses.cross_entropy(labels, logits), tf.cast(wrong, tf.float32)
        return tf.stack([tf.reduce_mean(each) for each in both])

    found = []
    for indices in wanted:
        draw = search.supernet.fixed_draw(search.supernet.space.architecture(*indices))
        found.append(np.mean([of_batch(batch, draw).numpy() for batch in batches], axis=0))
    return np.array(found)


def row_of(flags: argparse.Namespace, name: str, seed: int) -> dict[str, float | str]:
    """Returns what is printed of a variant and a seed."""
    variant = VARIANTS[name]
    ladder = Ladder(argparse.Namespace(**{**vars(flags), "gin_bindings": variant.bindings}))
    begun = time.monotonic()
    search, feed = trained(ladder, variant, seed)
    plan, space = ladder.experiment.measurement, ladder.space
    random = [random_path(space, seed, number) for number in range(plan.paths)]
    measured = scores_of(search, feed, random, plan.images)
    seconds = time.monotonic() - begun
    own = scores_of(search, feed, ladder.networks[: ladder.scored], plan.images)

    def kendall(values: np.ndarray) -> float:
        return float(scipy.stats.kendalltau(values, ladder.accuracies[: len(values)]).statistic)

    row: dict[str, float | str] = {"variant": name, "seed": seed, "seconds": seconds}
    for column, by in enumerate(("loss", "accuracy")):
        scores = [
            Score("random", indices, (float(value),))
            for indices, value in zip(random, measured[:, column], strict=True)
        ]
        for kind, weights in {"fitted": (plan.capacity, plan.streams), "plain": (0, 0)}.items():
            values = PathValues(space, scores, *weights)
            row[f"{kind}, {by}"] = kendall(values.predicted(scores, ladder.networks))
        row[f"raw, {by}"] = kendall(-own[:, column])
    return row


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--networks", required=True)
    parser.add_argument("--gin_file", default="benchmarks/ranking.gin")
    parser.add_argument("--data_dir")
    parser.add_argument("--runs", default="runs/ranking")
    parser.add_argument("--folder", type=pathlib.Path, default="runs/ablations")
    parser.add_argument("--variants", choices=VARIANTS, nargs="+", default=[*VARIANTS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scored", type=int, default=100, help="networks that are scored raw")
    parser.set_defaults(gin_bindings=[], variant="", only="")
    flags = parser.parse_args()
    flags.folder.mkdir(parents=True, exist_ok=True)
    file = flags.folder / "rows.json"
    Ladder(flags).teach()
    rows = json.loads(file.read_text()) if file.exists() else []
    for seed in flags.seeds:
        for name in flags.variants:
            if not any((row["variant"], row["seed"]) == (name, seed) for row in rows):
                rows.append(row_of(flags, name, seed))
                file.write_text(json.dumps(rows, indent=2) + "\n")
                print(rows[-1], flush=True)
    measuring.report(rows, flags.json)


if __name__ == "__main__":
    main()
