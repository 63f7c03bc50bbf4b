"""Measurement of the paths of a trained supernet, and the choice among them (docs/method.md 13).

Three rounds: `random` paths of the whole space; paths `near` the best within the budget, by models
drawn from the posterior of the first fit; the `final` few, on more images. The choice is made on
the first half of the final images, and judged on the second.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tas_tf.data.batches import Feed
from tas_tf.errors import SpecError
from tas_tf.layers.sampling import Draw
from tas_tf.layers.searchable_unit import Mode
from tas_tf.spaces import derivation, separable
from tas_tf.spaces.cost import Budget, CostKind, cost
from tas_tf.spaces.separable import Indices, Separable, Space
from tas_tf.training import losses
from tas_tf.training.loop import Batch, batch_share
from tas_tf.training.path_search import PathSearch
from tas_tf.training.scores import Score, Scores, standard_error

# Is told how many scores there are, whether the last was measured now, and its loss.
Show = Callable[[int, bool, float], None]
# A lead of so many standard errors is one.
DECIDED = 2.0
# What leads call the second of the finalists.
RUNNER_UP = "runner-up"
# Models that are drawn for every finalist at most: they may all agree.
_DRAWS = 4
# Points of the curve of loss against cost, and the band in which each is looked for.
_POINTS = 12
_BAND = 0.05
# Random paths whose capacity is fitted.
_KNOWN = 1000
# Levels of cost of a derivation by a model that is only drawn.
_COARSE = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """How much is measured.

    Args:
        paths: Random paths of the whole space.
        near: Paths near the best within the budget.
        finalists: Architectures among which the last round chooses.
        images: Images of the architecture half for each path.
        final_images: Images for each finalist.
        capacity: Weight of the capacity in a value, see `PathValues`.
        streams: Weight of the widths of residual streams in a value, likewise.

    Raises:
        SpecError: If there is less than what a choice needs.
    """

    paths: int = 200
    near: int = 50
    finalists: int = 8
    images: int = 1000
    final_images: int = 5000
    capacity: float = 0.4
    streams: float = 0.3

    def __post_init__(self) -> None:
        least = {"paths": 2, "finalists": 1, "images": 1, "final_images": 1}
        for field in dataclasses.fields(self):
            value, smallest = getattr(self, field.name), least.get(field.name, 0)
            if value < smallest:
                raise SpecError(
                    f"Measurement.{field.name}: expected at least {smallest}. Received: {value}"
                )


class PathValues:
    """What paths are worth: `-loss + deviation * (capacity * z_1 + streams * z_2)`.

    Paths train for so few steps that they hardly use what they have: losses rank networks of many
    parameters too low, and those of wide residual streams. `z_1` is the logarithm of the parameters
    and `z_2` the mean logarithm of the blocks' output shares, both standardized over random paths;
    `deviation` is that of the random paths' losses (benchmarks/README.md, Ranking).

    Args:
        space: The search space.
        random: Scores of random paths.
        capacity: The weight of `z_1`.
        streams: The weight of `z_2`.
    """

    def __init__(self, space: Space, random: Sequence[Score], capacity: float, streams: float):
        self._space = space
        known = np.array([self._logarithms(score.indices) for score in random])
        deviation = float(np.std([score.loss for score in random]))
        self._means = known.mean(axis=0)
        weights = np.array([capacity, streams])
        self._slopes = weights * deviation / np.maximum(known.std(axis=0), 1e-12)

    def of(self, indices: Indices, loss: float) -> float:
        """Returns the value of a path of this loss."""
        return -loss + self._capacity(indices)

    def fitted(self, scores: Sequence[Score]) -> Separable:
        """Returns the separable model of the values of scores.

        Losses and capacity are fitted apart: the capacity is known exactly, of any paths.
        """
        of_losses = self._of_losses(scores)
        return dataclasses.replace(of_losses, mean=of_losses.mean + self._capacity_terms)

    def predicted(self, scores: Sequence[Score], architectures: Sequence[Indices]) -> np.ndarray:
        """Returns the values (n,) that scores make expect of architectures, capacity exact."""
        expected = self._of_losses(scores).predict(architectures)
        return expected + np.array([self._capacity(indices) for indices in architectures])

    @functools.cached_property
    def _capacity_terms(self) -> np.ndarray:
        """The coefficients (features,) of the capacity as a separable model."""
        known = [random_path(self._space, 0, number) for number in range(_KNOWN)]
        capacities = np.array([self._capacity(indices) for indices in known])
        return separable.fit(self._space, known, capacities).mean

    def _of_losses(self, scores: Sequence[Score]) -> Separable:
        negative = np.array([-score.loss for score in scores])
        return separable.fit(self._space, [score.indices for score in scores], negative)

    def _capacity(self, indices: Indices) -> float:
        return float(self._slopes @ (self._logarithms(indices) - self._means))

    def _logarithms(self, indices: Indices) -> np.ndarray:
        """Returns those of the parameters, and of the mean share of residual streams."""
        architecture: Any = self._space.architecture(*indices)
        parameters = cost(architecture, "parameters")
        streams = self._space.stream_shares(architecture) or [1.0]
        return np.array([np.log(parameters), np.log(streams).mean()])


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen.

    Args:
        architecture: The architecture, of either kind of space.
        model: The fitted model.
        finalists: What it was chosen among, best first, then the references.
        values: Their values on the images that judge.
        leads: For the runner-up (None if there is none) and for every reference, by name: by how
            much value the chosen one leads on the images that judge, and the standard error
            (infinite if a single batch judges).
    """

    architecture: Any
    model: Separable
    finalists: list[Score]
    values: list[float]
    leads: dict[str, tuple[float, float]]

    def record(self) -> dict[str, Any]:
        """Returns what reports say about it."""
        (widths, width_errors), (depths, depth_errors) = (
            [terms.tolist() for terms in of_kind]
            for of_kind in (self.model.width_terms(), self.model.depth_terms())
        )
        return {
            "width_terms": widths,
            "width_errors": width_errors,
            "depth_terms": depths,
            "depth_errors": depth_errors,
            "finalists": [
                {**score.record(), "value": value}
                for score, value in zip(self.finalists, self.values, strict=True)
            ],
            "leads": {
                name: {
                    "value": lead,
                    "standard_error": error if math.isfinite(error) else None,
                    "decided": lead > DECIDED * error,
                }
                for name, (lead, error) in self.leads.items()
            },
        }


