"""Small random graphs of terms, and all of their assignments one by one."""

import itertools

import numpy as np
from hypothesis import strategies as st

from tas_tf.spaces.exchanges import Band
from tas_tf.spaces.terms import Choice, Peak, Terms


@st.composite
def choices(draw, most: int = 5) -> list[Choice]:
    """Up to so many choices of up to five candidates, some of which decide what exists."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=most))
    return [
        Choice(f"choice{c}", tuple(range(1, size + 1)), decides=draw(st.booleans()))
        for c, size in enumerate(sizes)
    ]


@st.composite
def term_lists(draw, of: list[Choice], most: int = 7) -> list[tuple[list[int], np.ndarray]]:
    """Terms over none to three choices, in any order, a choice perhaps twice."""
    terms = []
    random = np.random.default_rng(draw(st.integers(0, 9_999)))
    for _ in range(draw(st.integers(1, most))):
        scope = draw(st.lists(st.integers(0, len(of) - 1), max_size=3))
        shape = [len(of[choice].candidates) for choice in scope]
        terms.append((scope, random.integers(0, draw(st.sampled_from([3, 1_000])), shape)))
    return terms


@st.composite
def problems(draw, kinds=(Terms,), several: int = 1) -> tuple[list[np.ndarray], list[Band]]:
    """Regrets, and bands somewhere in the range of random costs."""
    of = draw(choices())
    random = np.random.default_rng(draw(st.integers(0, 9_999)))
    regrets = [random.exponential(size=len(choice.candidates)) for choice in of]
    bands = []
    for _ in range(draw(st.integers(1, several))):
        if draw(st.sampled_from(kinds)) is Peak:
            cost = Peak(tuple(Terms(of, [term]) for term in draw(term_lists(of))))
        else:
            cost = Terms(of, draw(term_lists(of)))
        values = cost.values(assignments(of))
        high = values.min() + np.ptp(values) * draw(st.integers(0, 100)) / 100
        bands.append(Band(cost, (1 - draw(st.sampled_from([0.0, 0.05, 0.3, 0.9]))) * high, high))
    return [row - row.min() for row in regrets], bands


def assignments(of) -> np.ndarray:
    """All assignments (n, choices)."""
    return np.array(list(itertools.product(*(range(len(choice.candidates)) for choice in of))))


def regrets_of(regrets, of) -> np.ndarray:
    """The regrets (n,) of all assignments."""
    return sum(row[column] for row, column in zip(regrets, assignments(of).T, strict=True))


def dense(blocks, candidates: int = 8) -> tuple[list[Choice], Terms]:
    """Choices and MACs of a DenseNet on 64 pixels: every layer reads all before it in its block."""
    shares = np.arange(1, candidates + 1) / candidates
    of, terms, side = [], [], 16

    def add(name: str, width: int) -> int:
        of.append(Choice(name, tuple((shares * width).astype(int).tolist())))
        return len(of) - 1

    def layer(name: str, width: int, sources: list[int], kernel: int) -> int:
        target = add(name, width)
        for source in sources:
            widths = [np.array(of[choice].candidates) for choice in (source, target)]
            terms.append(((source, target), kernel**2 * side**2 * np.multiply.outer(*widths)))
        return target

    readers = [add("stem", 64)]
    for b, count in enumerate(blocks):
        for i in range(count):
            narrow = layer(f"block{b}_{i}_narrow", 128, readers, kernel=1)
            readers.append(layer(f"block{b}_{i}_growth", 32, [narrow], kernel=3))
        if b < len(blocks) - 1:
            readers = [layer(f"block{b}_end", 256, readers, kernel=1)]
            side //= 2
    return of, Terms(of, terms)
