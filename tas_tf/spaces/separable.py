"""Separable model of a score: a sum of one term for every width and every depth.

`score(a) = b + sum_s g_s(d_s) + sum_u f_u(w_u)` over the stages s and the units u that an
architecture has, with `f(w) = alpha L + beta L^2` and `L = log(w / C)`. Fitted to measured scores
of random architectures, it takes the place of log-probabilities: the derivation finds the best sum
within a budget exactly. A Bayesian linear regression gives the terms and how sure they are (Bishop,
"Pattern Recognition and Machine Learning", 2006, section 3.5).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tas_tf.spaces.expected_cost import table_shapes
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace

# Deviations of a coefficient, in deviations of the noise, among which the evidence chooses.
_PRIORS = np.geomspace(1e-2, 1e2, 33)
# A coefficient that the prior hardly holds, in the same unit: the mean score.
_FREE = 1e4

Space = SearchSpace | ModelSpace
Indices = tuple[Sequence[int], Sequence[int]]  # of widths and of depths, as a space gives them


@dataclasses.dataclass(frozen=True)
class Separable:
    """A fitted model.

    Args:
        space: The search space.
        mean: (features,), mean of the coefficients.
        covariance: (features, features), theirs.
        noise: Deviation of a single score from the model.
    """

    space: Space
    mean: np.ndarray
    covariance: np.ndarray
    noise: float

    def predict(self, architectures: Sequence[Indices]) -> np.ndarray:
        """Returns the expected scores (n,) of architectures."""
        return features(self.space, architectures) @ self.mean

    def drawn(self, random: np.random.Generator) -> Separable:
        """Returns a model whose coefficients are drawn from the posterior."""
        mean = random.multivariate_normal(self.mean, self.covariance, method="cholesky")
        return dataclasses.replace(self, mean=mean)

    def width_terms(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the terms f (choices, n) of candidate widths, and their standard errors.

        The unpruned width has the term zero. Entries beyond a choice's candidates are zero.
        """
        terms = np.zeros((2, *table_shapes(self.space)[0]))
        for c, choice in enumerate(self.space.choices):
            for k in range(len(choice.candidates)):
                row = np.zeros(len(self.mean))
                row[_width_columns(self.space, c)] = _curve(self.space, c, k)
                terms[:, c, k] = self._term(row)
        return terms[0], terms[1]

    def depth_terms(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the terms g (stages, m) of depths, and their standard errors; see `width_terms`.

        The whole stage has the term zero.
        """
        terms = np.zeros((2, *table_shapes(self.space)[1]))
        for s, depths in enumerate(self.space.depths):
            for d in range(len(depths) - 1):
                row = np.zeros(len(self.mean))
                row[_depth_columns(self.space, s)[d]] = 1
                terms[:, s, d] = self._term(row)
        return terms[0], terms[1]

    def logits(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `derivation.derive` takes for log-probabilities: (choices, n), (stages, m).

        The derivation counts the units of removed blocks with their best candidate, the model does
        not count them: the difference is a part of the depth's term.
        """
        widths, (depths, _) = self.width_terms()[0], self.depth_terms()
        space = self.space
        best = [
            row[: len(choice.candidates)].max()
            for row, choice in zip(widths, space.choices, strict=True)
        ]
        for c, places in enumerate(space.places):
            for s, first in dict(reversed(places)).items():  # the first of each stage
                depths[s, first : len(space.depths[s])] += best[c]
        return widths, depths

    def _term(self, row: np.ndarray) -> tuple[float, float]:
        return float(row @ self.mean), float(np.sqrt(max(row @ self.covariance @ row, 0.0)))


def fit(space: Space, architectures: Sequence[Indices], scores: np.ndarray) -> Separable:
    """Fits the model to measured scores.

    Coefficients have one prior N(0, s^2), the noise another; both deviations maximise the evidence.

    Args:
        space: The search space.
        architectures: What was measured.
        scores: (n,), higher is better.
    """
    x = features(space, architectures)
    y = np.asarray(scores, np.float64)
    centre, scale = y.mean(), max(float(y.std()), 1e-12)
    y = (y - centre) / scale
    found = []
    for prior in _PRIORS:
        variances = np.full(x.shape[1], prior**2)
        variances[0] = _FREE**2
        found.append(_posterior(x, y, variances))
    _, mean, covariance, noise = max(found, key=lambda posterior: posterior[0])
    mean = mean * scale
    mean[0] += centre
    return Separable(space, mean, covariance * scale**2, noise * scale)


def _posterior(
    x: np.ndarray, y: np.ndarray, variances: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, float]:
    """Returns log evidence, mean and covariance of the coefficients, and the noise's deviation.

    `variances` are those of the coefficients over that of the noise, whose best value has a closed
    form: `y' (I + X V X')^-1 y / n`.
    """
    count = len(y)
    precision = x.T @ x + np.diag(1 / variances)
    inverse = np.linalg.inv(precision)
    mean = inverse @ (x.T @ y)
    noise = max(float(y @ (y - x @ mean)) / count, 1e-12)
    _, log_determinant = np.linalg.slogdet(precision)
    log_determinant += np.log(variances).sum()
    return -0.5 * (count * np.log(noise) + log_determinant), mean, noise * inverse, noise**0.5


def features(space: Space, architectures: Sequence[Indices]) -> np.ndarray:
    """Returns the rows (n, features) whose products with the coefficients are scores.

    A one; for every stage whether it has each depth but the whole; for every choice L and L^2, zero
    where no unit of it is left.
    """
    widths = np.array([of_widths for of_widths, _ in architectures], np.intp)
    depths = np.array([of_depths for _, of_depths in architectures], np.intp)
    columns = [np.ones((len(widths), 1))]
    for s, candidates in enumerate(space.depths):
        columns.append(depths[:, s, None] == np.arange(len(candidates) - 1))
    left = present(space, depths)
    for c, choice in enumerate(space.choices):
        curves = np.array([_curve(space, c, k) for k in range(len(choice.candidates))])
        columns.append(curves[widths[:, c]] * left[:, c, None])
    return np.concatenate(columns, axis=1).astype(np.float64)


def present(space: Space, depths: np.ndarray) -> np.ndarray:
    """Returns (n, choices): whether any unit of a choice is left.

    Args:
        space: The search space.
        depths: (n, stages), the candidates of the depths.
    """
    found = np.zeros((len(depths), len(space.choices)), bool)
    for c, places in enumerate(space.places):
        found[:, c] = not places
        for s, first in places:
            found[:, c] |= depths[:, s] >= first
    return found


def _curve(space: Space, choice: int, candidate: int) -> tuple[float, float]:
    """Returns L and L^2 of a candidate width."""
    widths = space.choices[choice].candidates
    ratio = float(np.log(widths[candidate] / widths[-1]))
    return ratio, ratio**2


def _depth_columns(space: Space, stage: int) -> list[int]:
    first = 1 + sum(len(depths) - 1 for depths in space.depths[:stage])
    return list(range(first, first + len(space.depths[stage]) - 1))


def _width_columns(space: Space, choice: int) -> list[int]:
    first = 1 + sum(len(depths) - 1 for depths in space.depths) + 2 * choice
    return [first, first + 1]
