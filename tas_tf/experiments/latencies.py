"""The table of latencies of a run: given by path, kept from before, or measured on this device."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import tempfile
from typing import Any, cast

import tensorflow as tf

from tas_tf.config import gin_config
from tas_tf.deployment import formats, runners
from tas_tf.deployment.latency_profile import profile, times_of
from tas_tf.deployment.latency_runners import Setting
from tas_tf.deployment.latency_subjects import Subjects, subjects_of
from tas_tf.errors import BudgetError, SpecError, UserError
from tas_tf.runtime import cluster, devices, files
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.cost import LATENCY, read_target, shown
from tas_tf.spaces.latency_table import LatencyTable
from tas_tf.spaces.model_space import ModelSpace
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.search_records import LATENCY_TABLE

# About how long a layer or a network is timed within a run, in processor time and by the clock on
# the wall, whose times differ more; `profile_device` takes more.
_ALONE_SECONDS, _WALL_SECONDS = 0.01, 0.05
# What the smallest network takes is refused as a budget below this part of it: it is timed quickly.
_SURELY, _FLOOR_SECONDS = 0.95, 1.0
_SETTING = re.compile(r"\s*(\w+)\s*(?:,\s*batch\s+([1-9]\d*)\s*)?(?:,\s*threads\s+([1-9]\d*)\s*)?")


@dataclasses.dataclass(frozen=True)
class Asked:
    """What targets ask for.

    Args:
        targets: The targets, as `cost.parse_targets` takes them.
        setting: Where milliseconds are measured; None if no target is of latency.
        is_said: Whether a target says where: `'latency: 0.6 @ litert_int8, batch 1, threads 1'`.
    """

    targets: Any
    setting: Setting | None
    is_said: bool


def asked(targets: Any) -> Asked:
    """Takes apart what targets say of costs, and of where milliseconds are measured.

    Args:
        targets: As a spec gives them.

    Raises:
        BudgetError: If it cannot be read where, other costs are measured somewhere, or there are
            several budgets of milliseconds.
    """
    several = [*targets] if isinstance(targets, (list, tuple)) else [targets]
    settings: list[Setting] = []
    for number, target in enumerate(several):
        if isinstance(target, str) and "@" in target:
            what, where = target.split("@", 1)
            several[number] = what.rstrip()
            if not _is_latency(several[number]):
                raise BudgetError(
                    f"expected '@' behind a budget of latency alone. Received: {target!r}",
                    field="target",
                )
            settings.append(_setting(where, target))
    if sum(map(_is_latency, several)) > 1:
        raise BudgetError(
            f"expected one budget of latency at most. Received: {targets!r}", field="target"
        )
    plain = several if isinstance(targets, (list, tuple)) else several[0]
    if settings:
        return Asked(plain, settings[0], is_said=True)
    setting = _default() if any(map(_is_latency, several)) else None
    return Asked(plain, setting, is_said=False)


def _is_latency(target: Any) -> bool:
    return isinstance(target, str) and target.strip().startswith(LATENCY)


def _setting(where: str, target: str) -> Setting:
    match = _SETTING.fullmatch(where)
    if match is None:
        raise BudgetError(
            "expected text such as 'latency: 0.6 @ litert_int8, batch 1, threads 1'. Received: "
            f"{target!r}",
            field="target",
        )
    runtime, batch_size, threads = match.groups()
    try:
        formats.check_runtime(runtime)
    except UserError as error:
        raise type(error)(error.message, field="target") from None
    own = devices.threads() if formats.FORMATS[runtime].by_tensorflow else 1
    return Setting(runtime, int(batch_size or 1), int(threads or own))


def _default() -> Setting:
    try:
        formats.check_runtime("litert")
    except UserError:
        return Setting("saved_model", 1, devices.threads())
    return Setting("litert", 1, 1)


def table_for(
    asked: Asked,
    path: str | None,
    space: SearchSpace | ModelSpace,
    directory: RunDirectory,
    dry_run: bool,
) -> LatencyTable | None:
    """Returns the table that budgets of latency need; None without such a budget.

    A table that is given by path comes first, then that of the run directory, then what this
    device, runtime, batch, threads and layers had before. Else this device is profiled now.

    Args:
        asked: What targets ask for.
        path: A table's path, or that of the run directory of a search that had one.
        space: The search space.
        directory: The run directory.
        dry_run: Whether to say what would be measured, and return None.

    Raises:
        SpecError: If the table is of another space or setting, or none can be measured here.
    """
    if path is None and asked.setting is None:
        return None
    if path is None and directory.exists(LATENCY_TABLE):
        path = directory.path
    if path is None and asked.setting is not None:
        return _of_this_device(space, asked, dry_run)
    return _checked(load(str(path), space), asked)


def _of_this_device(
    space: SearchSpace | ModelSpace, asked: Asked, dry_run: bool
) -> LatencyTable | None:
    """Returns what was measured here before, or is now; None in a dry run that would measure."""
    setting, subjects = cast(Setting, asked.setting), subjects_of(space)
    kept = _kept_at(subjects, setting)
    if tf.io.gfile.exists(kept):
        with contextlib.suppress(SpecError):  # damaged: it is measured anew
            return load(kept, space)
    when = "would be profiled first" if dry_run else "is profiled first"
    print(f"Latency: this device {when}, in {setting}: {subjects}; kept in {kept}")
    if dry_run:
        print("Budget: its milliseconds are known then")
        return None
    _check_measurable(setting)
    check_floor(subjects, asked.targets, setting)
    return profile(space, kept, setting, hasty_seconds(setting))


def hasty_seconds(setting: Setting) -> float:
    """Returns about how long a layer or a network is timed within a run."""
    is_alone = runners.is_alone(setting.runtime, setting.threads)
    return _ALONE_SECONDS if is_alone else _WALL_SECONDS


def check_floor(subjects: Subjects, targets: Any, setting: Setting) -> None:
    """Refuses a budget below what the smallest network takes, before the device is profiled.

    Args:
        subjects: What is measured of the space.
        targets: The targets.
        setting: Where it is measured.

    Raises:
        BudgetError: With what can be reached.
    """
    ends = subjects.networks[:2]  # the unpruned network and the smallest
    unpruned, least = times_of(subjects, ends, setting, _FLOOR_SECONDS)
    for target in targets if isinstance(targets, (list, tuple)) else [targets]:
        name, amount, is_share = read_target(target)
        nanoseconds = amount * unpruned if is_share else amount
        if name == LATENCY and nanoseconds < _SURELY * least:
            raise BudgetError(
                f"no architecture of the space takes {shown(nanoseconds, LATENCY)} in {setting}. "
                f"Reachable are {shown(least, LATENCY)} to {shown(unpruned, LATENCY)}, that is "
                f"{least / unpruned:.3f} to 1.000 of the unpruned network, as timed here. "
                f"Received: {target!r}",
                field="target",
            )


def load(path: str, space: SearchSpace | ModelSpace) -> LatencyTable:
    """Reads a table of latencies, which must have all layers or pieces of a space.

    Args:
        path: The table's file, or the run directory of a search that had one.
        space: The search space.

    Raises:
        SpecError: If it is missing, malformed, or of another space.
    """
    path = os.path.expanduser(path)
    file = f"{path}/{LATENCY_TABLE}" if tf.io.gfile.isdir(path) else path
    try:
        content = files.read_text(file)
    except (tf.errors.OpError, OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"{gin_config.described('run_search.latency_table')}: {file} cannot be read: "
            f"{files.first_line(error)}"
        ) from None
    table = LatencyTable.from_json(content, file)
    table.check(space)
    return table


def _checked(table: LatencyTable, asked: Asked) -> LatencyTable:
    """Refuses a table that was measured elsewhere than a target says."""
    own = Setting(table.runtime, table.batch_size, table.threads)
    if asked.is_said and own != asked.setting:
        raise SpecError(
            f"expected what {table.source} was measured in: '{LATENCY}: ... @ {own}', "
            f"or no '@'. Received: @ {asked.setting}",
            field="target",
        )
    return table


def _kept_at(subjects: Subjects, setting: Setting) -> str:
    """Returns where the table of this device, setting and parts is kept for further runs."""
    parts: list[Any] = [
        [dataclasses.asdict(part), *widths] for part, widths in subjects.grids.items()
    ]
    # Which networks it was fitted to: those of a model, but ResNets of any depth.
    parts += [subjects.space["fingerprint"]] if "fingerprint" in subjects.space else []
    told = [runners.describe_device(setting.runtime), dataclasses.asdict(setting), parts]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(root, "tas_tf", "latency")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:  # no home, or one that cannot be written to
        folder = os.path.join(tempfile.gettempdir(), f"tas_tf-{os.getuid()}")
        os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, f"{digest}.json")


def _check_measurable(setting: Setting) -> None:
    """Refuses to profile where several workers search, or with another number of threads."""
    if cluster.current() is not None:
        raise SpecError(
            "expected a table of latencies where several workers search, from python -m "
            "tas_tf.profile_device",
            field="latency_table",
        )
    by_tensorflow = formats.FORMATS[setting.runtime].by_tensorflow
    if by_tensorflow and setting.threads != devices.threads():
        raise SpecError(
            f"TensorFlow has {devices.threads()} threads here, and keeps them: leave `threads` "
            "out, or measure by python -m tas_tf.profile_device "
            f"--runtime={setting.runtime} --threads={setting.threads} --output=table.json, and "
            "bind run_search.latency_table = 'table.json'",
            field="target",
        )
