"""The root function of a derivation: further budgets from a finished search."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tas_tf.errors import EXIT_DONE, EXIT_OUTSIDE_BAND, RunDirectoryError
from tas_tf.experiments import common, messages
from tas_tf.models import network_files
from tas_tf.runtime import files
from tas_tf.runtime.run_directory import ARCHITECTURE, RESULT, RunDirectory
from tas_tf.spaces import cost, derivation
from tas_tf.spaces.latency_table import kinds
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import search_records
from tas_tf.training.search_records import LATENCY_TABLE, LOGITS


def run_derive(
    run_dir: str,
    dry_run: bool,
    space: Callable[..., SearchSpace],
    targets: Sequence[float | str | Sequence[float | str]],
    tolerance: float | None = None,
    latency_table: str | None = None,
) -> int:
    """Derives architectures for several budgets from one finished search.

    Args:
        run_dir: The search's run directory; gets `derived/TARGET/architecture.json`.
        dry_run: Whether only to say what would be done.
        space: Makes the search space that was searched.
        targets: Budgets, or lists of budgets to meet at once; one architecture for each.
        tolerance: Relative width of the budgets' bands; None takes the search's.
        latency_table: Path of a table of latencies; None takes the search's, if it has one.

    Returns:
        The exit code: `EXIT_OUTSIDE_BAND` if one of them lies outside its band.
    """
    directory = RunDirectory(run_dir)
    if not directory.exists(LOGITS):
        raise RunDirectoryError(f"{directory.path} holds no finished search ({LOGITS} is missing)")
    if tolerance is None:
        tolerance = directory.read_json(RESULT, ("tolerance",))["tolerance"]
    common.check_ranges(run_derive, tolerance=tolerance)
    found = network_files.load_architecture(directory.path)
    searched = space(num_classes=found.num_classes, input_shape=found.input_shape)
    logits = search_records.read_logits(directory, searched)
    if latency_table is None and directory.exists(LATENCY_TABLE):
        latency_table = directory.path
    latency = common.load_latency(latency_table, searched)
    budgets = [
        cost.parse_targets(target, searched, tolerance, kinds(latency)) for target in targets
    ]
    for several in budgets:
        derivation.check_reachable(searched, several)
    messages.say_latency(latency)
    code = EXIT_DONE
    for target, several in zip(targets, budgets, strict=True):
        messages.say_space(searched, several)
        if dry_run:
            continue
        derived = derivation.derive(searched, *logits, several)
        summary = derived.summary(several)
        architecture = common.with_origin(derived.architecture, searched, summary, latency)
        name = re.sub(r"[^\w.]+", "_", str(target)).strip("_")
        path = directory.file("derived", name, ARCHITECTURE)
        files.make_folder(directory.file("derived", name))
        files.write_whole(path, architecture.to_json())
        messages.say_derivation(summary, several, path)
        code = code if derived.in_band else EXIT_OUTSIDE_BAND
    return code
