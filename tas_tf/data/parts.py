"""Parts of a data set: which images train, are held out and evaluate, less what cannot be read."""

import numpy as np

from tas_tf.data.checks import require_one_of
from tas_tf.data.sources import ImageSource
from tas_tf.data.splitting import TENTH, draw_parts, share_of
from tas_tf.errors import DataError

# What each training part is called in messages; its place is its stream of random numbers.
TRAINING_PARTS = {
    "train": "training set",
    "weights": "weight half",
    "architecture": "architecture half",
}
_TENTH_OF_TRAIN = "a stratified tenth of train"


class Parts:
    """The parts of a source's images: `train`, its halves, `holdout` and `test`.

    Args:
        source: The images.
        dataset: What messages call them.
        evaluation_split: Split that "test" stands for; None chooses one, see `ImageData`.
        holdout: Share of the training set that is held out.
        skip_corrupt: Share of a split that may be left out because it cannot be read.

    Attributes:
        seed: Seed of the draw; None before `draw`.
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        dataset: str,
        evaluation_split: str | None,
        holdout: float,
        skip_corrupt: float,
    ):
        self.seed: int | None = None
        self._source = source
        self._dataset = dataset
        self._asked = evaluation_split
        self._holdout = holdout
        self._skip_corrupt = skip_corrupt
        self._drawn: dict[str, np.ndarray] = {}
        self._skipped: dict[str, np.ndarray] = {}

    def evaluation_split(self) -> str:
        """Returns the split that "test" stands for.

        Raises:
            DataError: If the one that was asked for is not there.
        """
        counts = self._source.counts
        if self._asked is not None:
            known = tuple(split for split in counts if split != "train") or (None,)
            require_one_of("evaluation_split", self._asked, known)
            return self._asked
        if "test" in counts and "validation" in counts:
            with self._source.explained("test"):
                return "test" if self._source.has_labels("test") else "validation"
        return next((split for split in ("test", "validation") if split in counts), _TENTH_OF_TRAIN)

    def sizes(self) -> tuple[int, int, int]:
        """Returns how many images train, are held out, and evaluate, before any is left out."""
        train, split = self._source.counts["train"], self.evaluation_split()
        if split == _TENTH_OF_TRAIN:
            evaluated = share_of(train, TENTH)
            train -= evaluated
        else:
            evaluated = self._source.counts[split]
        held_out = share_of(train, self._holdout)
        return train - held_out, held_out, evaluated

    def draw(self, seed: int) -> None:
        """Draws the parts; finds what cannot be read first, where that may be left out.

        Raises:
            DataError: If images cannot be read, or a class has too few.
        """
        self._find_corrupt()
        with self._source.explained("train"):
            labels = self._source.labels("train")
            evaluated = TENTH if self.evaluation_split() == _TENTH_OF_TRAIN else 0
            drawn = draw_parts(labels, seed, evaluated, self._holdout)
            self._drawn = {part: self._less_skipped("train", of) for part, of in drawn.items()}
            self._require_trainable(labels, self._drawn["train"])
        self.seed = seed

    def places(self, part: str) -> tuple[str, np.ndarray]:
        """Returns the split of the source that a part is of, and its places there, ascending."""
        if self.seed is None:
            raise RuntimeError("ImageData.prepare(seed) has to be called first")
        if part in self._drawn:
            return "train", self._drawn[part]
        split = self.evaluation_split()
        return split, self.readable(split)

    def readable(self, split: str) -> np.ndarray:
        """Returns the places of a split less what was left out, ascending."""
        return self._less_skipped(split, np.arange(self._source.counts[split]))

    def skipped(self) -> dict[str, list[str]]:
        """Returns what was left out of each split: where it lies, and why."""
        return {
            split: [self._source.fault(split, int(place)) for place in places]
            for split, places in self._skipped.items()
            if len(places)
        }

    def _less_skipped(self, split: str, places: np.ndarray) -> np.ndarray:
        return np.setdiff1d(places, self._skipped.get(split, []))

    def _find_corrupt(self) -> None:
        """Finds what `skip_corrupt` leaves out; refuses more than that."""
        source, evaluated = self._source, self.evaluation_split()
        self._skipped = {}
        source.skipping = self._skip_corrupt > 0
        for split in {"train", "train" if evaluated == _TENTH_OF_TRAIN else evaluated}:
            if source.skipping:
                unreadable = source.unreadable(split)
                if len(unreadable) > self._skip_corrupt * source.counts[split]:
                    raise DataError(
                        f"{source.fault(split, int(unreadable[0]))}. Of {split}, "
                        f"{len(unreadable)} of {source.counts[split]} images cannot be read: more "
                        f"than ImageData.skip_corrupt = {self._skip_corrupt} allows"
                    )
                self._skipped[split] = unreadable

    def _require_trainable(self, labels: np.ndarray, train: np.ndarray) -> None:
        """Refuses a class with so few images that one half would lack it."""
        names = self._source.label_names
        present = np.bincount(labels, minlength=len(names))
        remaining = np.bincount(labels[train], minlength=len(names))
        for label in np.flatnonzero((present > 0) & (remaining < 2)):
            raise DataError(
                f"class {names[label]!r} of {self._dataset!r} has {present[label]} training images,"
                f" of which {remaining[label]} are left beside evaluation and holdout; it needs 2,"
                " one for each half"
            )
