"""Splits of a training set: stratified by class, drawn by a seed, fingerprinted."""

import hashlib
from collections.abc import Sequence

import numpy as np

# Share of the training set that is evaluated on where a set has no split for it.
TENTH = 0.1


def draw_parts(
    labels: np.ndarray, seed: int, evaluated: float, held_out: float
) -> dict[str, np.ndarray]:
    """Draws the parts of a training set, each from a stream of the seed of its own.

    Args:
        labels: Labels of all images (images,).
        seed: Seed of the draws.
        evaluated: Share to evaluate on; 0 if the set has a split for it.
        held_out: Share of the rest to hold out.

    Returns:
        Places of the images, ascending, of each part: `test` (if evaluated is not 0), `holdout`,
        `train` (what remains), and its halves `weights` and `architecture`.
    """
    parts = {}
    left = np.arange(len(labels))
    if evaluated:
        parts["test"], left = stratified(labels, left, evaluated, [seed, 0])
    parts["holdout"], left = stratified(labels, left, held_out, [seed, 1])
    parts["train"] = left
    parts["weights"], parts["architecture"] = stratified(labels, left, 0.5, [seed, 2])
    return parts


def stratified(
    labels: np.ndarray, places: np.ndarray, share: float, seed: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a share of places, each class in proportion to within one image.

    Args:
        labels: Labels of all images (images,).
        places: Places to draw from, ascending (places,).
        share: Share to draw.
        seed: Seed of the draw.

    Returns:
        The places drawn and the others, both ascending.
    """
    random = np.random.default_rng(seed)
    of_places = labels[places]
    classes, counts = np.unique(of_places, return_counts=True)
    wanted = share_of(len(places), share)
    # Whole parts first; then one more for those with the largest remainders.
    quotas, remainders = np.divmod(counts * wanted, max(len(places), 1))
    quotas[np.argsort(-remainders, kind="stable")[: wanted - quotas.sum()]] += 1
    drawn = np.zeros(len(places), bool)
    for label, quota in zip(classes, quotas, strict=True):
        members = np.flatnonzero(of_places == label)
        drawn[random.permutation(members)[:quota]] = True
    return places[drawn], places[~drawn]


def share_of(count: int, share: float) -> int:
    """Returns how many images a share of them is."""
    return round(count * share)


def fingerprint(places: np.ndarray, images: str) -> str:
    """Returns a name for images of a set that no other images have.

    Args:
        places: Their places in the reading order, ascending (places,).
        images: The digest of the set's identity.
    """
    return hashlib.sha256(images.encode() + places.astype("<i8").tobytes()).hexdigest()
