"""Small random graphs of terms, and all of their assignments one by one."""

import itertools

import numpy as np
from hypothesis import strategies as st

from tas_tf.spaces.terms import Choice


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


def assignments(of) -> np.ndarray:
    """All assignments (n, choices)."""
    return np.array(list(itertools.product(*(range(len(choice.candidates)) for choice in of))))
