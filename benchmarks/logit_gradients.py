"""Signal and noise of what moves the logits of widths, beside what the widths are worth.

    python benchmarks/logit_gradients.py --run_dir=runs/measured --data_dir=~/tensorflow_datasets

The run is a finished search by measurement. With the weights of its supernet and logits that are
nearly uniform, every way to draw gives a gradient for each batch of the architecture half: by the
mixture (`two`, `gumbel`, `softmax`, `straight_through`), or by the losses of paths (`paths 2`: the
score function with the mean loss of the batch's paths for a baseline).

`mean` and `deviation` are roots of mean squares over all widths. `ratio` is that of a single step,
the noise of the mean taken out. `steps` is how many steps make the signal twice the noise.
`correlation` is that of minus the mean gradient with the terms that were fitted to measured losses,
row by row without their means.
"""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import numpy as np
import tensorflow as tf

from tas_tf.config import gin_config
from tas_tf.data.batches import Feed
from tas_tf.experiments import registry  # noqa: F401, what gin can bind
from tas_tf.experiments.search import SearchExperiment
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.supernet import Supernet
from tas_tf.runtime.checkpoints import Checkpoints
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces import cost
from tas_tf.training import losses
from tas_tf.training.loop import Batch
from tas_tf.training.path_search import PathSearch
from tas_tf.training.path_values import PathValues
from tas_tf.training.scores import read_scores

TEMPERATURES = {
    "two": (5.0, 2.0, 1.0, 0.3, 0.1),
    "gumbel": (5.0, 2.0, 1.0, 0.3, 0.1),
    "softmax": (1.0,),
    "straight_through": (5.0, 1.0, 0.1),
}
PATHS = (2, 4)
SEED = 7
# From a batch and its number to the gradient (choices, n) of the widths' logits.
Gradient = Callable[[Batch, int], np.ndarray]


class Trained:
    """The supernet of a finished search by measurement.

    Args:
        flags: The command's.
        strategy: How candidates are drawn.
    """

    def __init__(self, flags: Any, strategy: str):
        self._directory = RunDirectory(str(pathlib.Path(flags.run_dir).expanduser()))
        bindings = [f"Supernet.strategy = {strategy!r}"]
        if flags.data_dir:
            bindings.append(f"ImageData.data_dir = {flags.data_dir!r}")
        gin_config.load([self._directory.file("config.gin")], bindings)
        experiment: SearchExperiment = gin_config.call(
            "run_search", run_dir=flags.run_dir, dry_run=False, profile_steps=None
        )
        seed = experiment.seed
        experiment.data.prepare(seed)
        info = experiment.data.describe()
        self.space = experiment.space(num_classes=info.num_classes, input_shape=info.input_shape)
        search = PathSearch(experiment.supernet(self.space), None, seed)
        budgets = cost.parse_targets(experiment.target, self.space, experiment.tolerance)
        search.compile(experiment.optimizer, budgets)
        Checkpoints(self._directory, **search.state()).restore()
        self.supernet: Supernet = search.supernet
        size = experiment.batch_size
        self.feed: Feed = experiment.data.training(size, seed, "architecture", augment=False)

    def worth(self) -> np.ndarray:
        """Returns the fitted terms (choices, n) of the widths, from losses alone."""
        scores = [score for score in read_scores(self._directory) if score.round == "random"]
        terms, _ = PathValues(self.space, scores, 0.0).fitted(scores).width_terms()
        return terms


def by_mixture(trained: Trained, temperature: float) -> Gradient:
    """Returns the gradient of the loss of the mixture that the supernet draws."""
    supernet = trained.supernet
    logits = supernet.width_logits

    @tf.function(autograph=False)
    def gradient(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(logits.value)
            draw = supernet.draw(tf.constant(temperature), seed)
            outputs = supernet(images, draw, mode=Mode.ARCHITECTURE)
            loss = tf.reduce_mean(losses.cross_entropy(labels, outputs))
        return tape.gradient(loss, logits.value)

    return lambda batch, number: gradient(*batch, tf.constant([SEED, number])).numpy()


def by_losses(trained: Trained, paths: int) -> Gradient:
    """Returns the gradient by the losses of several uniform paths on the batch.

    `g = sum_k (L_k - mean L) / (K - 1) * grad log p(path_k)`: the score function with the other
    paths' mean for a baseline (Kool, van Hoof and Welling, "Buy 4 REINFORCE samples, get a baseline
    for free!", 2019). Under uniform probabilities the gradient of `log p` is a one-hot less 1 / n,
    and the latter cancels.
    """
    supernet = trained.supernet
    count = supernet.width_logits.shape[1]

    @tf.function(autograph=False)
    def loss(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        draw = supernet.uniform_path(seed)
        outputs = supernet(images, draw, mode=Mode.ARCHITECTURE)
        return tf.reduce_mean(losses.cross_entropy(labels, outputs)), draw.indices[:, 0]

    def gradient(batch: Batch, number: int) -> np.ndarray:
        found = [loss(*batch, tf.constant([SEED + path, number])) for path in range(paths)]
        values = np.array([float(value) for value, _ in found])
        rows = np.array([np.eye(count)[indices.numpy()] for _, indices in found])
        return np.tensordot((values - values.mean()) / (paths - 1), rows, 1)

    return gradient


def without_means(rows: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Returns the entries that are present, less the mean of their row.

    Args:
        rows: (choices, n).
        present: (choices, n) bool.
    """
    means = np.where(present, rows, 0).sum(1, keepdims=True) / present.sum(1, keepdims=True)
    return (rows - means)[present]


def row(name: str, trained: Trained, gradient: Gradient, batches: int) -> dict[str, Any]:
    """Returns what a way to draw gives, over so many batches."""
    sizes = np.array([len(choice.candidates) for choice in trained.space.choices])
    worth = trained.worth()
    present = np.arange(worth.shape[1]) < sizes[:, None]
    found, times = [], []
    for number, batch in enumerate(trained.feed.batches(0, batches)):
        begin = time.perf_counter()
        found.append(without_means(gradient(batch, number), present))
        times.append(time.perf_counter() - begin)
    mean, variance = np.mean(found, 0), np.var(found, 0, ddof=1)
    signal = max(float((mean**2).sum() - variance.sum() / batches), 0.0)
    ratio = (signal / float(variance.sum())) ** 0.5
    return {
        "draw": name,
        "mean": float((mean**2).mean() ** 0.5),
        "deviation": float(variance.mean() ** 0.5),
        "ratio": ratio,
        "steps": 4 / ratio**2 if ratio else float("inf"),
        "correlation": float(np.corrcoef(-mean, without_means(worth, present))[0, 1]),
        "ms": float(np.median(times[1:])) * 1e3,  # the first call traces
    }


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--run_dir", required=True, help="a finished search by measurement")
    parser.add_argument("--data_dir")
    parser.add_argument("--batches", type=int, default=48)
    flags = parser.parse_args()
    rows = []
    for strategy, temperatures in TEMPERATURES.items():
        trained = Trained(flags, strategy)
        for tau in temperatures:
            name = strategy if strategy == "softmax" else f"{strategy}, temperature {tau:g}"
            rows.append(row(name, trained, by_mixture(trained, tau), flags.batches))
    for paths in PATHS:
        rows.append(row(f"paths {paths}", trained, by_losses(trained, paths), flags.batches))
    measuring.report(rows, flags.json, batches=flags.batches)


if __name__ == "__main__":
    main()
