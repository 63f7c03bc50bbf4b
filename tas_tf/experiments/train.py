"""The training of a network, plain or with distillation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import keras

from tas_tf.config import gin_config, presets
from tas_tf.data.batches import Feed
from tas_tf.data.image_data import DataInfo, ImageData
from tas_tf.errors import EXIT_DONE, ArchitectureError, SpecError
from tas_tf.experiments import common, messages, networks, provenance
from tas_tf.models import derived, network_files
from tas_tf.models.derived import without_softmax
from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.runtime import devices, files
from tas_tf.runtime.checkpoints import CheckpointInterval
from tas_tf.runtime.run_directory import ARCHITECTURE, MODEL, RESULT, RunDirectory
from tas_tf.spaces import cost
from tas_tf.spaces.model_space import ModelArchitecture
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.schedules import warm_cosine
from tas_tf.training.supervised import Training, evaluate


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What a training is known to do before anything is built or written.

    Args:
        directory: The run directory.
        config: The resolved configuration.
        peak: The largest learning rate.
        architecture: What is trained.
        teacher: The network to learn from, if there is one.
        start: The network whose weights are the first ones, if there is one.
    """

    directory: RunDirectory
    config: str
    peak: float
    architecture: Any
    teacher: keras.Model | None
    start: keras.Model | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingExperiment:
    """Trains a network from scratch, with distillation where there is a teacher.

    Args:
        run_dir: The run directory.
        dry_run: Whether only to say what would be done.
        profile_steps: First and last step of a profile for TensorBoard; None makes none.
        data: The images.
        space: Makes the search space, whose unpruned network is trained without `architecture`.
        optimizer: Moves the weights; its learning rate rises over the warm-up, then falls to 0.
        epochs: Epochs.
        batch_size: Images in a step.
        warmup_epochs: Epochs of linear warm-up, cut to a third of all where they are few.
        architecture: Path of an architecture file or of a search's run directory, or name of a
            published network such as `tas_resnet56_cifar100`; None trains the unpruned network.
        teacher: Run directory of the network to learn from.
        start_from: Run directory of a search or a training of the same architecture, whose weights
            are the first ones; None starts from scratch.
        distillation_alpha: Weight of the teacher.
        distillation_temperature: Temperature of the distillation.
        seed: Seed of everything.
        precision: What maps and kernels are computed in, the teacher's too. Variables, statistics
            and logits, what is saved and what is tested are float32.
        checkpoints: How often the training saves one within an epoch.
    """

    NAME: ClassVar[str] = "run_training"

    run_dir: str
    dry_run: bool
    profile_steps: tuple[int, int] | None
    data: ImageData
    space: Callable[..., SearchSpace]
    optimizer: keras.optimizers.Optimizer
    epochs: int
    batch_size: int
    warmup_epochs: int = 5
    architecture: str | None = None
    teacher: str | None = None
    start_from: str | None = None
    distillation_alpha: float = 0.9
    distillation_temperature: float = 4.0
    seed: int = 0
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    checkpoints: CheckpointInterval | None = None

    def run(self) -> int:
        """Runs it; returns the exit code."""
        plan = self._check()
        if self.dry_run:
            return EXIT_DONE
        if plan.directory.exists(RESULT):
            return common.say_done(plan.directory)
        self.data.prepare(self.seed)
        feed = self.data.training(self.batch_size, self.seed)
        training = self._build(plan, feed)
        with common.opened(plan.directory, plan.config, self.data):
            known = {"teacher": plan.teacher, "start_from": plan.start}
            networks.record_networks(plan.directory, known)
            if isinstance(plan.architecture, ModelArchitecture):
                base = plan.architecture.space.model
                network_files.write_model(base, plan.directory, presets.BASE)
            files.write_whole(plan.directory.file(ARCHITECTURE), plan.architecture.to_json())
            seconds = common.fit(
                training,
                feed,
                title="distillation" if plan.teacher is not None else "training",
                epochs=self.epochs,
                directory=plan.directory,
                interval=self.checkpoints,
                profile_steps=self.profile_steps,
            )
            tested = self._finish(training, plan, seconds)
        print(f"Test accuracy: {tested['accuracy']:.2%} of {tested['images']:,} images")
        print(f"Model: {plan.directory.file(MODEL)}")
        return EXIT_DONE

    def _check(self) -> _Plan:
        """Refuses whatever can be refused before anything is built, and says what will be done."""
        peak = common.peak(self.optimizer)
        directory, config, info = common.begin(
            self.NAME,
            self.run_dir,
            self.data,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            warmup_epochs=self.warmup_epochs,
            distillation_alpha=self.distillation_alpha,
            distillation_temperature=self.distillation_temperature,
        )
        architecture = self._architecture(info)
        if isinstance(architecture, ModelArchitecture) and self.precision != "float32":
            raise SpecError(
                f"{gin_config.described(f'{self.NAME}.precision')}: a network of own_model is "
                f"trained in float32. Received: {self.precision}"
            )
        teacher = common.load_network(self.teacher, "teacher", info, self.precision)
        start = common.load_network(self.start_from, "start_from", info)
        known = {"teacher": teacher, "start_from": start}
        networks.check_architecture(directory, architecture)
        networks.check_networks(directory, known)
        messages.say_what("Training", directory, info, self.epochs, self.batch_size)
        messages.say_network(architecture, self.teacher)
        messages.say_how(self.precision)
        return _Plan(
            directory=directory,
            config=config,
            peak=peak,
            architecture=architecture,
            teacher=teacher,
            start=start,
        )

    def _architecture(self, info: DataInfo) -> Any:
        """Returns what is trained, with its costs."""
        if self.architecture is None:
            space = self.space(num_classes=info.num_classes, input_shape=info.input_shape)
            return common.with_cost(space.unpruned(), {"origin": "unpruned"})
        path = self.architecture
        architecture = network_files.load_architecture(presets.find_architecture(path))
        received = (architecture.input_shape, architecture.num_classes)
        if received != (info.input_shape, info.num_classes):
            raise ArchitectureError(
                f"architecture: {path} takes images {received[0]} and gives {received[1]} "
                f"classes; {info.dataset} has images {info.input_shape} and {info.num_classes} "
                "classes"
            )
        provenance.say_found_on(path, info.identity)
        return common.with_cost(architecture, architecture.provenance)

    def _build(self, plan: _Plan, feed: Feed) -> Training:
        """Returns the training, its network started from another where one is given."""
        devices.set_seed(self.seed)
        if isinstance(plan.architecture, ModelArchitecture):
            model = without_softmax(derived.build_model(plan.architecture))
        else:
            with common.computing_in(self.precision):
                model = build_model(plan.architecture, TRAINING_LAYERS)
        if plan.start is not None:
            network_files.copy_weights(plan.start, model, "start_from")
        data, batch_size = self.data, self.batch_size
        training = Training(
            model,
            plan.teacher,
            alpha=self.distillation_alpha,
            temperature=self.distillation_temperature,
            holdout=(lambda: data.evaluation("holdout", batch_size)) if data.holdout else None,
        )
        warmup = min(self.warmup_epochs, self.epochs // 3) * feed.steps_per_epoch
        schedule = warm_cosine(plan.peak, self.epochs * feed.steps_per_epoch, warmup)
        training.compile(self.optimizer, schedule)
        return training

    def _unpruned(self, architecture: ModelArchitecture) -> dict[str, Any]:
        """Returns what the whole model of one's own costs and reaches."""
        model = without_softmax(architecture.space.model)
        tested = evaluate(model, self.data.evaluation("test", self.batch_size))
        print(f"The whole model's test accuracy: {tested['accuracy']:.2%}")
        return {"test": tested, "cost": cost.costs(architecture.space.unpruned())}

    def _finish(self, training: Training, plan: _Plan, seconds: float) -> dict[str, float]:
        """Saves and tests the network, and records all that came out; returns the test."""
        saved = network_files.save_model(training.model, plan.architecture, plan.directory)
        # The test split is read now, after the training, and never before.
        tested = evaluate(without_softmax(saved), self.data.evaluation("test", self.batch_size))
        result: dict[str, Any] = {"test": tested, "cost": plan.architecture.cost}
        result["seconds"] = seconds
        architecture = plan.architecture
        # A base that is trained whole has nothing to compare with: it may not have been trained.
        if isinstance(architecture, ModelArchitecture) and self.architecture is not None:
            result["unpruned"] = self._unpruned(architecture)
        common.record_end(
            plan.directory,
            int(training.step.numpy()),
            plan.architecture,
            test_accuracy=tested["accuracy"],
        )
        plan.directory.write_json(RESULT, result)
        return tested
