"""Baselines: what people would pick in place of a search, within the same budget."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import keras

from tas_tf.baselines import (
    hard_concrete,
    importance,
    of_models,
    random_draw,
    sensitivity,
    uniform,
)
from tas_tf.baselines.gated import gated_network
from tas_tf.baselines.values import Values
from tas_tf.config import gin_config
from tas_tf.config.presets import BASE
from tas_tf.data.image_data import DataInfo, ImageData
from tas_tf.errors import EXIT_DONE, EXIT_OUTSIDE_BAND, ArchitectureError, SpecError
from tas_tf.experiments import budgeted, common, kept, messages, networks, provenance
from tas_tf.experiments.budgeted import Plan
from tas_tf.models import network_files
from tas_tf.models.derived import build_model
from tas_tf.models.inheritance import order_channels
from tas_tf.models.interpreter import ModelSupernet
from tas_tf.models.supernet import Supernet
from tas_tf.runtime import devices
from tas_tf.runtime.checkpoints import CheckpointInterval
from tas_tf.runtime.run_directory import RESULT
from tas_tf.spaces import cost, derivation
from tas_tf.spaces.derivation import Derivation
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import search_records
from tas_tf.training.loop import Batch
from tas_tf.training.schedules import warm_cosine

SENSITIVITY = "sensitivity.json"
_FREE = ("uniform_width", "uniform_depth", "random")  # of any network
# Derives within budgets, and tells what people should know of how it was found.
Within = Callable[[Sequence[cost.Budget]], tuple[Derivation, str]]
_OF_MODELS = ("uniform_width", "random", "magnitude", "taylor", "sensitivity")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaselineExperiment:
    """Finds an architecture within a budget without a search; writes `architecture.json`.

    Args:
        run_dir: The run directory.
        dry_run: Whether only to say what would be done.
        data: The images.
        space: Makes the search space from `num_classes` and `input_shape`.
        optimizer: Moves the weights of `l0`; its learning rate falls to 0 by half a cosine.
        gate_optimizer: Moves the gates of `l0`.
        kind: `uniform_width`, `uniform_depth` and `random` need no network. The others start from
            the trained unpruned one: `magnitude`, `taylor`, `sensitivity`, `l0`. Of a network
            of `own_model` all start from it; `uniform_depth` and `l0` are of ResNets alone.
        target: Budget or budgets, see `cost.parse_targets`.
        epochs: Epochs of `l0`.
        batch_size: Images in a batch of `taylor`, `sensitivity` and `l0`.
        seed: Seed of everything.
        tolerance: Relative width of the budget's band.
        start_from: Run directory of the trained unpruned network.
        criterion: Magnitude of a channel for `magnitude` and the order of `sensitivity`: `scale`,
            |gamma| of its batch normalization, or `l1`, the L1 norm of its kernel.
        batches: Batches of the architecture half that `taylor` and `sensitivity` measure on.
        cost_weight: Weight of the cost loss of `l0`.
        latency_table: Path of what `python -m tas_tf.profile_device` measured; a budget of latency
            needs it.
        checkpoints: How often `l0` saves one within an epoch.
    """

    NAME: ClassVar[str] = "run_baseline"

    run_dir: str
    dry_run: bool
    data: ImageData
    space: Callable[..., SearchSpace | ModelSpace]
    optimizer: keras.optimizers.Optimizer
    gate_optimizer: keras.optimizers.Optimizer
    kind: Literal[
        "uniform_width", "uniform_depth", "random", "magnitude", "taylor", "sensitivity", "l0"
    ]
    target: float | str | Sequence[float | str]
    epochs: int
    batch_size: int
    seed: int = 0
    tolerance: float = 0.05
    start_from: str | None = None
    criterion: importance.Criterion = "scale"
    batches: int = 10
    cost_weight: float = 2.0
    latency_table: str | None = None
    checkpoints: CheckpointInterval | None = None

    def run(self) -> int:
        """Runs it; returns `EXIT_OUTSIDE_BAND` if no architecture lies in the band."""
        plan = self._check()
        messages.say_baseline(self.kind, plan.directory, plan.info)
        messages.say_space(plan.space, plan.budgets)
        messages.say_latency(plan.latency)
        if self.dry_run:
            return EXIT_DONE
        if plan.directory.exists(RESULT):
            return common.say_done(plan.directory)
        devices.set_seed(self.seed)
        images = None if self.kind in _FREE else self.data
        if images is not None:
            images.prepare(self.seed)
        with common.opened(plan.directory, plan.config, images):
            if images is None:
                provenance.record_unread(plan.directory, self.data)
            networks.record_networks(plan.directory, budgeted.networks_of(plan))
            if isinstance(plan.space, ModelSpace):
                network_files.write_model(plan.space.model, plan.directory, BASE)
            search_records.write_space(plan.directory, plan.space, plan.budgets, plan.latency)
            start = time.perf_counter()
            if isinstance(plan.space, ModelSpace):
                by = "scale" if self.criterion == "scale" else "kernel"
                net: Any = ModelSupernet(plan.space, importance=by)
                within = self._of_model(plan, net)
            else:
                within = self._of_resnet(plan)
                net = self._supernet(plan)
            found = kept.keep(within, plan.space, plan.budgets, plan.latency, plan.directory)
            plan = dataclasses.replace(plan, budgets=found.budgets, latency=found.latency)
            return self._finish(plan, found, net, time.perf_counter() - start)

    def _check(self) -> Plan:
        """Refuses whatever can be refused before anything is built or written."""
        _ = common.peak(self.optimizer), common.peak(self.gate_optimizer)
        plan = budgeted.check(self, batches=self.batches)
        if isinstance(plan.space, ModelSpace):
            self._check_model()
        else:
            plan = dataclasses.replace(plan, network=self._network(plan.info, plan.space))
        networks.check_networks(plan.directory, budgeted.networks_of(plan))
        return plan

    def _check_model(self) -> None:
        """Refuses what a baseline of a model that was read does not have."""
        if self.kind not in _OF_MODELS:
            raise SpecError(
                f"{gin_config.described(f'{self.NAME}.kind')}: of a network of own_model "
                f"expected one of {', '.join(_OF_MODELS)}. Received: {self.kind!r}"
            )
        budgeted.check_start(self.NAME, self.start_from)

    def _network(self, info: DataInfo, space: SearchSpace) -> keras.Model | None:
        """Returns the trained network that the kind starts from, if it starts from one."""
        given = gin_config.described(f"{self.NAME}.start_from")
        if self.kind in _FREE:
            if self.start_from is not None:
                raise SpecError(f"{given}: {self.kind} starts from no network; leave it out")
            return None
        if self.start_from is None:
            raise SpecError(
                f"{given}: {self.kind} needs the run directory of the trained unpruned network"
            )
        network = common.load_network(self.start_from, "start_from", info)
        unpruned = space.unpruned()
        network_files.copy_weights(network, build_model(unpruned), "start_from")
        if space.architecture([-1] * len(space.choices), [-1] * len(space.depths)) != unpruned:
            raise ArchitectureError(
                f"resnet.ratios: {self.kind} needs 1.0 among them, the widths of the unpruned "
                "network"
            )
        return network

    def _of_resnet(self, plan: Plan) -> Within:
        """Returns what derives a network, and tells what people should know of how it was found.

        A trained network then has its channels in order.
        """
        space, network = plan.space, plan.network
        how = f"channels by {self.criterion}"
        if network is None:
            return functools.partial(self._without_network, space)
        if self.kind == "magnitude":
            values = importance.magnitude(network, space, self.criterion)
        elif self.kind == "taylor":
            batches = self._measured_on()
            values, how = importance.taylor(network, space, batches), f"{len(batches)} batches"
        elif self.kind == "sensitivity":
            values = self._sensitivity(plan, network)
        else:
            values, how = self._l0(plan, network)
        return lambda budgets: (derivation.derive(space, *values, budgets), how)

    def _of_model(self, plan: Plan, net: ModelSupernet) -> Within:
        """Returns what `_of_resnet` does, of a model of one's own."""
        space, how = plan.space, f"channels by {self.criterion}"
        if self.kind in _FREE:
            return functools.partial(self._without_network, space)
        if self.kind == "magnitude":
            values = of_models.magnitude(net)
        elif self.kind == "taylor":
            batches = self._measured_on()
            values, how = of_models.taylor(net, batches), f"{len(batches)} batches"
        else:
            measured = of_models.measured(net, self._measured_on(), *self._known(plan))
            values = sensitivity.values(space, measured)
        return lambda budgets: (derivation.derive(space, *values, budgets), how)

    def _known(self, plan: Plan) -> tuple[sensitivity.Losses, Callable[[sensitivity.Losses], None]]:
        """Returns the losses that have been measured already, and what records more."""
        directory = plan.directory
        known = directory.read_json(SENSITIVITY) if directory.exists(SENSITIVITY) else {}
        return known, lambda losses: directory.write_json(SENSITIVITY, losses)

    def _without_network(
        self, space: SearchSpace | ModelSpace, budgets: Sequence[cost.Budget]
    ) -> tuple[Derivation, str]:
        """Derives what looks at no trained network."""
        if self.kind == "random":
            values, how = random_draw.draw(space, budgets, self.seed)
            return derivation.derive(space, *values, budgets), how
        what: Literal["width", "depth"] = "width" if self.kind == "uniform_width" else "depth"
        values, share = uniform.uniform(space, budgets, what)
        derived = derivation.derive(space, *values, budgets)
        return derived, uniform.told(space, derived.architecture, what, share)

    def _measured_on(self) -> list[Batch]:
        """Returns batches of the architecture half, not augmented."""
        feed = self.data.training(self.batch_size, self.seed, "architecture", augment=False)
        return list(feed.batches(0, min(self.batches, feed.steps_per_epoch)))

    def _sensitivity(self, plan: Plan, network: keras.Model) -> Values:
        space = plan.space
        order_channels(network, space.unpruned(), importance.magnitudes(network, self.criterion))
        measured = sensitivity.measure(
            gated_network(network, space), space, self._measured_on(), *self._known(plan)
        )
        return sensitivity.values(space, measured)

    def _l0(self, plan: Plan, network: keras.Model) -> tuple[Values, str]:
        feed = self.data.training(self.batch_size, self.seed)
        training = hard_concrete.L0Training(network, plan.space, self.seed)
        training.compile(
            self.optimizer,
            self.gate_optimizer,
            plan.budgets,
            self.cost_weight,
            warm_cosine(common.peak(self.optimizer), self.epochs * feed.steps_per_epoch),
        )
        common.fit(
            training,
            feed,
            title="gates",
            epochs=self.epochs,
            directory=plan.directory,
            interval=self.checkpoints,
        )
        training.give_weights(network)
        return training.values(), training.told()

    def _supernet(self, plan: Plan) -> Supernet | None:
        """Returns the supernet that has the trained network's weights, where there is one."""
        if plan.network is None:
            return None
        feed = self.data.training(self.batch_size, self.seed, "weights")
        images, _ = next(iter(feed.batches(0, 1)))
        net = Supernet(plan.space)
        net.start_from(plan.network, images)
        return net

    def _finish(self, plan: Plan, found: kept.Kept, net: Any, seconds: float) -> int:
        """Records all that came out; returns the exit code."""
        derived = found.derived
        summary = {
            "method": f"{self.kind}: {found.told}",
            "in_band": derived.in_band,
            "optimality_gap": derived.optimality_gap,
            "budgets": cost.placed(derived.architecture, plan.budgets),
        }
        network = None
        if net is not None:
            network = build_model(derived.architecture, start_from=net)
        print(f"Found by {summary['method']}")
        budgeted.record(plan, derived.architecture, summary, network)
        budgeted.finish(plan, summary, {"seconds": seconds, **found.record})
        return EXIT_DONE if derived.in_band else EXIT_OUTSIDE_BAND
