"""The root function of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import keras

from tas_tf.config import presets
from tas_tf.data.image_data import DataInfo, ImageData
from tas_tf.errors import EXIT_DONE, ArchitectureError
from tas_tf.experiments import common, messages
from tas_tf.experiments.common import say_done
from tas_tf.models import network_files
from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.runtime import devices, files, run_directory
from tas_tf.runtime.checkpoints import CheckpointInterval
from tas_tf.runtime.run_directory import ARCHITECTURE, RESULT
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.schedules import warm_cosine
from tas_tf.training.supervised import Training, evaluate


def run_training(
    run_dir: str,
    dry_run: bool,
    profile_steps: tuple[int, int] | None,
    data: ImageData,
    space: Callable[..., SearchSpace],
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    batch_size: int,
    warmup_epochs: int = 5,
    architecture: str | None = None,
    teacher: str | None = None,
    start_from: str | None = None,
    distillation_alpha: float = 0.9,
    distillation_temperature: float = 4.0,
    seed: int = 0,
    precision: Literal["float32", "mixed_bfloat16"] = "float32",
    checkpoints: CheckpointInterval | None = None,
) -> int:
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

    Returns:
        The exit code.
    """
    peak = common.peak(optimizer)
    directory, config, info = common.begin(
        run_training,
        run_dir,
        data,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        warmup_epochs=warmup_epochs,
        distillation_alpha=distillation_alpha,
        distillation_temperature=distillation_temperature,
    )
    compiled = _architecture_to_train(architecture, space, info)
    guide = common.load_network(teacher, "teacher", info, precision)
    start = common.load_network(start_from, "start_from", info)
    messages.say_what("Training", directory, info, epochs, batch_size)
    messages.say_network(compiled, teacher)
    messages.say_how(precision)
    if dry_run:
        return EXIT_DONE
    if directory.exists(RESULT):
        return say_done(directory)

    data.prepare(seed)
    feed = data.training(batch_size, seed)
    devices.set_seed(seed)
    with common.computing_in(precision):
        model = build_model(compiled, TRAINING_LAYERS)
    if start is not None:
        network_files.copy_weights(start, model, "start_from")
    warmup = min(warmup_epochs, epochs // 3) * feed.steps_per_epoch
    schedule = warm_cosine(peak, epochs * feed.steps_per_epoch, warmup)
    holdout = (lambda: data.evaluation("holdout", batch_size)) if data.holdout else None
    training = Training(model, guide, distillation_alpha, distillation_temperature, holdout)
    training.compile(optimizer, schedule)
    with common.opened(directory, config, data):
        files.write_whole(directory.file(ARCHITECTURE), compiled.to_json())
        title = "distillation" if guide is not None else "training"
        seconds = common.fit(title, training, feed, epochs, directory, checkpoints, profile_steps)
        saved = network_files.save_model(model, compiled, directory)
        # The one time that the test split is read.
        tested = evaluate(saved, data.evaluation("test", batch_size))
        result = {"test": tested, "cost": dict(compiled.cost), "seconds": seconds}
        directory.write_json(RESULT, result)
        step, accuracy = int(training.step.numpy()), tested["accuracy"]
        common.record_end(directory, step, compiled, test_accuracy=accuracy)
    print(f"Test accuracy: {tested['accuracy']:.2%} of {tested['images']:,} images")
    print(f"Model: {directory.file(run_directory.MODEL)}")
    return EXIT_DONE


def _architecture_to_train(
    path: str | None, space: Callable[..., SearchSpace], info: DataInfo
) -> Architecture:
    if path is None:
        searched = space(num_classes=info.num_classes, input_shape=info.input_shape)
        return common.with_cost(searched.unpruned(), {"origin": "unpruned"})
    architecture = network_files.load_architecture(presets.find_architecture(path))
    received = (architecture.input_shape, architecture.num_classes)
    if received != (info.input_shape, info.num_classes):
        raise ArchitectureError(
            f"architecture: {path} takes images {received[0]} and gives {received[1]} classes; "
            f"{info.dataset} has images {info.input_shape} and {info.num_classes} classes"
        )
    return common.with_cost(architecture, architecture.provenance)
