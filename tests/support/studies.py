"""A small study, as tests of studies need it."""

from typing import Any

from study_grid import Round, Study


def study(kind: type[Study] = Study, **settings: Any) -> Study:
    """A study of a search and of two baselines, one of which is made once.

    Args:
        kind: Its class.
        settings: Fields of it that differ.
    """
    main = Round(arms=["search", "plain"], targets=[0.4], ways=["scratch"], trainings=2)
    more = Round(
        arms=["search", "other"],
        targets=["latency: 0.6"],
        ways=["distilled", "inherited"],
        trainings=1,
    )
    arms = {
        "search": ("search", 'run_search.start_from = "{teacher}"'),
        "plain": ("baseline --kind=uniform_width",),
        "other": ("baseline --kind=random",),
    }
    fields = {"searches": 2, "once": ["plain"], "teachers": 1, "reference": "plain", **settings}
    return kind(name="s", spec="a.gin", arms=arms, rounds=[main, more], **fields)
