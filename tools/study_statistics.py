"""Statistics of a study: accuracies of trainings within searches within a method.

The model is that of a one-way random effects analysis of variance: an accuracy is the method's
mean, plus a deviation of its search, plus a deviation of its training.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class Spread:
    """What a method reaches, and how much its accuracies spread.

    Args:
        mean: Mean over searches of the means over their trainings.
        between: Standard deviation between searches; None where it cannot be told.
        within: Standard deviation between trainings of one network, pooled over networks; None
            where no network was trained twice.
        error: Standard error of the mean; None where nothing was repeated.
        lowest: Mean of the worst search.
        searches: Number of searches.
        trainings: Number of trainings in all.
    """

    mean: float
    between: float | None
    within: float | None
    error: float | None
    lowest: float
    searches: int
    trainings: int


def pooled(searches: Iterable[Sequence[float]]) -> float | None:
    """Returns the variance between trainings of one network, pooled over networks.

    It is `sum_i (n_i - 1) s_i^2 / sum_i (n_i - 1)`; None where no network was trained twice.

    Args:
        searches: For every network the accuracies of its trainings.
    """
    several = [trainings for trainings in searches if len(trainings) > 1]
    squares = sum((len(some) - 1) * statistics.variance(some) for some in several)
    freedom = sum(len(some) - 1 for some in several)
    return squares / freedom if freedom else None


def spread(searches: Sequence[Sequence[float]], noise: float | None = None) -> Spread:
    """Estimates the parts of a method's spread.

    Of k searches with n_i trainings and the variance w between trainings, the variance of the means
    of searches is expected to be `b + w * mean_i(1 / n_i)`. That gives b (0 where it would be
    negative), and the standard error `sqrt((b + w * mean_i(1 / n_i)) / k)`: the analysis of
    variance of unweighted means (Searle, Casella and McCulloch, "Variance Components", 1992). With
    one search b is not known, and the error is that of its trainings alone.

    Args:
        searches: For every search the accuracies of its trainings, at least one.
        noise: The variance w where more is known of it than by this method's trainings.
    """
    means = [statistics.fmean(trainings) for trainings in searches]
    within = pooled(searches)
    noise = within if noise is None else noise
    of_means = statistics.variance(means) if len(means) > 1 else None
    between, error = None, of_means
    if noise is not None:
        part = noise * statistics.fmean(1 / len(trainings) for trainings in searches)
        between = None if of_means is None else max(0.0, of_means - part)
        error = (between or 0.0) + part
    return Spread(
        mean=statistics.fmean(means),
        between=_root(between),
        within=_root(within),
        error=_root(None if error is None else error / len(means)),
        lowest=min(means),
        searches=len(means),
        trainings=sum(map(len, searches)),
    )


def difference(one: Spread, other: Spread) -> tuple[float, float | None]:
    """Returns how much one method's mean is above another's, and the standard error of that.

    The methods' trainings are taken for independent. The error is None where one is not known.
    """
    errors = (one.error, other.error)
    error = None if None in errors else math.hypot(*errors)
    return one.mean - other.mean, error


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)
