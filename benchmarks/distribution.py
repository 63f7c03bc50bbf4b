"""Measures what distribution costs: the same global batch on one and on two virtual devices.

    python benchmarks/distribution.py --depth 20 --batch_size 128

A training step and a search step of a ResNet, on one device and on virtual devices that share the
same cores, so that all that is added is what distribution costs: collectives, synchronized batch
normalization, and what every replica does anew (draws, cost, updates). `own statistics` leaves the
statistics of batch normalization to each replica, whose moving averages move by the mean of their
moves: the difference is what synchronizing costs. Pixels are random.
"""

import functools
import os
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measuring
import tensorflow as tf

from tas_tf.layers.padding import FusedBatchNormalization
from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.models.supernet import Supernet
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.architecture_search import ArchitectureSearch
from tas_tf.training.loop import Loop
from tas_tf.training.optimizers import SGD, Adam
from tas_tf.training.supervised import Training

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def training(space: SearchSpace, policy: str, synchronized: bool) -> Training:
    """Returns the training of the unpruned network."""
    keras.config.set_dtype_policy(policy)
    model = build_model(space.unpruned(), TRAINING_LAYERS)
    keras.config.set_dtype_policy("float32")
    for layer in model.layers:
        if isinstance(layer, FusedBatchNormalization):
            layer.synchronized = synchronized
    loop = Training(model)
    loop.compile(SGD(0.01))
    return loop


def search(space: SearchSpace, policy: str, synchronized: bool) -> ArchitectureSearch:
    """Returns a search at its start."""
    net = Supernet(space, dtype=policy)
    for unit in net.units + net.projections:
        unit.synchronized = synchronized
    loop = ArchitectureSearch(net)
    loop.compile(SGD(0.01), Adam(1e-3), target=0.45)
    loop.phase = "search"
    loop.temperature.assign(5.0)
    return loop


def step(
    make: Callable[[], Loop], strategy: tf.distribute.Strategy, batch: tuple
) -> Callable[[], object]:
    """Returns a step of a loop under a strategy, on its parts of the batch.

    Args:
        make: Makes the loop.
        strategy: The strategy.
        batch: Nested tensors, the global batch.
    """
    count = strategy.num_replicas_in_sync
    with strategy.scope():
        loop = make()

    def part(context):
        size = lambda t: t.shape[0] // count  # noqa: E731
        number = context.replica_id_in_sync_group
        return tf.nest.map_structure(
            lambda t: tf.identity(t[number * size(t) : (number + 1) * size(t)]), batch
        )

    parts = strategy.experimental_distribute_values_from_function(part)
    calls = iter(range(2**31))

    def run():
        number = tf.constant(next(calls), tf.int64)
        values, _ = loop.distributed_step(parts, number, loop.phase)
        return [value.numpy() for value in values.values()]

    return run


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--loops", default="training,search")
    flags = parser.parse_args()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * flags.devices,
    )
    space = SearchSpace.resnet(flags.depth, num_classes=10)
    images = [tf.random.normal((flags.batch_size, *space.input_shape)) for _ in range(2)]
    labels = tf.random.uniform((flags.batch_size,), 0, 10, tf.int32)
    halves = tuple((pixels, labels) for pixels in images)
    several = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(flags.devices)])
    ways = {
        "1 device": (tf.distribute.get_strategy(), True),
        f"{flags.devices} devices": (several, True),
        f"{flags.devices} devices, own statistics": (several, False),
    }
    rows = []
    for name in flags.loops.split(","):
        make, batch = {"training": (training, halves[0]), "search": (search, halves)}[name]
        steps = {
            way: step(
                functools.partial(make, space, PRECISIONS[flags.precision], synchronized),
                strategy,
                batch,
            )
            for way, (strategy, synchronized) in ways.items()
        }
        times = measuring.interleaved(steps, flags.repeats)
        for way, found in times.items():
            rows.append(
                {
                    "step": f"{name} {flags.precision}, {way}",
                    "median ms": found.median_ms,
                    "quartiles": f"{found.lower_ms:.0f} to {found.upper_ms:.0f}",
                    "steps per second": 1e3 / found.median_ms,
                    "ratio": found.median_ms / times["1 device"].median_ms,
                    "first step s": found.first_s,
                }
            )
    measuring.report(rows, flags.json, depth=flags.depth, batch_size=flags.batch_size)


if __name__ == "__main__":
    main()
