"""Measures a training step of a derived network against our own of the unpruned one.

    python benchmarks/derived_step.py --depth 20 --batch_size 128

Two networks that keep 55 % of the MACs, with widths off every grid: one where all widths are
narrowed (`benchmarks/derived/`) and, for ResNet-20, the published one. `true widths` computes maps
as wide as they are, `training twin` pads them (`tas_tf/layers/padding.py`). Pixels are random.
"""

import os
import pathlib
import types
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measuring
import tensorflow as tf

from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import cost
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.optimizers import SGD
from tas_tf.training.supervised import Training

HERE = pathlib.Path(__file__).parent
PUBLISHED = {20: HERE.parent / "specs" / "architectures" / "tas_resnet20_cifar10.json"}
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


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--depth", type=int, default=20, choices=(20, 56))
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    flags = parser.parse_args()
    unpruned = SearchSpace.resnet(flags.depth, num_classes=10).unpruned()
    derived = {"narrowed": HERE / "derived" / f"resnet{flags.depth}.json"}
    if flags.depth in PUBLISHED:
        derived["published"] = PUBLISHED[flags.depth]
    architectures = {
        name: Architecture.from_json(path.read_text()) for name, path in derived.items()
    }
    rows = []
    for precision, policy in PRECISIONS.items():
        true = LAYERS["true widths"]
        steps = {"unpruned": training_step(unpruned, policy, true, flags.batch_size)}
        shares = {"unpruned": 1.0}
        for name, architecture in architectures.items():
            for kind, layers in LAYERS.items():
                title = f"{name}, {kind}"
                steps[title] = training_step(architecture, policy, layers, flags.batch_size)
                shares[title] = cost(architecture, "macs") / cost(unpruned, "macs")
        times = measuring.interleaved(steps, flags.repeats)
        rows += [
            {
                "step": f"{precision} {name}",
                "MACs": shares[name],
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
