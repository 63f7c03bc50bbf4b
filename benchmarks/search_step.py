"""Measures a search step against a stock Keras training step of the unpruned network.

    python benchmarks/search_step.py --depth 20 --batch_size 128
    python benchmarks/search_step.py --depth 20 --memory
    python benchmarks/search_step.py --depth 20 --profile 12

One line for each step, all of them measured in turn in one run: a training step of the unpruned
network of stock Keras layers, of ours in float32 and bfloat16, and both halves of a search step at
the start of a search (logits near zero, temperature 5) and settled (logits +6 at an architecture
that keeps 45 % of the MACs, `benchmarks/settled/`, temperature 0.1). `paths` is a step of a search
by measurement, as our specs have it: single paths, uniformly random, another one each time, zero
padding, streams as in the derived network. Pixels are random.
`--memory` gives the peak memory of fresh processes instead, `--profile N` the N operations that the
search step spends most time in.
"""

import collections
import os
import pathlib
import tempfile
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measuring
import numpy as np
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.models.supernet import Supernet
from tas_tf.spaces import cost
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.architecture_search import ArchitectureSearch
from tas_tf.training.optimizers import SGD, Adam
from tas_tf.training.path_search import PathSearch
from tas_tf.training.supervised import Training

SETTLED = pathlib.Path(__file__).parent / "settled"
IMAGENET = (18, 34, 50)
STOCK = "stock float32"
STEPS = (STOCK, "ours float32", "ours bfloat16", "search float32", "search bfloat16")
STEPS += ("paths float32", "paths bfloat16")
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
PROFILED_STEPS = 5


class Steps:
    """Makes the steps that are measured; each is called without arguments.

    Args:
        depth: Layers of the network.
        batch_size: Images of a training step, and of each half of a search step.
        shapes: See `supernet.Supernet`.
    """

    def __init__(self, depth: int, batch_size: int, shapes: str):
        family = "imagenet_resnet" if depth in IMAGENET else "cifar_resnet"
        self.space = SearchSpace.resnet(depth, family=family, num_classes=10)
        self.depth, self.shapes = depth, shapes
        images = [tf.random.normal((batch_size, *self.space.input_shape)) for _ in range(2)]
        labels = tf.random.uniform((batch_size,), 0, 10, tf.int32)
        self.halves = [(pixels, labels) for pixels in images]

    def make(self, name: str) -> Callable[[], object]:
        """Returns a step by its name: `stock float32`, `ours bfloat16`, ..."""
        kind, precision = name.split()
        policy = PRECISIONS[precision]
        if kind in ("stock", "ours"):
            keras.config.set_dtype_policy(policy)
            layers = keras.layers if kind == "stock" else TRAINING_LAYERS
            training = Training(build_model(self.space.unpruned(), layers))
            keras.config.set_dtype_policy("float32")
            training.compile(SGD(0.01))
            return self._counted(lambda step: training.train_step(self.halves[0], step))
        return self._paths(policy) if kind == "paths" else self._search(policy)

    def states(self, search: ArchitectureSearch) -> dict[str, Callable[[], None]]:
        """Returns what puts a search into each of the states that are measured."""
        architecture = Architecture.from_json((SETTLED / f"resnet{self.depth}.json").read_text())
        draw = search.supernet.fixed_draw(architecture)
        width, depth = (v.numpy() for v in search.supernet.architecture_variables)
        settled = width.copy()
        settled[np.arange(len(width)), draw.indices.numpy()[:, 0]] += 6
        values = {
            "start": (width, depth, 5.0),
            "settled": (settled, depth + 6 * draw.depth_weights.numpy(), 0.1),
        }

        def put(state):
            variables = (*search.supernet.architecture_variables, search.temperature)
            for variable, value in zip(variables, values[state], strict=True):
                variable.assign(value)

        return {state: lambda state=state: put(state) for state in values}

    def _search(self, policy: str) -> dict[str, Callable[[], object]]:
        net = Supernet(self.space, shapes=self.shapes, dtype=policy)
        search = ArchitectureSearch(net)
        search.compile(SGD(0.01), Adam(1e-3), target=0.45)
        search.phase = "search"
        step = self._counted(lambda number: search.train_step(self.halves, number))

        def measured(put):
            put()
            return step()

        return {s: lambda put=put: measured(put) for s, put in self.states(search).items()}

    def _paths(self, policy: str) -> Callable[[], object]:
        net = Supernet(
            self.space, aggregation="pad", streams="derived", shapes=self.shapes, dtype=policy
        )
        search = PathSearch(net)
        search.compile(SGD(0.01), cost.parse_targets(0.45, self.space))
        return self._counted(lambda step: search.train_step(self.halves[0], step))

    def _counted(self, function: Callable[[tf.Tensor], dict]) -> Callable[[], object]:
        traced = tf.function(function, autograph=False, jit_compile=False)
        calls = iter(range(2**31))

        def step():
            return [value.numpy() for value in traced(tf.constant(next(calls), tf.int64)).values()]

        return step


