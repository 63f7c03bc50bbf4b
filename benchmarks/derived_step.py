"""Measures a training step of a derived network against our own of the unpruned one.

    python benchmarks/derived_step.py --depth 20 --batch_size 128

Networks with widths off every grid (`benchmarks/derived/`). At 55 % of the MACs: all widths are
narrowed, and for ResNet-20 the published network. At 40 %, ResNet-20 only: `searched` by the study,
and `uniform` narrowing. `true widths` computes maps as wide as they are, `training twin` pads them
(`tas_tf/layers/padding.py`). `vectors` is the share of multiplications that is left if the channels
along a vector of 16 are rounded up, over the three passes of all convolutions. Pixels are random.
"""

import math
import os
import pathlib
import types
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measuring
import tensorflow as tf

from tas_tf.layers import padding
from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import cost
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.optimizers import SGD
from tas_tf.training.supervised import Training

HERE = pathlib.Path(__file__).parent
DERIVED = {
    20: {
        "narrowed": HERE / "derived" / "resnet20.json",
        "published": HERE.parent / "specs" / "architectures" / "tas_resnet20_cifar10.json",
        "searched": HERE / "derived" / "resnet20_40_searched.json",
        "uniform": HERE / "derived" / "resnet20_40_uniform.json",
    },
    56: {"narrowed": HERE / "derived" / "resnet56.json"},
}
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
LAYERS = {
    "training twin": TRAINING_LAYERS,
    "true widths": types.SimpleNamespace(
        **{**vars(TRAINING_LAYERS), "Conv2D": keras.layers.Conv2D, "Dense": keras.layers.Dense}
    ),
}


def training_step(
    architecture: Architecture, policy: str, layers: Any, batch_size: int
) -> Callable[[], object]:
    """Returns a training step of a network built of layers of a namespace."""
    images = tf.random.normal((batch_size, *architecture.input_shape))
    labels = tf.random.uniform((batch_size,), 0, architecture.num_classes, tf.int32)
    keras.config.set_dtype_policy(policy)
    training = Training(build_model(architecture, layers))
    keras.config.set_dtype_policy("float32")
    training.compile(SGD(0.01))
    traced = tf.function(training.train_step, autograph=False, jit_compile=False)

    return lambda: traced((images, labels), tf.constant(0, tf.int64))["loss"].numpy()


def in_vectors(architecture: Architecture) -> int:
    """Returns the multiplications of a step if the channels along a vector are rounded up."""
    total = 0
    for layer, before, after, _ in architecture.layers():
        pixels = math.prod((*layer.kernel, *layer.size))
        vectors = [padding.aligned_width(channels, 16) for channels in (before, after)]
        forward, backward = before * vectors[1], vectors[0] * after
        total += pixels * (forward + backward + min(forward, backward))
    return total


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--depth", type=int, default=20, choices=(20, 56))
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    flags = parser.parse_args()
    unpruned = SearchSpace.resnet(flags.depth, num_classes=10).unpruned()
    architectures = {
        name: Architecture.from_json(path.read_text())
        for name, path in DERIVED[flags.depth].items()
    }
    rows = []
    for precision, policy in PRECISIONS.items():
        true = LAYERS["true widths"]
        steps = {"unpruned": training_step(unpruned, policy, true, flags.batch_size)}
        nets = {"unpruned": unpruned}
        for name, architecture in architectures.items():
            for kind, layers in LAYERS.items():
                title = f"{name}, {kind}"
                steps[title] = training_step(architecture, policy, layers, flags.batch_size)
                nets[title] = architecture
        times = measuring.interleaved(steps, flags.repeats)
        rows += [
            {
                "step": f"{precision} {name}",
                "MACs": cost(nets[name], "macs") / cost(unpruned, "macs"),
                "vectors": in_vectors(nets[name]) / in_vectors(unpruned),
                "median ms": found.median_ms,
                "quartiles": f"{found.lower_ms:.0f} to {found.upper_ms:.0f}",
                "ratio": found.median_ms / times["unpruned"].median_ms,
                "first step s": found.first_s,
            }
            for name, found in times.items()
        ]
    measuring.report(rows, flags.json, depth=flags.depth, batch_size=flags.batch_size)


if __name__ == "__main__":
    main()
