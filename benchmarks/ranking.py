"""Rank correlation of a search by measurement with networks that were trained one by one.

    python benchmarks/ranking.py --networks=networks.json --data_dir=~/tensorflow_datasets

The file has a list `networks` of pairs: the widths of a network from the stem on, and its accuracy;
or it has the records of a study (benchmarks/ladder.json), of which `--only` takes the trainings
whose names a regular expression finds. A spec (`--gin_file`, by default
`benchmarks/ranking.gin`) says how the supernet is trained and how many paths are measured. All lies
under `--runs`, and goes on from there: the trained teacher, a search for every seed, and scores of
networks of the file. A variant, such as `--variant=paper` with `--gin_bindings='Supernet.streams =
"paper"'`, has searches of its own and the same teacher.

For every seed it prints the correlation with the true accuracies of raw scores, and of the model
that is fitted to the scores of random paths; beside them that of the MACs, the parameters, and the
sensitivities of the teacher; `corrections alone` are capacity and streams without losses. `top` is
Kendall's in the best quarter. The cost of a search, with its scores and without its teacher, is in
training epochs of the unpruned network by stock Keras, whose steps are timed in the same run.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measuring
import numpy as np
import scipy.stats

from tas_tf.config import gin_config
from tas_tf.data.batches import Feed
from tas_tf.experiments import registry  # noqa: F401, what gin can bind
from tas_tf.experiments.search import SearchExperiment
from tas_tf.models import network_files
from tas_tf.models.inheritance import order_channels
from tas_tf.models.spec_compiler import build_model
from tas_tf.runtime.checkpoints import Checkpoints
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces import cost, separable
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.separable import Indices
from tas_tf.training.measurement import Scorer
from tas_tf.training.path_search import PathSearch
from tas_tf.training.path_values import PathValues
from tas_tf.training.scores import Score, Scores, read_scores

STOCK_STEPS = 15
# Weights of capacity and streams beside those of a search, each with a row for every seed.
OTHER_WEIGHTS = ((0.0, 0.0), (0.4, 0.0), (0.4, 0.3), (0.8, 0.6), (1.2, 0.9))


def correlations(values: np.ndarray, accuracies: np.ndarray) -> dict[str, float]:
    """Returns Pearson's and Kendall's correlation, and Kendall's of the best quarter."""
    top = accuracies >= np.quantile(accuracies, 0.75)
    return {
        "pearson": float(np.corrcoef(values, accuracies)[0, 1]),
        "kendall": float(scipy.stats.kendalltau(values, accuracies).statistic),
        "top": float(scipy.stats.kendalltau(values[top], accuracies[top]).statistic),
    }


