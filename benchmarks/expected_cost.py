"""Measures what the expected cost, a part of every search step, takes with its gradient.

    python benchmarks/expected_cost.py
    python benchmarks/expected_cost.py --step

One line for each network: the expected cost E and the cost F of the argmax architecture, as
`ArchitectureSearch` puts them in its loss, with the gradient of the logits, in milliseconds. With
`--step` also whole search steps (random pixels) of ResNet-164, batch 32 for each half, and of
ResNet-50, batch 2, and the share of them that the cost takes.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tas_tf.models.supernet import Supernet
from tas_tf.spaces.cost import parse_targets
from tas_tf.spaces.expected_cost import CostModel
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import losses
from tas_tf.training.architecture_search import ArchitectureSearch
from tas_tf.training.optimizers import SGD, Adam

NETWORKS = {
    "ResNet-20, CIFAR": (20, "cifar_resnet"),
    "ResNet-110, CIFAR": (110, "cifar_resnet"),
    "ResNet-164, CIFAR": (164, "cifar_resnet"),
    "ResNet-50, ImageNet": (50, "imagenet_resnet"),
}
STEPS = {"ResNet-164, CIFAR": 32, "ResNet-50, ImageNet": 2}  # images of each half


def milliseconds(function: Callable[[], object], repeats: int) -> float:
    """Returns the median time of a call, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def cost_milliseconds(space: SearchSpace, repeats: int) -> float:
    """Returns the time of the cost term of one budget of MACs, and its gradient."""
    model = CostModel(space)
    (budget,) = parse_targets(0.3, space)
    sizes = [len(c.candidates) for c in space.choices], [len(depths) for depths in space.depths]
    masks = [np.arange(max(rows)) < np.array(rows)[:, None] for rows in sizes]
    logits = [tf.Variable(tf.random.stateless_normal(mask.shape, [0, 0])) for mask in masks]

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            probabilities = [
                tf.nn.softmax(tf.where(mask, tf.cast(rows, tf.float64), -1e9))
                for rows, mask in zip(logits, masks, strict=True)
            ]
            one_hot = [
                tf.one_hot(tf.argmax(p, axis=1), p.shape[1], dtype=p.dtype) for p in probabilities
            ]
            expected, current = model.expected(*probabilities), model.expected(*one_hot)
            term = losses.cost_loss(expected, current, budget)
        return tape.gradient(term, logits)

    return milliseconds(lambda: [g.numpy() for g in gradient()], repeats)


def step_milliseconds(space: SearchSpace, size: int, repeats: int) -> float:
    """Returns the time of a whole step of a search, with `size` images of each half."""
    search = ArchitectureSearch(Supernet(space))
    search.compile(SGD(), Adam(), target=0.3)
    search.begin_epoch(0, 2)
    images = tf.random.stateless_normal([size, *space.input_shape], [1, 1])
    labels = tf.range(size, dtype=tf.int64) % 10
    train_step = tf.function(search.train_step)
    batch, step = ((images, labels), (images, labels)), tf.constant(0, tf.int64)
    return milliseconds(lambda: float(train_step(batch, step)["loss"]), repeats)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--step", action="store_true", help="measure a whole search step too")
    arguments = parser.parse_args()
    devices = [device.device_type for device in tf.config.list_logical_devices()]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {devices[-1]}, TensorFlow {tf.__version__}"
    )
    print("| network | cost term with gradient |\n| --- | --- |")
    for name, (depth, family) in NETWORKS.items():
        space = SearchSpace.resnet(depth, family=family)
        print(f"| {name} | {cost_milliseconds(space, arguments.repeats):.2f} ms |", flush=True)
    for name, size in STEPS.items() if arguments.step else ():
        depth, family = NETWORKS[name]
        space = SearchSpace.resnet(depth, family=family)
        step = step_milliseconds(space, size, repeats=3)
        share = cost_milliseconds(space, arguments.repeats) / step
        print(f"Search step of {name}, batch {size}: {step:.0f} ms; ", end="")
        print(f"the cost term takes {share:.2%} of it", flush=True)


if __name__ == "__main__":
    main()