class Scorer:
    """Measures paths of a supernet, all on the same images, by the batch's statistics.

    Args:
        search: The search, whose supernet is trained.
        feed: Batches of the architecture half, not augmented.
        images: Images that are held for it at most; the number of batches is rounded up.
    """

    def __init__(self, search: PathSearch, feed: Feed, images: int):
        self._search = search
        _, labels = next(iter(feed.batches(0, 1)))
        self._size = len(labels)
        count = min(self._count(images), feed.steps_per_epoch)
        self._batches = list(iter(feed.distributed(0, count, search.strategy)))

    def losses(self, indices: Indices, images: int) -> list[float]:
        """Returns the mean cross-entropy of each of the first batches.

        Args:
            indices: The candidates of the path.
            images: Images that it is measured on.
        """
        supernet = self._search.supernet
        draw = supernet.fixed_draw(supernet.space.architecture(*indices))
        batches = self._batches[: self._count(images)]
        return [float(part) for part in [self._loss(batch, draw) for batch in batches]]

    def _count(self, images: int) -> int:
        """Returns the number of batches, at least one to choose by and one to judge by."""
        return max(math.ceil(images / self._size), 2)

    @tf.function(autograph=False)
    def _loss(self, batch: Batch, draw: Draw) -> tf.Tensor:
        search = self._search

        def share(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            logits = search.supernet(images, draw, mode=Mode.ARCHITECTURE)
            return tf.reduce_sum(losses.cross_entropy(labels, logits)) * batch_share(logits)

        shares = search.strategy.run(share, args=batch)
        return search.strategy.reduce(tf.distribute.ReduceOp.SUM, shares, axis=None)


@dataclasses.dataclass
class Measured:
    """The paths that were measured.

    Args:
        search: The search, whose supernet is trained.
        plan: How much is measured.
        scorer: Measures paths.
        scores: The scores so far.
        values: What paths are worth.
        model: The model that is fitted to that.
    """

    search: PathSearch
    plan: Measurement
    scorer: Scorer
    scores: Scores
    values: PathValues
    model: Separable


def measure(
    search: PathSearch, feed: Feed, plan: Measurement, scores: Scores, show: Show
) -> Measured:
    """Measures random paths and paths near the best, and fits the model.

    Args:
        search: The search, whose supernet is trained.
        feed: Batches of the architecture half, not augmented.
        plan: How much is measured.
        scores: The scores so far.
        show: See `Show`.
    """
    scorer = Scorer(search, feed, max(plan.images, plan.final_images))
    space = search.supernet.space

    def score(name_of_round: str, indices: Indices) -> Score:
        return _score(scorer, scores, Score(name_of_round, indices, ()), plan.images, show)

    measured = [
        score("random", random_path(space, search.seed, number)) for number in range(plan.paths)
    ]
    values = PathValues(space, measured, plan.capacity, plan.streams)
    model = values.fitted(measured)
    measured += [
        score("near", _near(search, model, search.budgets, 2, number))
        for number in range(plan.near)
    ]
    return Measured(search=search, plan=plan, scorer=scorer, scores=scores, values=values,
                    model=values.fitted(measured))  # fmt: skip


def choose(
    measured: Measured, budgets: Sequence[Budget], references: Mapping[str, Any], show: Show
) -> Choice:
    """Measures the best within budgets, and chooses among them.

    Args:
        measured: The measured paths.
        budgets: The budgets.
        references: Architectures of the space that the choice is compared with, by name.
        show: See `Show`.
    """
    space = measured.search.supernet.space

    def score(indices: Indices, name: str | None = None) -> Score:
        wanted, images = Score("final", indices, (), name), measured.plan.final_images
        return _score(measured.scorer, measured.scores, wanted, images, show)

    finalists = [score(indices) for indices in _finalists(measured, budgets)]
    compared = [score(space.indices(each), name) for name, each in references.items()]
    return _choose(measured, finalists, compared)


def _score(scorer: Scorer, scores: Scores, wanted: Score, images: int, show: Show) -> Score:
    """Returns the next score, which is shown."""
    known = len(scores.scores)
    score = scores.next(wanted, lambda: scorer.losses(wanted.indices, images))
    show(scores.taken, len(scores.scores) > known, score.loss)
    return score


def random_path(space: Space, seed: int, number: int) -> Indices:
    """Returns candidates of a random path, all equally probable.

    Args:
        space: The search space.
        seed: Seed of the search.
        number: Number of the path.
    """
    random = np.random.default_rng([seed, 1, number])
    widths = (int(random.integers(len(choice.candidates))) for choice in space.choices)
    depths = (int(random.integers(len(candidates))) for candidates in space.depths)
    return tuple(widths), tuple(depths)


def _near(
    search: PathSearch, model: Separable, budgets: Sequence[Budget], stream: int, number: int
) -> Indices:
    """Returns the best within budgets by a model that is drawn from the posterior."""
    space = search.supernet.space
    drawn = model.drawn(np.random.default_rng([search.seed, stream, number]))
    found = derivation.derive(space, *drawn.logits(), budgets, levels=_COARSE)
    return space.indices(found.architecture)


def _finalists(measured: Measured, budgets: Sequence[Budget]) -> list[Indices]:
    """Returns distinct architectures within budgets: the best, and the best by drawn models."""
    search, model, count = measured.search, measured.model, measured.plan.finalists
    space = search.supernet.space
    best = derivation.derive(space, *model.logits(), budgets)
    found: dict[Indices, None] = {space.indices(best.architecture): None}
    for number in range(_DRAWS * count):
        if len(found) == count:
            break
        found.setdefault(_near(search, model, budgets, 3, number))
    return list(found)


def _choose(measured: Measured, finalists: Sequence[Score], references: Sequence[Score]) -> Choice:
    """Returns the finalist of the best value on the first half of its batches.

    On the other half its leads are measured: those on which it was chosen would flatter it.
    """

    def by_batch(score: Score, half: int) -> np.ndarray:
        return np.array([measured.values.of(score.indices, loss) for loss in score.halves[half]])

    first, *others = sorted(finalists, key=lambda score: -by_batch(score, 0).mean())
    rivals = [dataclasses.replace(others[0], name=RUNNER_UP)] if others else []
    leads = {}
    for rival in [*rivals, *references]:
        differences = by_batch(first, 1) - by_batch(rival, 1)
        leads[str(rival.name)] = (float(differences.mean()), standard_error(differences))
    compared = [first, *others, *references]
    return Choice(
        architecture=measured.search.supernet.space.architecture(*first.indices),
        model=measured.model,
        finalists=compared,
        values=[float(by_batch(score, 1).mean()) for score in compared],
        leads=leads,
    )


def curve(model: Separable, kind: CostKind) -> list[dict[str, float]]:
    """Returns the expected value of the best for budgets of all sizes.

    Args:
        model: The fitted model.
        kind: What the budgets limit.

    Returns:
        For each its `share` of the unpruned network's cost, and its `value`.
    """
    space = model.space
    unpruned = cost(space.unpruned(), kind)
    smallest, largest = (amount / unpruned for amount in derivation.reachable(space, kind))
    points = {}
    for share in np.linspace(smallest, largest, _POINTS + 1)[1:]:
        budget = Budget(kind, share * unpruned, unpruned, _BAND)
        found = derivation.derive(space, *model.logits(), [budget], levels=_COARSE).architecture
        (value,) = model.predict([space.indices(found)])
        points[cost(found, kind) / unpruned] = float(value)
    return [{"share": share, "value": value} for share, value in sorted(points.items())]
