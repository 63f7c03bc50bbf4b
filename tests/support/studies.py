"""A small study, and runs of it, as tests of studies need them."""

import json
import pathlib
from typing import Any

import small_models
from study_grid import Round, Study

from tas_tf.models.model_spaces import space_of
from tas_tf.models.network_files import write_model
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.model_space import ModelArchitecture


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


def run_of_a_model(folder: pathlib.Path) -> ModelArchitecture:
    """Makes what a search of a model leaves of its narrowest network; returns that network."""
    folder.mkdir(parents=True)
    space = space_of(small_models.dense_blocks())
    narrow = space.architecture([0] * len(space.choices))
    write_model(space.model, RunDirectory(str(folder)), "base.keras")
    (folder / "architecture.json").write_text(narrow.to_json())
    result = {"seconds": 2.0, "derivation": {"in_band": True}}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "machine.json").write_text(json.dumps({"device_names": ["a processor"]}))
    return narrow
