"""Statistics of a study: accuracies of trainings within searches within a method.

The model is that of a one-way random effects analysis of variance: an accuracy is the method's
mean, plus a deviation of its search, plus a deviation of its training.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence

Trainings = Mapping[Hashable, float]  # accuracies by the trainings' names


@dataclasses.dataclass(frozen=True)
class Spread:
    """What a method reaches, and how much its accuracies spread.

    Args:
        mean: Mean over searches of the means over their trainings.
        between: Standard deviation between searches; None where it cannot be told.
        within: Standard deviation between trainings of one network, pooled over networks; None
            where no network was trained twice.
        error: Standard error of the mean; None where nothing was repeated, or where searches share
            trainings and their noise is not known.
        lowest: Mean of the worst search.
        searches: Number of searches.
        trainings: Number of different trainings in all.
    """

    mean: float
    between: float | None
    within: float | None
    error: float | None
    lowest: float
    searches: int
    trainings: int


def pooled(searches: Iterable[Trainings]) -> float | None:
    """Returns the variance between trainings of one network, pooled over networks.

    It is `sum_i (n_i - 1) s_i^2 / sum_i (n_i - 1)`; None where no network was trained twice. The
    same trainings count once.

    Args:
        searches: For every network its trainings.
    """
    different = {frozenset(some): [*some.values()] for some in searches if len(some) > 1}.values()
    squares = sum((len(some) - 1) * statistics.variance(some) for some in different)
    freedom = sum(len(some) - 1 for some in different)
    return squares / freedom if freedom else None


def spread(searches: Sequence[Trainings], noise: float | None = None) -> Spread:
    """Estimates the parts of a method's spread.

    Of k searches with n_i trainings and the variance w between trainings, the variance of the means
    of searches is expected to be `b + w * mean_i(1 / n_i)`. That gives b (0 where it would be
    negative), and the standard error `sqrt((b + w * mean_i(1 / n_i)) / k)`: the analysis of
    variance of unweighted means (Searle, Casella and McCulloch, "Variance Components", 1992). With
    one search b is not known, and the error is that of its trainings alone. Searches that found the
    same network share its trainings, whose noise weighs more then (`_parts_of_noise`).

    Args:
        searches: For every search its trainings, at least one.
        noise: The variance w where more is known of it than by this method's trainings.
    """
    means = [statistics.fmean(trainings.values()) for trainings in searches]
    within = pooled(searches)
    noise = within if noise is None else noise
    of_means = statistics.variance(means) if len(means) > 1 else None
    different = len({name for trainings in searches for name in trainings})
    between = error = None
    if of_means is not None and different == sum(map(len, searches)):
        error = of_means / len(means)
    if noise is not None:
        of_searches, of_mean = _parts_of_noise(searches)
        between = None if of_means is None else max(0.0, of_means - noise * of_searches)
        error = (between or 0.0) / len(means) + noise * of_mean
    return Spread(
        mean=statistics.fmean(means),
        between=_root(between),
        within=_root(within),
        error=_root(error),
        lowest=min(means),
        searches=len(means),
        trainings=different,
    )


def _parts_of_noise(searches: Sequence[Trainings]) -> tuple[float, float]:
    """Returns how much of a training's variance is in the means of searches, and in their mean.

    The mean is a sum of trainings, of which `t` weighs `c_t = sum_i 1 / (k n_i)` over the searches
    that have it, so that its variance has `sum_t c_t^2`. That of the means, as it is estimated, has
    `(mean_i(1 / n_i) - sum_t c_t^2) k / (k - 1)`. Where all trainings differ, these are
    `mean_i(1 / n_i) / k` and `mean_i(1 / n_i)`.
    """
    count = len(searches)
    weights: collections.Counter[Hashable] = collections.Counter()
    for trainings in searches:
        for name in trainings:
            weights[name] += 1 / (count * len(trainings))
    of_mean = sum(weight**2 for weight in weights.values())
    alone = statistics.fmean(1 / len(trainings) for trainings in searches)
    return (alone - of_mean) * count / max(1, count - 1), of_mean


def difference(one: Spread, other: Spread) -> tuple[float, float | None]:
    """Returns how much one method's mean is above another's, and the standard error of that.

    The methods' trainings are taken for independent. The error is None where one is not known.
    """
    errors = (one.error, other.error)
    error = None if None in errors else math.hypot(*errors)
    return one.mean - other.mean, error


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)