class Ladder:
    """Networks of known accuracy, and what ranks them.

    Args:
        flags: The command's.
    """

    def __init__(self, flags: Any):
        self.runs = pathlib.Path(flags.runs).expanduser()
        self.gin_file = flags.gin_file
        self.bindings = [*flags.gin_bindings]
        self.scored = flags.scored
        self.variant = flags.variant
        self.only = flags.only
        self.data_dir = flags.data_dir
        gin_config.load([flags.gin_file], self._bindings(0))
        self.experiment = self._experiment(0)
        info = self.experiment.data.describe()
        self.space: SearchSpace = self.experiment.space(
            num_classes=info.num_classes, input_shape=info.input_shape
        )
        pairs = self._read(pathlib.Path(flags.networks).expanduser())
        self.accuracies = np.array([accuracy for _, accuracy in pairs])
        self.networks = [indices for indices, _ in pairs]

    def _bindings(self, seed: int) -> list[str]:
        where = [f"ImageData.data_dir = {self.data_dir!r}"] if self.data_dir else []
        start = f"run_search.start_from = {str(self.runs / 'teacher')!r}"
        return [*self.bindings, *where, start, f"SEED = {seed}"]

    def _name(self, kind: str, seed: int) -> str:
        """Returns the folder of what a search of a seed makes."""
        return "_".join([kind, *filter(None, [self.variant]), str(seed)])

    def _experiment(self, seed: int) -> SearchExperiment:
        run_dir = str(self.runs / self._name("search", seed))
        return gin_config.call("run_search", run_dir=run_dir, dry_run=False, profile_steps=None)

    def _read(self, path: pathlib.Path) -> list[tuple[Indices, float]]:
        """Returns the networks of a file, with their accuracies."""
        found = json.loads(path.read_text())
        if "trainings" not in found:
            return [(self._indices(widths), accuracy) for widths, accuracy in found["networks"]]
        accuracies: dict[str, list[float]] = {}
        for key, record in found["trainings"].items():
            network, _, _ = key.rsplit("/", 2)
            if network != "unpruned" and re.search(self.only, key):
                accuracies.setdefault(network, []).append(record["accuracy"])
        texts = {name: json.dumps(found["networks"][name]["architecture"]) for name in accuracies}
        return [
            (self.space.indices(Architecture.from_json(text)), float(np.mean(accuracies[name])))
            for name, text in texts.items()
        ]

    def _indices(self, widths: Sequence[int]) -> Indices:
        """Returns the candidates of a network whose widths follow each other from the stem on."""
        pairs = zip(self.space.choices, widths, strict=True)
        depths = tuple(len(of_stage) - 1 for of_stage in self.space.depths)
        return tuple(choice.candidates.index(width) for choice, width in pairs), depths

    def teach(self) -> None:
        """Trains the teacher, which all variants share."""
        if not (self.runs / "teacher" / "result.json").exists():
            self._run("train", self.bindings, "teacher")

    def _run(self, command: str, bindings: Sequence[str], name: str) -> None:
        """Runs a command of the product; one that is done already says so and ends."""
        flags = [f"--gin_file={self.gin_file}", f"--run_dir={self.runs / name}"]
        flags += [f"--data_dir={self.data_dir}"] if self.data_dir else []
        flags += [f"--gin_bindings={binding}" for binding in bindings]
        subprocess.run([sys.executable, "-m", f"tas_tf.{command}", *flags], check=True)

    def search(self, seed: int) -> float:
        """Runs a search; returns the seconds that it took, the measurement included."""
        directory = RunDirectory(str(self.runs / self._name("search", seed)))
        self._run("search", self._bindings(seed), self._name("search", seed))
        return directory.read_json("result.json")["seconds"]

    def fitted(self, seed: int) -> dict[str, np.ndarray]:
        """Returns what the fitted model predicts for all networks, by its name.

        `as terms` has the capacity as the derivation does, a sum of terms of single widths.
        """
        scores = read_scores(RunDirectory(str(self.runs / self._name("search", seed))))
        random = [score for score in scores if score.round == "random"]
        plan = self.experiment.measurement
        values = PathValues(self.space, random, plan.capacity, plan.streams)
        predictions = {
            "fitted": values.predicted(random, self.networks),
            "fitted, as terms": values.fitted(random).predict(self.networks),
            "corrections alone": np.array([values.of(each, 0.0) for each in self.networks]),
        }
        for capacity, streams in OTHER_WEIGHTS:
            values = PathValues(self.space, random, capacity, streams)
            name = f"fitted, capacity {capacity}, streams {streams}"
            predictions[name] = values.predicted(random, self.networks)
        return predictions

    def raw(self, seed: int) -> np.ndarray:
        """Returns the scores of the first networks by the trained supernet of a seed."""
        search, feed = self.supernet(seed)
        directory = RunDirectory(str(self.runs / self._name("search", seed)))
        checkpoints = Checkpoints(directory, **search.state())
        checkpoints.restore()
        return self._scores(
            search, feed, self._name("networks", seed), self.networks[: self.scored]
        )

    def sensitivities(self) -> np.ndarray:
        """Returns the sums of what each width or depth costs the teacher alone."""
        search, feed = self.supernet(0)
        self.start(search, feed)
        widths, depths = self.space.indices(self.space.unpruned())
        whole, count = [*widths, *depths], len(widths)
        places = [(c, k) for c, last in enumerate(whole) for k in range(last)]
        narrowed = []
        for c, k in places:
            one = [*whole[:c], k, *whole[c + 1 :]]
            narrowed.append((tuple(one[:count]), tuple(one[count:])))
        first, *others = self._scores(search, feed, "sensitivities", [(widths, depths), *narrowed])
        terms = np.zeros((len(whole), max(whole) + 1))
        terms[tuple(zip(*places, strict=True))] = np.array(others) - first
        rows = np.array([[*widths, *depths] for widths, depths in self.networks])
        found = terms[np.arange(len(whole)), rows]
        found[:, :count] *= separable.present(self.space, rows[:, count:])
        return found.sum(axis=1)

    def teacher(self) -> keras.Model:
        """Returns the trained teacher."""
        return network_files.load_model(str(self.runs / "teacher"), "teacher")

    def start(self, search: PathSearch, feed: Feed) -> keras.Model:
        """Gives a supernet the weights of the teacher, which it returns."""
        model = self.teacher()
        order_channels(model, self.space.unpruned())
        images, _ = next(iter(feed.batches(0, 1)))
        search.supernet.start_from(model, images)
        return model

    def supernet(self, seed: int) -> tuple[PathSearch, Feed]:
        """Returns the search of a seed as it begins, and the images that measure."""
        gin_config.load([self.gin_file], self._bindings(seed))
        experiment = self._experiment(seed)
        experiment.data.prepare(seed)
        search = PathSearch(experiment.supernet(self.space), None, seed)
        budgets = cost.parse_targets(experiment.target, self.space, experiment.tolerance)
        search.compile(experiment.optimizer, budgets)
        feed = experiment.data.training(experiment.batch_size, seed, "architecture", augment=False)
        return search, feed

    def _scores(
        self, search: PathSearch, feed: Feed, name: str, wanted: Sequence[Indices]
    ) -> np.ndarray:
        """Returns minus the losses of networks; those measured before are read."""
        directory = RunDirectory(str(self.runs / name))
        directory.make()
        known = Scores(directory)
        images = self.experiment.measurement.images
        plan = dataclasses.replace(self.experiment.measurement, final_images=images)
        scorer = Scorer(search, feed, plan)
        values = []
        for indices in wanted:
            score = known.next(
                Score("random", indices, ()), lambda i=indices: scorer.losses(i, images)
            )
            values.append(-score.loss)
        return np.array(values)

    def stock_epoch(self) -> float:
        """Returns the seconds of a training epoch of the unpruned network by stock Keras."""
        data = self.experiment.data
        data.prepare(0)
        size = self.experiment.batch_size
        model = build_model(self.space.unpruned())
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
        images, labels = next(iter(data.training(size, 0).batches(0, 1)))
        step = {"stock": lambda: model.train_on_batch(images, labels)}
        times = measuring.interleaved(step, STOCK_STEPS)["stock"]
        return times.median_ms / 1e3 * data.describe().train_images / size


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--networks", required=True)
    parser.add_argument("--gin_file", default="benchmarks/ranking.gin")
    parser.add_argument("--gin_bindings", action="append", default=[])
    parser.add_argument("--data_dir")
    parser.add_argument("--runs", default="runs/ranking")
    parser.add_argument("--variant", default="", help="name of what the bindings make different")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scored", type=int, default=100, help="networks to score raw, if any")
    parser.add_argument("--only", default="", help="which trainings of a study are taken")
    flags = parser.parse_args()
    ladder = Ladder(flags)
    ladder.teach()
    rows = []
    for kind in ("macs", "parameters"):
        costs = [cost.cost(ladder.space.architecture(*i), kind) for i in ladder.networks]
        rows.append({"predictor": kind, **correlations(np.array(costs), ladder.accuracies)})
    rows.append(
        {"predictor": "sensitivities", **correlations(ladder.sensitivities(), ladder.accuracies)}
    )
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(flags.seeds):
        epochs = ladder.search(seed) / ladder.stock_epoch()
        of_seed = {}
        if flags.scored:
            raw = ladder.raw(seed)
            of_seed["raw"] = correlations(raw, ladder.accuracies[: flags.scored])
        for name, predicted in ladder.fitted(seed).items():
            of_seed[name] = correlations(predicted, ladder.accuracies)
        for name, values in of_seed.items():
            found.setdefault(name, []).append({**values, "epochs": epochs})
            rows.append({"predictor": f"{name}, seed {seed}", **found[name][-1]})
    for name, of_seeds in found.items():
        summaries = {"mean": np.mean}
        if len(of_seeds) > 1:
            summaries["deviation"] = functools.partial(np.std, ddof=1)
        for what, function in summaries.items():
            values = {key: float(function([s[key] for s in of_seeds])) for key in of_seeds[0]}
            rows.append({"predictor": f"{name}, {what}", **values})
    rows = [{"epochs": "", **row} for row in rows]
    measuring.report(
        [
            {key: row[key] for key in ("predictor", "pearson", "kendall", "top", "epochs")}
            for row in rows
        ],
        flags.json,
        networks=len(ladder.networks),
        seeds=flags.seeds,
    )


if __name__ == "__main__":
    main()
