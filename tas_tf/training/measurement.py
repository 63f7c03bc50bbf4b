"""Measurement of the paths of a trained supernet, and the choice among them (docs/method.md 13).

Three rounds: `random` paths of the whole space; paths `near` the best within the budget, by models
drawn from the posterior of the first fit; the `final` few, on more images. All that chooses sees a
third of these, and the others judge the choice.
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
from tas_tf.spaces import derivation
from tas_tf.spaces.cost import Budget, CostKind, cost
from tas_tf.spaces.separable import Indices, Separable
from tas_tf.training import losses
from tas_tf.training.loop import Batch, batch_share
from tas_tf.training.path_search import PathSearch
from tas_tf.training.path_values import PathValues, random_path
from tas_tf.training.scores import Score, Scores, choosing, standard_error

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """How much is measured.

    Args:
        paths: Random paths of the whole space.
        near: Paths near the best within the budget.
        finalists: Architectures among which the last round chooses.
        images: Images of the architecture half for each path, of those by which finalists are
            chosen.
        final_images: Images for each finalist: a third chooses, the others judge.
        capacity: Weight of the capacity in a value, see `path_values`.
        streams: Weight of the widths of residual streams in a value, likewise.

    Raises:
        SpecError: If there is less than what a choice needs.
    """

    paths: int = 200
    near: int = 50
    finalists: int = 8
    images: int = 1000
    final_images: int = 5000
    capacity: float = 0.6
    streams: float = 0.3

    def __post_init__(self) -> None:
        least = {"paths": 2, "finalists": 1, "images": 1, "final_images": 1}
        for field in dataclasses.fields(self):
            value, smallest = getattr(self, field.name), least.get(field.name, 0)
            if value < smallest:
                raise SpecError(
                    f"Measurement.{field.name}: expected at least {smallest}. Received: {value}"
                )


@dataclasses.dataclass(frozen=True)
class Lead:
    """By how much the chosen architecture leads another one, on the images that judge.

    Args:
        value: In value, which is the loss corrected for capacity and streams.
        loss: In loss alone.
        standard_error: Of both, since the correction has none; infinite if a single batch judges.
    """

    value: float
    loss: float
    standard_error: float

    @property
    def decided(self) -> bool:
        """Whether it is one."""
        return self.value > DECIDED * self.standard_error


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen.

    Args:
        architecture: The architecture, of either kind of space.
        model: The fitted model.
        finalists: What it was chosen among, best first, then the references.
        values: Their values on the images that judge.
        leads: Over the runner-up, if there is one, and over every reference, by name.
    """

    architecture: Any
    model: Separable
    finalists: list[Score]
    values: list[float]
    leads: dict[str, Lead]

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
                    "value": lead.value,
                    "standard_error": _finite(lead.standard_error),
                    "decided": lead.decided,
                }
                for name, lead in self.leads.items()
            },
        }


