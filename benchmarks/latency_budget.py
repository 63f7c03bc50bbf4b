"""Measures whether networks within a budget of milliseconds take as long as it says.

    python benchmarks/latency_budget.py --folder=runs/latency_budget
    python benchmarks/latency_budget.py --folder=runs/latency_budget --network resnet20

For each network, runtime, batch and budget: this device is profiled, as a search does it, an
architecture within the budget is derived, from logits that are all zero (any in the band is as good
as another then) and from random ones, with the correction that a search makes, and it is timed in
turn with the unpruned network, three times. Times are lower quartiles, on one thread in processor
time where the runtime is not TensorFlow's. Networks of `keras.applications` have new weights. The
folder keeps tables and results: the same command goes on from there.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import itertools
import json
import pathlib

import keras
import measuring
import numpy as np

from tas_tf.deployment import formats, runners
from tas_tf.deployment.latency_profile import profile, share_of_time
from tas_tf.deployment.latency_runners import Setting
from tas_tf.deployment.latency_subjects import subjects_of
from tas_tf.errors import BudgetError
from tas_tf.experiments import kept
from tas_tf.experiments.latencies import check_floor, hasty_seconds
from tas_tf.models.model_spaces import space_of
from tas_tf.spaces.cost import cost, parse_targets
from tas_tf.spaces.derivation import derive
from tas_tf.spaces.latency_table import LatencyTable, kinds
from tas_tf.spaces.search_space import SearchSpace

RESNETS = {
    "resnet20": {"depth": 20},
    "resnet56": {"depth": 56},
    "resnet18": {"depth": 18, "num_classes": 1000, "family": "imagenet_resnet"},
}
APPLICATIONS = ("MobileNetV2", "ResNet50", "EfficientNetB0")
# What logits are drawn with, as a deviation.
LOGITS = {"zero": 0.0, "random": 1.0}
REPEATS, TOLERANCE = 3, 0.05


def space_named(name: str, size: int):
    """Returns the search space of a network; `size` is that of the images of an application."""
    if name in RESNETS:
        return SearchSpace.resnet(**RESNETS[name])
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    return space_of(make(weights=None, input_shape=(size, size, 3)))


def table_of(space, file: pathlib.Path, setting: Setting) -> LatencyTable:
    """Returns the table of a space, measured now unless it lies there."""
    if not file.exists():
        return profile(space, str(file), setting, hasty_seconds(setting))
    table = LatencyTable.from_json(file.read_text(), str(file))
    table.check(space)
    return table


def found(space, share: float, table: LatencyTable, logits: str) -> kept.Kept:
    """Returns what a search with such logits derives within a share of the milliseconds."""
    random = np.random.default_rng(0)
    scale = LOGITS[logits]
    widths = (len(space.choices), max(len(c.candidates) for c in space.choices))
    depths = (len(space.depths), max(map(len, space.depths), default=1))
    values = [scale * random.normal(size=shape) for shape in (widths, depths)]
    budgets = parse_targets(f"latency: {share}", space, TOLERANCE, kinds(table))
    return kept.keep(lambda several: (derive(space, *values, several), None), space, budgets, table)


def measured(space, share: float, logits: str, table: LatencyTable, seconds: float) -> dict:
    """Returns what is said of one architecture."""
    setting, unpruned = Setting(table.runtime, table.batch_size, table.threads), space.unpruned()
    row = {"asked": f"{share:.0%}", "logits": logits, "table's error": f"{table.error['mean']:.1%}"}
    try:
        check_floor(subjects_of(space), f"latency: {share}", setting)
        result = found(space, share, table, logits)
    except BudgetError as error:
        return row | {"measured": f"refused: {error.message}"}
    small, tries = result.derived.architecture, result.record["timed"]
    shares = [share_of_time(space, small, setting, seconds) for _ in range(REPEATS)]
    return row | {
        "measured": f"{np.median(shares):.1%}",
        "repeats": ", ".join(f"{each:.1%}" for each in shares),
        "by the table": f"{tries[0]['by_table']:.1%}",
        "before correction": f"{tries[0]['share']:.1%}",
        "derivations": len(tries),
        "MACs": f"{cost(small) / cost(unpruned):.1%}",
        "unpruned ms, by the table": f"{cost(unpruned, table.kind) / 1e6:.3g}",
    }


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--network", choices=(*RESNETS, *APPLICATIONS), nargs="+", default=RESNETS)
    parser.add_argument("--size", type=int, default=224, help="pixels of an application's images")
    parser.add_argument("--runtime", choices=formats.RUNTIMES, nargs="+", default=["litert"])
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--share", type=float, nargs="+", default=[0.4, 0.6, 0.8])
    parser.add_argument("--logits", choices=LOGITS, nargs="+", default=LOGITS)
    parser.add_argument("--seconds", type=float, default=1.0, help="for a pair, each time")
    flags = parser.parse_args()
    flags.folder.mkdir(parents=True, exist_ok=True)
    runners.use_threads(flags.threads)
    file = flags.folder / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for name, runtime in itertools.product(flags.network, flags.runtime):
        setting = Setting(runtime, flags.batch_size, flags.threads)
        key = f"{name}, {flags.size}, {setting}"
        space = space_named(name, flags.size)
        table = table_of(space, flags.folder / f"{key}.json", setting)
        for share, logits in itertools.product(flags.share, flags.logits):
            of_this = f"{key}, {share}, {logits}"
            if of_this not in results:
                row = measured(space, share, logits, table, flags.seconds)
                results[of_this] = {"network": name, "setting": str(setting), **row}
                file.write_text(json.dumps(results, indent=2) + "\n")
            print(results[of_this], flush=True)
    measuring.report([*results.values()], flags.json)


if __name__ == "__main__":
    main()
