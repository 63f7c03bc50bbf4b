"""Measures whether networks within a budget of milliseconds take as long as it says.

    python benchmarks/latency_budget.py --folder=runs/latency_budget
    python benchmarks/latency_budget.py --folder=runs/latency_budget --network ResNet50 --size 160

For each network of `keras.applications`, with new weights: this device is profiled (LiteRT, one
thread, one image, as a search does), an architecture within the budget is derived from logits that
are all zero, and its LiteRT file is timed in turn with the unpruned network's, three times. The
folder keeps tables and results: the same command goes on from there.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import json
import pathlib

import keras
import measuring
import numpy as np

from tas_tf.deployment import runners
from tas_tf.deployment.latency_profile import profile
from tas_tf.deployment.latency_runners import Setting
from tas_tf.deployment.running import random_images
from tas_tf.models.derived import build_model
from tas_tf.models.model_spaces import space_of
from tas_tf.spaces.cost import cost, parse_targets
from tas_tf.spaces.derivation import derive
from tas_tf.spaces.latency_table import LatencyTable, kinds

NETWORKS = ("MobileNetV2", "ResNet50", "EfficientNetB0")
SETTING = Setting("litert", 1, 1)
REPEATS, SECONDS = 3, 0.03


def table_of(space, file: pathlib.Path) -> LatencyTable:
    """Returns the table of a space, measured now unless it lies there."""
    if not file.exists():
        return profile(space, str(file), SETTING, SECONDS)
    table = LatencyTable.from_json(file.read_text(), str(file))
    table.check(space)
    return table


def ratios(model: keras.Model, small: keras.Model, rounds: int) -> tuple[list[float], float]:
    """Returns shares of the whole model's time, and that time in milliseconds."""
    calls = {}
    for name, each in (("unpruned", model), ("derived", small)):
        network = runners.runner(each, *vars(SETTING).values())
        network.load(random_images(each, SETTING.batch_size))
        calls[name] = network.run
    clock = runners.clock_of(SETTING.runtime, SETTING.threads)
    runners.in_turn(calls, runners.WARM_ROUNDS, clock)
    shares, whole = [], []
    for _ in range(REPEATS):
        times = runners.in_turn(calls, rounds, clock)
        whole.append(float(np.median(times["unpruned"])))
        shares.append(float(np.median(times["derived"])) / whole[-1])
    return shares, float(np.median(whole))


def measured(name: str, size: int, target: str, folder: pathlib.Path, rounds: int) -> dict:
    """Returns what is said of one network."""
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    space = space_of(model)
    table = table_of(space, folder / f"{name}_{size}.json")
    budgets = parse_targets(target, space, kinds=kinds(table))
    zeros = np.zeros((len(space.choices), max(len(c.candidates) for c in space.choices)))
    derived = derive(space, zeros, np.zeros((0, 2)), budgets).architecture
    shares, whole = ratios(model, build_model(derived), rounds)
    said = table.error
    return {
        "network": name,
        "pixels": size,
        "unpruned ms": whole,
        "table's mean, largest error": f"{said['mean']:.1%}, {said['largest']:.1%}",
        "MACs": f"{cost(derived) / cost(space.unpruned()):.1%}",
        "by the table": f"{cost(derived, table.kind) / budgets[0].unpruned:.1%}",
        "measured": f"{np.median(shares):.1%}",
        "repeats": ", ".join(f"{share:.1%}" for share in shares),
    }


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--network", choices=NETWORKS, nargs="+", default=NETWORKS)
    parser.add_argument("--size", type=int, default=224, help="pixels along a side")
    parser.add_argument("--target", default="latency: 0.6")
    parser.add_argument("--rounds", type=int, default=40)
    flags = parser.parse_args()
    flags.folder.mkdir(parents=True, exist_ok=True)
    file = flags.folder / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in flags.network:
        key = f"{name}, {flags.size}, {flags.target}"
        if key not in results:
            results[key] = measured(name, flags.size, flags.target, flags.folder, flags.rounds)
            file.write_text(json.dumps(results, indent=2) + "\n")
        print(results[key], flush=True)
    measuring.report([*results.values()], flags.json)


if __name__ == "__main__":
    main()
