"""What searches and baselines share: the checks before an architecture is found, and its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import keras

from tas_tf.config import gin_config
from tas_tf.data.image_data import DataInfo, ImageData
from tas_tf.errors import SpecError
from tas_tf.experiments import common, latencies, messages
from tas_tf.models import network_files
from tas_tf.runtime import files
from tas_tf.runtime.run_directory import ARCHITECTURE, RESULT, RunDirectory
from tas_tf.spaces import cost, derivation
from tas_tf.spaces.latency_table import LatencyTable, kinds
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import search_records


class Budgeted(Protocol):
    """An experiment that finds an architecture within a budget, by its settings."""

    NAME: ClassVar[str]

    @property
    def run_dir(self) -> str: ...
    @property
    def data(self) -> ImageData: ...
    @property
    def space(self) -> Callable[..., SearchSpace | ModelSpace]: ...
    @property
    def target(self) -> float | str | Sequence[float | str]: ...
    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def cost_weight(self) -> float: ...
    @property
    def dry_run(self) -> bool: ...
    @property
    def latency_table(self) -> str | None: ...


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is known before anything is built or written.

    Args:
        directory: The run directory.
        config: The resolved configuration.
        info: What is known of the images.
        space: The search space, a `SearchSpace` or a `ModelSpace`.
        latency: The table of latencies, if there is one.
        budgets: The budgets; none in a dry run that would profile the device for them first.
        network: The trained unpruned network to start from, if there is one.
    """

    directory: RunDirectory
    config: str
    info: DataInfo
    space: Any
    latency: LatencyTable | None
    budgets: list[cost.Budget]
    network: keras.Model | None = None


def check(experiment: Budgeted, *, least_batches: int = 1, **ranges: float) -> Plan:
    """Refuses whatever can be refused before anything is built or written.

    Args:
        experiment: The experiment.
        least_batches: Batches that each half of the training set must hold at least.
        ranges: Further settings of it whose range is checked.
    """
    directory, config, info = common.begin(
        experiment.NAME,
        experiment.run_dir,
        experiment.data,
        parts=2,
        least_batches=least_batches,
        epochs=experiment.epochs,
        batch_size=experiment.batch_size,
        seed=experiment.seed,
        tolerance=experiment.tolerance,
        cost_weight=experiment.cost_weight,
        **ranges,
    )
    space = experiment.space(num_classes=info.num_classes, input_shape=info.input_shape)
    asked = latencies.asked(experiment.target)
    latency = latencies.table_for(
        asked, experiment.latency_table, space, directory, experiment.dry_run
    )
    budgets: list[cost.Budget] = []
    # A dry run measures nothing: then its budgets are not known.
    if asked.setting is None or latency is not None:
        budgets = cost.parse_targets(asked.targets, space, experiment.tolerance, kinds(latency))
    derivation.check_reachable(space, budgets)
    search_records.check_latency(directory, latency)
    return Plan(
        directory=directory, config=config, info=info, space=space, latency=latency, budgets=budgets
    )


def networks_of(plan: Plan) -> dict[str, keras.Model | None]:
    """Returns the networks that a search or a baseline begins with, by their roles."""
    if isinstance(plan.space, ModelSpace):
        return {"model": plan.space.model}
    return {"start_from": plan.network}


def check_start(name: str, start_from: str | None) -> None:
    """Refuses a network to start from beside that of `own_model`, which is the start itself.

    Args:
        name: The experiment's name.
        start_from: The path of the network, if one is given.

    Raises:
        SpecError: If one is given.
    """
    if start_from is not None:
        raise SpecError(
            f"{gin_config.described(f'{name}.start_from')}: expected None, since the network of "
            f"own_model is what is started from. Received: {start_from!r}"
        )


def record(
    plan: Plan,
    found: Any,
    summary: dict[str, Any],
    model: keras.Model | None,
) -> Any:
    """Records an architecture that was found, and says it; returns it with costs and origin.

    Args:
        plan: What was known before.
        found: The architecture.
        summary: How it was found.
        model: Its network with the weights that are kept, from which a training may start; None
            where there are none.
    """
    architecture = common.with_origin(found, plan.space, summary, plan.latency)
    path = plan.directory.file(ARCHITECTURE)
    files.write_whole(path, architecture.to_json())
    messages.say_derivation(summary, plan.budgets, path)
    if model is not None:
        network_files.save_model(model, architecture, plan.directory)
    return architecture


def finish(plan: Plan, summary: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Writes the result, with which a run is finished: everything else stands already.

    Args:
        plan: What was known before.
        summary: How the architecture was found.
        more: What else the result says.
    """
    result = {"derivation": summary, "tolerance": plan.budgets[0].tolerance, **more}
    plan.directory.write_json(RESULT, result)
