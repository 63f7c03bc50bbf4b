"""Measures a search step of models that were read against a plain Keras training step.

    python benchmarks/model_step.py --models MobileNetV2,DenseNet121 --size 96 --batch_size 32
    python benchmarks/model_step.py --models resnet20 --size 32 --batch_size 64

Both are measured in turn in one run: `train_step` of the model as Keras compiles it, and both
halves of a search step under draws of two candidates; beside it how long reading the model takes,
and the first call of each, which traces. A ResNet, which is also a space of stages, has steps of
its two supernets: read with its additions tied and untied, and in stages with streams tied and
faithful, both with zero padding in static shapes. Pixels are random.
"""

import os
import time
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import measuring
import tensorflow as tf

import tas_tf
from tas_tf.models.built_networks import NETWORKS
from tas_tf.spaces.choices import DEFAULT_RATIOS
from tas_tf.spaces.families import IMAGENET_DEPTHS
from tas_tf.training.optimizers import SGD, Adam


def keras_step(model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> Callable[[], object]:
    """Returns a training step as `model.fit` runs it."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), loss, jit_compile=False)
    model.make_train_function()

    def step():
        return float(model.train_function(iter([(images, labels)]))["loss"])

    return step


def search_step(net: keras.layers.Layer, halves: list) -> Callable[[], object]:
    """Returns both halves of a search step of a supernet."""
    search = tas_tf.ArchitectureSearch(net)
    search.compile(SGD(0.01), Adam(1e-3), target=0.5)
    search.phase = "search"
    traced = tf.function(lambda number: search.train_step(halves, number), autograph=False)
    calls = iter(range(2**31))

    def step():
        return [value.numpy() for value in traced(tf.constant(next(calls), tf.int64)).values()]

    return step


def model_of(name: str, shape: tuple[int, int, int]) -> keras.Model:
    """Returns a network that is built here, or a model of keras.applications."""
    if name in NETWORKS:
        return NETWORKS[name](shape, 10)
    return getattr(keras.applications, name)(
        weights=None, input_shape=shape, classes=10, classifier_activation=None
    )


def supernets_of_a_resnet(
    name: str, model: keras.Model
) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yields the further supernets of a ResNet, with the names of their steps."""
    if not name.startswith("resnet"):
        return
    depth = int(name.removeprefix("resnet"))
    options = {
        "input_shape": model.input_shape[1:],
        "family": "imagenet_resnet" if depth in IMAGENET_DEPTHS else "cifar_resnet",
        "search": "width",
        "ratios": DEFAULT_RATIOS,
    }
    yield (
        "search, untied",
        tas_tf.Supernet(tas_tf.SearchSpace.from_model(model, tie_additions=False)),
    )
    for tie, step in ((True, "stages, tied"), (False, "stages, faithful")):
        space = tas_tf.SearchSpace.resnet(depth, 10, tie_streams=tie, **options)
        yield step, tas_tf.Supernet(space, aggregation="pad", shapes="static", streams="derived")


def measured(name: str, size: int, batch_size: int, repeats: int) -> list[dict]:
    """Returns a row for each step of a model."""
    shape = (size, size, 3)
    model = model_of(name, shape)
    begun = time.perf_counter()
    space = tas_tf.SearchSpace.from_model(model)
    reading = time.perf_counter() - begun
    labels = tf.random.uniform((batch_size,), 0, 10, tf.int32)
    halves = [(tf.random.normal((batch_size, *shape)), labels) for _ in range(2)]
    steps = {
        "keras": keras_step(model, *halves[0]),
        "search": search_step(tas_tf.Supernet(space), halves),
    }
    for step, net in supernets_of_a_resnet(name, model):
        steps[step] = search_step(net, halves)
    times = measuring.interleaved(steps, repeats)
    return [
        {
            "model": name,
            "widths": len(space.choices),
            "read s": reading,
            "step": step,
            "median ms": found.median_ms,
            "quartiles": f"{found.lower_ms:.0f} to {found.upper_ms:.0f}",
            "ratio": found.median_ms / times["keras"].median_ms,
            "first step s": found.first_s,
        }
        for step, found in times.items()
    ]


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument(
        "--models", default="MobileNetV2,DenseNet121", help="of keras.applications, or built"
    )
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    flags = parser.parse_args()
    rows = []
    for name in flags.models.split(","):
        rows += measured(name, flags.size, flags.batch_size, flags.repeats)
    measuring.report(rows, flags.json, size=flags.size, batch_size=flags.batch_size)


if __name__ == "__main__":
    main()
