"""The search of an architecture within a budget."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import keras
import numpy as np

from tas_tf.baselines import uniform
from tas_tf.config.presets import BASE
from tas_tf.data.batches import Feed
from tas_tf.data.image_data import ImageData, paired
from tas_tf.errors import EXIT_DONE, EXIT_OUTSIDE_BAND
from tas_tf.experiments import (
    budgeted,
    common,
    kept,
    latencies,
    measured_search,
    messages,
    networks,
)
from tas_tf.experiments.budgeted import Plan
from tas_tf.models import network_files
from tas_tf.models.derived import build_model, without_softmax
from tas_tf.models.inheritance import order_channels
from tas_tf.models.interpreter import ModelSupernet
from tas_tf.models.supernet import Supernet
from tas_tf.runtime import devices
from tas_tf.runtime.checkpoints import CheckpointInterval
from tas_tf.runtime.run_directory import RESULT, RunDirectory
from tas_tf.spaces import cost, derivation
from tas_tf.spaces.cost import Budget
from tas_tf.spaces.derivation import Derivation
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import measurement, search_records
from tas_tf.training.architecture_search import ArchitectureSearch
from tas_tf.training.measurement import Choice, Measurement, Scorer
from tas_tf.training.path_search import PathSearch
from tas_tf.training.schedules import warm_cosine
from tas_tf.training.scores import read_scores
from tas_tf.training.search_loop import Search
from tas_tf.training.supervised import evaluate


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchExperiment:
    """Searches an architecture within a budget; writes `architecture.json`.

    Args:
        run_dir: The run directory.
        dry_run: Whether only to say what would be done.
        profile_steps: First and last step of a profile for TensorBoard; None makes none.
        data: The images.
        space: Makes the search space from `num_classes` and `input_shape`.
        supernet: Makes the supernet from the space.
        optimizer: Moves the weights; its learning rate falls to 0 by half a cosine.
        arch_optimizer: Moves the logits.
        temperature: Temperature by (epoch, epochs).
        target: Budget or budgets, see `cost.parse_targets`.
        epochs: Epochs of the weight half.
        batch_size: Images of each half in a step.
        seed: Seed of everything.
        cost_weight: Weight lambda of the cost loss.
        tolerance: Relative width of the budget's band.
        weight_warmup_epochs: Epochs in which only the weights move.
        start_from: Run directory of the trained unpruned network that the supernet starts from.
        order_by_importance: Whether its channels are put in order of importance first.
        cost_formula: `built`, or `published` for comparison with the published code: its formulas
            of cost and its band.
        latency_table: Path of what `python -m tas_tf.profile_device` measured, or of the run
            directory of a search that had it. A budget of latency without it is measured first.
        checkpoints: How often the search saves one within an epoch.
        decide: How candidates are told apart: `gradient` moves logits beside the weights (the
            paper); `measurement` trains single paths, and measures the losses of some.
        measurement: How much is measured.
    """

    NAME: ClassVar[str] = "run_search"

    run_dir: str
    dry_run: bool
    profile_steps: tuple[int, int] | None
    data: ImageData
    space: Callable[..., SearchSpace | ModelSpace]
    supernet: Callable[..., Supernet | ModelSupernet]
    optimizer: keras.optimizers.Optimizer
    arch_optimizer: keras.optimizers.Optimizer
    temperature: Callable[[int, int], float]
    target: float | str | Sequence[float | str]
    epochs: int
    batch_size: int
    seed: int = 0
    cost_weight: float = 2.0
    tolerance: float = 0.05
    weight_warmup_epochs: int = 0
    start_from: str | None = None
    order_by_importance: bool = False
    cost_formula: Literal["built", "published"] = "built"
    latency_table: str | None = None
    checkpoints: CheckpointInterval | None = None
    decide: Literal["gradient", "measurement"] = "gradient"
    measurement: Measurement = Measurement()

    def run(self) -> int:
        """Runs it; returns `EXIT_OUTSIDE_BAND` if no architecture lies in the band."""
        plan = self._check()
        self._announce(plan)
        if plan.directory.exists(RESULT) and not self.dry_run:
            return common.say_done(plan.directory)
        devices.set_seed(self.seed)
        net = self.supernet(plan.space)
        messages.say_how(net.dtype_policy.name, net.shapes)
        if self.dry_run:
            return EXIT_DONE
        self.data.prepare(self.seed)
        with common.opened(plan.directory, plan.config, self.data):
            networks.record_networks(plan.directory, budgeted.networks_of(plan))
            if isinstance(plan.space, ModelSpace):
                self._begin_model(plan)
            search_records.write_space(plan.directory, plan.space, plan.budgets, plan.latency)
            if self.decide == "measurement":
                return self._measure(plan, net)
            feed = paired(self.data, self.batch_size, self.seed)
            search = self._build(plan, net, feed)
            seconds = self._fit(search, feed, plan)
            logits, entropies = search.logits(), search.entropies()
            found = _kept(plan, logits)
            plan = dataclasses.replace(plan, budgets=found.budgets, latency=found.latency)
            more = {**entropies, "seconds": seconds, **found.record}
            _record(search, plan, found.derived, logits, more)
            messages.say_entropies(entropies)
            return EXIT_DONE if found.derived.in_band else EXIT_OUTSIDE_BAND

    def profile(self) -> None:
        """Measures the latencies that the budgets need, where that has still to be done."""
        asked = latencies.asked(self.target)
        if asked.setting is None:
            return
        info = self.data.describe()
        space = self.space(num_classes=info.num_classes, input_shape=info.input_shape)
        directory = RunDirectory(self.run_dir)
        latencies.table_for(asked, self.latency_table, space, directory, dry_run=False)

    def _fit(self, search: Search, feed: Feed, plan: Plan) -> float:
        """Trains the supernet; returns the seconds that it took in all."""
        return common.fit(
            search,
            feed,
            title="search",
            epochs=self.epochs,
            directory=plan.directory,
            interval=self.checkpoints,
            profile_steps=self.profile_steps,
        )

    def _measure(self, plan: Plan, net: Any) -> int:
        """Trains single paths, measures some, and chooses by that; returns the exit code."""
        feed = self.data.training(self.batch_size, self.seed, "weights")
        self._start(plan, net)
        search = PathSearch(net, self._teacher(plan), self.seed)
        search.compile(self.optimizer, plan.budgets, self._schedule(feed))
        half = self.data.training(self.batch_size, self.seed, "architecture", augment=False)
        scorer = Scorer(search, half, self.measurement)  # refuses too few images before training
        seconds = self._fit(search, feed, plan)
        begun = time.monotonic()
        measured = measured_search.measure(scorer, plan.directory)
        values = measured.model.logits()

        def within(budgets: Sequence[Budget]) -> tuple[Derivation, Choice]:
            references = {"uniform": _uniform(plan.space, budgets)}
            choice = measured_search.choose(measured, budgets, references)
            found = choice.architecture
            return derivation.of_measured(plan.space, values, budgets, found), choice

        # The model's best is derived at once: it corrects the table before finalists are measured.
        best = plan if plan.latency is None else _kept(plan, values)
        found = kept.keep(within, plan.space, best.budgets, best.latency, plan.directory)
        choice = found.told
        plan = dataclasses.replace(plan, budgets=found.budgets, latency=found.latency)
        curve = measurement.curve(measured.model, plan.budgets[0].kind)
        record = {**choice.record(), "curve": curve}
        seconds += time.monotonic() - begun
        more = {"measurement": record, "seconds": seconds, **found.record}
        measured_search.draw_choice(choice, plan.directory, int(search.step.numpy()))
        _record(search, plan, found.derived, values, more)
        measured_search.say_choice(choice, self.measurement.finalists)
        return EXIT_DONE if found.derived.in_band else EXIT_OUTSIDE_BAND

    def _check(self) -> Plan:
        """Refuses whatever can be refused before anything is built or written."""
        _ = common.peak(self.optimizer), common.peak(self.arch_optimizer)
        plan = budgeted.check(
            self,
            # By measurement, one batch chooses and another judges.
            least_batches=2 if self.decide == "measurement" else 1,
            weight_warmup_epochs=self.weight_warmup_epochs,
            temperature=min(self.temperature(epoch, self.epochs) for epoch in (0, self.epochs - 1)),
        )
        read_scores(plan.directory)  # refuses damaged ones before anything is trained
        if isinstance(plan.space, ModelSpace):
            budgeted.check_start(self.NAME, self.start_from)
        network = common.load_network(self.start_from, "start_from", plan.info)
        plan = dataclasses.replace(plan, network=network)
        networks.check_networks(plan.directory, budgeted.networks_of(plan))
        return plan

    def _begin_model(self, plan: Plan) -> None:
        """Keeps the model in the run directory, and says how accurate it is."""
        network_files.write_model(plan.space.model, plan.directory, BASE)
        half = self.data.evaluation("architecture", self.batch_size)
        messages.say_model(evaluate(plan.space.model, half))

    def _announce(self, plan: Plan) -> None:
        messages.say_what(
            "Search", plan.directory, plan.info, self.epochs, self.batch_size, halves=True
        )
        messages.say_space(plan.space, plan.budgets)
        messages.say_latency(plan.latency)

    def _schedule(self, feed: Feed) -> Callable[[int], float]:
        """Returns the learning rate of the weights by step."""
        return warm_cosine(common.peak(self.optimizer), self.epochs * feed.steps_per_epoch)

    def _teacher(self, plan: Plan) -> keras.Model | None:
        """Returns the unpruned network that gives logits, if there is a trained one."""
        if isinstance(plan.space, ModelSpace):
            return without_softmax(network_files.load_model(plan.directory.file(BASE), "model"))
        return plan.network

    def _start(self, plan: Plan, net: Supernet) -> None:
        """Starts the supernet from a trained network where one is given."""
        if plan.network is not None:
            if self.order_by_importance:
                order_channels(plan.network, plan.space.unpruned())
            training = self.data.training(self.batch_size, self.seed, "weights")
            images, _ = next(iter(training.batches(0, 1)))
            net.start_from(plan.network, images)

    def _build(self, plan: Plan, net: Any, feed: Feed) -> ArchitectureSearch:
        """Returns the search by gradients."""
        self._start(plan, net)
        search = ArchitectureSearch(net, self.seed)
        search.compile(
            optimizer=self.optimizer,
            arch_optimizer=self.arch_optimizer,
            target=plan.budgets,
            temperature=self.temperature,
            cost_weight=self.cost_weight,
            weight_warmup_epochs=self.weight_warmup_epochs,
            learning_rate=self._schedule(feed),
            cost_formula=self.cost_formula,
        )
        return search


def _kept(plan: Plan, values: tuple[np.ndarray, np.ndarray]) -> kept.Kept:
    """Returns what is derived from logits, or from what stands for them, and keeps the budgets."""
    return kept.keep(
        lambda budgets: (derivation.derive(plan.space, *values, budgets), None),
        plan.space,
        plan.budgets,
        plan.latency,
        plan.directory,
    )


def _uniform(space: SearchSpace | ModelSpace, budgets: Sequence[Budget]) -> Any:
    """Returns what uniform narrowing gives within budgets."""
    values, _ = uniform.uniform(space, budgets, "width")
    return derivation.derive(space, *values, budgets).architecture


def _record(
    search: Search,
    plan: Plan,
    derived: Derivation,
    logits: Sequence[np.ndarray],
    more: Mapping[str, Any],
) -> None:
    """Records all that came out, and says what was derived.

    Args:
        search: The finished search.
        plan: What was known before.
        derived: What was derived.
        logits: Values of widths (choices, n) and depths (stages, m), for further derivations.
        more: What else the result says.
    """
    search_records.write_logits(plan.directory, logits)
    summary = derived.summary(plan.budgets)
    network = build_model(derived.architecture, start_from=search.supernet)
    architecture = budgeted.record(plan, derived.architecture, summary, network)
    ratios = {
        f"derived_{budget.kind.name}_ratio": cost.cost(architecture, budget.kind) / budget.unpruned
        for budget in plan.budgets
    }
    common.record_end(plan.directory, int(search.step.numpy()), architecture, **ratios)
    budgeted.finish(plan, summary, more)