def make_all(steps: Steps, names: list[str]) -> dict[str, Callable[[], object]]:
    """Returns the steps by name; a search gives one for each of its states."""
    made = {}
    for name in names:
        step = steps.make(name)
        if isinstance(step, dict):
            made |= {f"{name}, {state}": member for state, member in step.items()}
        else:
            made[name] = step
    return made


def operations(step: Callable[[], object], count: int) -> list[dict[str, object]]:
    """Returns the operations that take most of a step, by TensorFlow's profiler.

    Operations run side by side: their times add up to more than the step's.
    """
    step()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(PROFILED_STEPS):
                step()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    times, calls = collections.Counter(), collections.Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            # Operations are named "path/of/the/node:Type".
            if "::" in name or ":" not in name or name[0] == "$" or "inference" in name:
                continue
            operation = name.rsplit(":", 1)[1].split("#")[0]
            times[operation] += event.duration_ps / 1e9 / PROFILED_STEPS
            calls[operation] += 1 / PROFILED_STEPS
    total = times.total()
    return [
        {
            "operation": operation,
            "ms per step": milliseconds,
            "calls": round(calls[operation]),
            "share": f"{milliseconds / total:.1%}",
        }
        for operation, milliseconds in times.most_common(count)
    ]


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--shapes", default="auto", help="static or drawn, see Supernet")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--memory", action="store_true", help="peak memory of fresh processes")
    parser.add_argument("--profile", type=int, metavar="N", help="the N operations that take most")
    parser.add_argument("--once", action="store_true", help="run each step twice, print nothing")
    flags = parser.parse_args()
    names = flags.steps.split(",")
    what = {"depth": flags.depth, "batch_size": flags.batch_size, "shapes": flags.shapes}
    if flags.memory:
        common = [f"--{name}={value}" for name, value in what.items()]
        peaks = {
            name: measuring.peak_memory([__file__, *common, f"--steps={name}", "--once"])
            for name in names
        }
        rows = [
            {"step": name, "peak MiB": peak, "ratio": peak / peaks.get(STOCK, peak)}
            for name, peak in peaks.items()
        ]
        measuring.report(rows, flags.json, **what)
        return
    steps = make_all(Steps(**what), names)
    if flags.once:
        for step in list(steps.values()) * 2:
            step()
        return
    if flags.profile:
        searches = {
            name: step for name, step in steps.items() if name.startswith(("search", "paths"))
        }
        for name, step in searches.items():
            print(f"\n{name}")
            measuring.report(operations(step, flags.profile), None)
        return
    times = measuring.interleaved(steps, flags.repeats)
    rows = [
        {
            "step": name,
            "median ms": found.median_ms,
            "quartiles": f"{found.lower_ms:.0f} to {found.upper_ms:.0f}",
            "ratio": found.median_ms / times[STOCK].median_ms if STOCK in times else "",
            "first step s": found.first_s,
        }
        for name, found in times.items()
    ]
    measuring.report(rows, flags.json, **what)


if __name__ == "__main__":
    main()
