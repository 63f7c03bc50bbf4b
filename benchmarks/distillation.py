"""Measures a step of distillation against a plain step of the student and the teacher's pass.

    python benchmarks/distillation.py --depth 20 --batch_size 128

The teacher is the unpruned network, the student the one of `benchmarks/derived/`, which keeps 55 %
of its MACs. All are measured in turn in one run. `ratio`: the step with distillation, divided by
the sum of the plain step and the teacher's forward pass. Pixels are random.
"""

import os
import pathlib
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import tensorflow as tf

from tas_tf.experiments.common import computing_in
from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.optimizers import SGD
from tas_tf.training.supervised import Training

DERIVED = pathlib.Path(__file__).parent / "derived"
PRECISIONS = ("float32", "mixed_bfloat16")


def steps(depth: int, batch_size: int, precision: str) -> dict[str, Callable[[], object]]:
    """Returns a plain step, the teacher's pass and a step with distillation, by name."""
    unpruned = SearchSpace.resnet(depth, num_classes=10).unpruned()
    student = Architecture.from_json((DERIVED / f"resnet{depth}.json").read_text())
    images = tf.random.normal((batch_size, *unpruned.input_shape))
    labels = tf.random.uniform((batch_size,), 0, unpruned.num_classes, tf.int32)
    with computing_in(precision):
        teacher = build_model(unpruned)
        networks = [build_model(student, TRAINING_LAYERS) for _ in range(2)]
    plain, distilled = Training(networks[0]), Training(networks[1], teacher)

    def traced(function):
        return tf.function(function, autograph=False, jit_compile=False)

    def training(loop):
        loop.compile(SGD(0.01))
        step = traced(loop.train_step)
        return lambda: step((images, labels), tf.constant(0, tf.int64))["loss"].numpy()

    forward = traced(lambda pixels: tf.reduce_sum(teacher(pixels, training=False)))
    return {
        "plain step": training(plain),
        "teacher's pass": lambda: forward(images).numpy(),
        "step with distillation": training(distilled),
    }


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--depth", type=int, default=20, choices=(20, 56))
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    flags = parser.parse_args()
    made = {
        f"{name}, {precision}": step
        for precision in PRECISIONS
        for name, step in steps(flags.depth, flags.batch_size, precision).items()
    }
    times = measuring.interleaved(made, flags.repeats)
    rows = []
    for precision in PRECISIONS:
        plain, teacher, distilled = (
            times[f"{name}, {precision}"].median_ms
            for name in ("plain step", "teacher's pass", "step with distillation")
        )
        rows.append(
            {
                "precision": precision,
                "plain step, ms": plain,
                "teacher's pass, ms": teacher,
                "step with distillation, ms": distilled,
                "ratio": distilled / (plain + teacher),
            }
        )
    measuring.report(rows, flags.json, depth=flags.depth, batch_size=flags.batch_size)


if __name__ == "__main__":
    main()