class Scorer:
    """Measures paths of a supernet, all on the same images, by the batch's statistics.

    Args:
        search: The search, whose supernet is trained.
        feed: Batches of the architecture half, not augmented.
        plan: How much is measured.

    Attributes:
        search: The search.
        plan: What was asked, by the batches that there are: images of whole batches, and those of
            a path among those that choose, since what finds a network must not judge it.

    Raises:
        SpecError: If there is no batch to choose by and another one to judge by.
    """

    def __init__(self, search: PathSearch, feed: Feed, plan: Measurement):
        self.search = search
        _, labels = next(iter(feed.batches(0, 1)))
        self._size = len(labels)
        count = min(max(math.ceil(plan.final_images / self._size), 2), feed.steps_per_epoch)
        if count < 2:
            raise SpecError(
                "a search by measurement expects two batches of the architecture half at least, to "
                f"choose by and to judge by. Received: one of {self._size} images. Give a smaller "
                "`batch_size`"
            )
        of_path = min(math.ceil(plan.images / self._size), choosing(count))
        self.plan = dataclasses.replace(
            plan, images=of_path * self._size, final_images=count * self._size
        )
        self._feed, self._held = feed, count

    @functools.cached_property
    def _batches(self) -> list[Batch]:
        """The images, which are read when the first path is measured."""
        return list(iter(self._feed.distributed(0, self._held, self.search.strategy)))

    def losses(self, indices: Indices, images: int) -> list[float]:
        """Returns the mean cross-entropy of each of the first batches.

        Args:
            indices: The candidates of the path.
            images: Images that it is measured on, rounded up to whole batches.
        """
        supernet = self.search.supernet
        draw = supernet.fixed_draw(supernet.space.architecture(*indices))
        batches = self._batches[: math.ceil(images / self._size)]
        return [float(part) for part in [self._loss(batch, draw) for batch in batches]]

    @tf.function(autograph=False)
    def _loss(self, batch: Batch, draw: Draw) -> tf.Tensor:
        search = self.search

        def share(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            logits = search.supernet(images, draw, mode=Mode.ARCHITECTURE)
            return tf.reduce_sum(losses.cross_entropy(labels, logits)) * batch_share(logits)

        shares = search.strategy.run(share, args=batch)
        return search.strategy.reduce(tf.distribute.ReduceOp.SUM, shares, axis=None)


@dataclasses.dataclass
class Measured:
    """The paths that were measured.

    Args:
        scorer: Measures paths.
        scores: The scores so far.
        values: What paths are worth.
        model: The model that is fitted to that.
    """

    scorer: Scorer
    scores: Scores
    values: PathValues
    model: Separable


def measure(scorer: Scorer, scores: Scores, show: Show) -> Measured:
    """Measures random paths and paths near the best, and fits the model.

    Args:
        scorer: Measures the paths of a search, whose supernet is trained.
        scores: The scores so far.
        show: See `Show`.
    """
    search, plan = scorer.search, scorer.plan
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
    model = values.fitted(measured)
    return Measured(scorer=scorer, scores=scores, values=values, model=model)


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
    space = measured.scorer.search.supernet.space

    def score(indices: Indices, name: str | None = None) -> Score:
        wanted, images = Score("final", indices, (), name), measured.scorer.plan.final_images
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


def _near(
    search: PathSearch, model: Separable, budgets: Sequence[Budget], stream: int, number: int
) -> Indices:
    """Returns the best within budgets by a model that is drawn from the posterior."""
    space = search.supernet.space
    drawn = model.drawn(np.random.default_rng([search.seed, stream, number]))
    found = derivation.derive(space, *drawn.logits(), budgets, derivation.COARSE_LEVELS)
    return space.indices(found.architecture)


def _finalists(measured: Measured, budgets: Sequence[Budget]) -> list[Indices]:
    """Returns distinct architectures within budgets: the best, and the best by drawn models."""
    search, count = measured.scorer.search, measured.scorer.plan.finalists
    model = measured.model
    space = search.supernet.space
    best = derivation.derive(space, *model.logits(), budgets)
    found: dict[Indices, None] = {space.indices(best.architecture): None}
    for number in range(_DRAWS * count):
        if len(found) == count:
            break
        found.setdefault(_near(search, model, budgets, 3, number))
    return list(found)


def _choose(measured: Measured, finalists: Sequence[Score], references: Sequence[Score]) -> Choice:
    """Returns the finalist of the best value on the batches that choose.

    On the others its leads are measured: those on which it was chosen would flatter it.
    """

    def by_batch(score: Score, part: int) -> np.ndarray:
        return np.array([measured.values.of(score.indices, loss) for loss in score.parts[part]])

    first, *others = sorted(finalists, key=lambda score: -by_batch(score, 0).mean())
    rivals = [dataclasses.replace(others[0], name=RUNNER_UP)] if others else []
    leads = {}
    for rival in [*rivals, *references]:
        differences = by_batch(first, 1) - by_batch(rival, 1)
        leads[str(rival.name)] = Lead(
            value=float(differences.mean()),
            loss=float(np.subtract(rival.parts[1], first.parts[1]).mean()),
            standard_error=standard_error(differences),
        )
    compared = [first, *others, *references]
    return Choice(
        architecture=measured.scorer.search.supernet.space.architecture(*first.indices),
        model=measured.model,
        finalists=compared,
        values=[float(by_batch(score, 1).mean()) for score in compared],
        leads=leads,
    )


def _finite(number: float) -> float | None:
    """Returns a number as JSON has it: None if it is infinite."""
    return number if math.isfinite(number) else None


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
    amounts = np.linspace(*derivation.reachable(space, kind), _POINTS + 1)[1:]
    budgets = [Budget(kind, float(amount), unpruned, _BAND) for amount in amounts]
    points = {}
    for found in derivation.derive_each(space, *model.logits(), budgets):
        (value,) = model.predict([space.indices(found)])
        points[cost(found, kind) / unpruned] = float(value)
    return [{"share": share, "value": value} for share, value in sorted(points.items())]
