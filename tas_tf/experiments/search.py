"""The root function of a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import keras

from tas_tf.data.image_data import ImageData, paired
from tas_tf.errors import EXIT_DONE, EXIT_OUTSIDE_BAND
from tas_tf.experiments import common, messages
from tas_tf.experiments.common import say_done
from tas_tf.models import network_files
from tas_tf.models.inheritance import inherit_weights, order_channels
from tas_tf.models.spec_compiler import build_model
from tas_tf.models.supernet import Supernet
from tas_tf.runtime import devices, files
from tas_tf.runtime.checkpoints import CheckpointInterval
from tas_tf.runtime.run_directory import ARCHITECTURE, RESULT, RunDirectory
from tas_tf.spaces import cost, derivation
from tas_tf.spaces.latency_table import LatencyTable, kinds
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import search_records
from tas_tf.training.architecture_search import ArchitectureSearch
from tas_tf.training.schedules import warm_cosine
from tas_tf.training.search_records import LOGITS


def run_search(
    run_dir: str,
    dry_run: bool,
    profile_steps: tuple[int, int] | None,
    data: ImageData,
    space: Callable[..., SearchSpace],
    supernet: Callable[..., Supernet],
    optimizer: keras.optimizers.Optimizer,
    arch_optimizer: keras.optimizers.Optimizer,
    temperature: Callable[[int, int], float],
    target: float | str | Sequence[float | str],
    epochs: int,
    batch_size: int,
    seed: int = 0,
    cost_weight: float = 2.0,
    tolerance: float = 0.05,
    cost_band: Literal["paper", "published"] = "paper",
    weight_warmup_epochs: int = 0,
    start_from: str | None = None,
    order_by_importance: bool = False,
    cost_formula: Literal["built", "published"] = "built",
    latency_table: str | None = None,
    checkpoints: CheckpointInterval | None = None,
) -> int:
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
        cost_band: `paper` or `published`.
        weight_warmup_epochs: Epochs in which only the weights move.
        start_from: Run directory of the trained unpruned network that the supernet starts from.
        order_by_importance: Whether its channels are put in order of importance first.
        cost_formula: `built`, or `published` for comparison with the published code.
        latency_table: Path of what `python -m tas_tf.profile_device` measured, or of the run
            directory of a search that had it; a budget of latency needs it.
        checkpoints: How often the search saves one within an epoch.

    Returns:
        The exit code: `EXIT_OUTSIDE_BAND` if no architecture lies in the band.
    """
    peak, _ = common.peak(optimizer), common.peak(arch_optimizer)
    directory, config, info = common.begin(
        run_search,
        run_dir,
        data,
        parts=2,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        tolerance=tolerance,
        cost_weight=cost_weight,
        weight_warmup_epochs=weight_warmup_epochs,
        temperature=min(temperature(epoch, epochs) for epoch in (0, epochs - 1)),
    )
    searched = space(num_classes=info.num_classes, input_shape=info.input_shape)
    latency = common.load_latency(latency_table, searched)
    budgets = cost.parse_targets(target, searched, tolerance, kinds(latency))
    derivation.check_reachable(searched, budgets)
    search_records.check_latency(directory, latency)
    start = common.load_network(start_from, "start_from", info)
    messages.say_what("Search", directory, info, epochs, batch_size, halves=True)
    messages.say_space(searched, budgets)
    messages.say_latency(latency)
    if directory.exists(RESULT) and not dry_run:
        return say_done(directory)
    devices.set_seed(seed)
    net = supernet(searched)
    messages.say_how(net.dtype_policy.name, net.shapes)
    if dry_run:
        return EXIT_DONE

    data.prepare(seed)
    feed = paired(data, batch_size, seed)
    if start is not None:
        if order_by_importance:
            order_channels(start, searched.unpruned())
        images, _ = next(iter(data.training(batch_size, seed, "weights").batches(0, 1)))
        net.start_from(start, images)
    search = ArchitectureSearch(net, seed)
    search.compile(
        optimizer,
        arch_optimizer,
        target,
        temperature,
        cost_weight,
        tolerance,
        cost_band,
        weight_warmup_epochs,
        warm_cosine(peak, epochs * feed.steps_per_epoch),
        cost_formula,
        latency,
    )
    with common.opened(directory, config, data):
        search_records.write_space(directory, searched, budgets, latency)
        seconds = common.fit("search", search, feed, epochs, directory, checkpoints, profile_steps)
        return _finish_search(search, directory, seconds, latency)


def _finish_search(
    search: ArchitectureSearch,
    directory: RunDirectory,
    seconds: float,
    latency: LatencyTable | None,
) -> int:
    found = search.derivation()
    summary = found.summary(search.budgets)
    architecture = common.with_origin(found.architecture, search.supernet.space, summary, latency)
    files.write_whole(directory.file(ARCHITECTURE), architecture.to_json())
    entropies = search.entropies()
    messages.say_derivation(summary, search.budgets, directory.file(ARCHITECTURE))
    messages.say_entropies(entropies)
    # The derived network with the supernet's weights: what a training may start from.
    model = build_model(architecture)
    inherit_weights(model, architecture, search.supernet)
    network_files.save_model(model, architecture, directory)
    names = ("width_logits", "depth_logits")
    logits = {n: v.tolist() for n, v in zip(names, search.logits(), strict=True)}
    directory.write_json(LOGITS, logits)
    result = {"derivation": summary, "tolerance": search.budgets[0].tolerance}
    directory.write_json(RESULT, {**result, **entropies, "seconds": seconds})
    derived = {
        f"derived_{budget.kind.name}_ratio": architecture.cost[budget.kind.name] / budget.unpruned
        for budget in search.budgets
    }
    common.record_end(directory, int(search.step.numpy()), architecture, **derived)
    return EXIT_DONE if found.in_band else EXIT_OUTSIDE_BAND
