"""Small networks and small sets of real images for tests of the loops."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tas_tf.data.batches import Feed, Recipe
from tas_tf.data.decoding import decode_plain
from tas_tf.data.image_data import ImageData
from tas_tf.deployment import artifacts
from tas_tf.deployment.classifier import Classifier
from tas_tf.models.interpreter import ModelSupernet
from tas_tf.models.model_spaces import space_of
from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.models.supernet import Supernet
from tas_tf.spaces import cost
from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training.architecture_search import ArchitectureSearch
from tas_tf.training.loop import Loop
from tas_tf.training.optimizers import SGD, Adam
from tas_tf.training.path_search import PathSearch
from tas_tf.training.supervised import Training

# Shapes of which none is a batch of 8x8 pixels of one channel; some have as many pixels.
WRONG = [(2, 7, 8, 1), (2, 8, 13, 1), (8, 4, 4, 4), (2, 16, 4, 1), (2, 8, 8, 3), (8, 8, 1), (2, 64)]
WRONG += [(64,), (), (1, 2, 8, 8, 1), (2, 1, 8, 1), (2, 8, 8, 0), (0, 8, 7, 1)]


def digits() -> ImageData:
    """Scikit-learn's digits, prepared."""
    data = ImageData("digits", augmentation="crop", crop_padding=1)
    data.prepare(0)
    return data


def space(**options) -> SearchSpace:
    return SearchSpace.resnet(8, 10, (8, 8, 1), ratios=(0.5, 0.75, 1.0), **options)


def randomized(model: keras.Model, random: np.random.Generator) -> keras.Model:
    """Gives every variable a random value, so that nothing is hidden by ones and zeros."""
    for variable in model.variables:
        if variable.name == "kernel":
            fan_in = np.prod(variable.shape[:-1])
            variable.assign(random.normal(size=variable.shape) / np.sqrt(fan_in))
        else:
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return model


def classifier(model: keras.Model) -> Classifier:
    """A network with what stands before and behind it, where images are normalised alike."""
    height, width, channels = model.input_shape[1:]
    recipe = Recipe((height, width), "none", 0)
    return Classifier(
        model,
        [0.5] * channels,
        [0.2] * channels,
        [f"class {label}" for label in range(model.output_shape[-1])],
        lambda encoded: recipe.fit(decode_plain(encoded, channels)),
    )


def export_saved_model(
    classifier: Classifier, architecture: Architecture, path: str, images: np.ndarray
) -> dict:
    """Exports a SavedModel, for which no data are needed."""
    export = artifacts.Export(
        classifier=classifier, architecture=architecture, data=None, seed=0, qat_epochs=0
    )
    return export.make("saved_model", path, images)


def shortened(feed: Feed, steps: int) -> Feed:
    """A feed whose epochs have fewer steps."""
    return Feed(steps, feed.batches)


def training(initial: int = 0, rate: float = 0.05, **options) -> Training:
    """Training of a ResNet-8, with initial weights by seed."""
    keras.utils.set_random_seed(initial)
    loop = Training(build_model(space().unpruned(), TRAINING_LAYERS), **options)
    loop.compile(SGD(rate))
    return loop


def search(initial: int = 0, supernet: dict | None = None, **options) -> ArchitectureSearch:
    """A search of a ResNet-8's widths and depths, with initial weights by seed."""
    keras.utils.set_random_seed(initial)
    make = {"make": Supernet, **(supernet or {})}
    net = make.pop("make")(space(), **make)
    loop = ArchitectureSearch(net, seed=3)
    settings = {"optimizer": SGD(0.05), "arch_optimizer": Adam(0.02), "target": 0.5, **options}
    loop.compile(**settings)
    return loop


def paths(initial: int = 0, teacher: keras.Model | None = None, **options) -> PathSearch:
    """A search by measurement of a ResNet-8's widths and depths, with initial weights by seed."""
    keras.utils.set_random_seed(initial)
    settings = {"streams": "derived", "aggregation": "pad", **options}
    loop = PathSearch(Supernet(space(), **settings), teacher, seed=3)
    loop.compile(SGD(0.05), cost.parse_targets(0.5, space(), 0.1))
    return loop


def of_model(measured: bool) -> ArchitectureSearch | PathSearch:
    """A search of a ResNet-8 that was read as a model of one's own, by gradient or measured."""
    keras.utils.set_random_seed(0)
    read = space_of(
        build_model(space().unpruned()), ratios=(0.5, 0.75, 1.0), leave_out_branches=True
    )
    if measured:
        loop = PathSearch(ModelSupernet(read), None, seed=3)
        loop.compile(SGD(0.005), cost.parse_targets(0.5, read, 0.1))
        return loop
    search = ArchitectureSearch(ModelSupernet(read), seed=3)
    search.compile(optimizer=SGD(0.005), arch_optimizer=Adam(0.02, epsilon=1e-4), target=0.5)
    return search


def variables(loop: Loop) -> list[tf.Variable]:
    """All that a checkpoint of a loop holds."""
    found = [
        variable
        for item in loop.state().values()
        if item is not loop.epoch_so_far
        for variable in (item if isinstance(item, list) else getattr(item, "variables", [item]))
    ]
    return [v.value if isinstance(v, keras.Variable) else v for v in found]


def values(loop: Loop) -> list[np.ndarray]:
    """The values of these variables."""
    return [variable.numpy() for variable in variables(loop)]


def without_times(history: list[dict]) -> list[dict]:
    """What was logged, less how long it took."""
    return [
        {name: value for name, value in logs.items() if "seconds" not in name} for logs in history
    ]


class Killed(Exception):
    """Stands for whatever ends a process."""


class KillAt(keras.callbacks.Callback):
    """Ends a run when an epoch begins."""

    def __init__(self, epoch: int):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epoch:
            raise Killed


class KillAfter(keras.callbacks.Callback):
    """Ends a run, or does something else, when so many steps are done."""

    def __init__(self, steps: int, act: Callable[[], None] | None = None):
        super().__init__()
        self._left = steps
        self._act = act

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left == 0:
            if self._act is None:
                raise Killed
            self._act()


class Recorder(keras.callbacks.Callback):
    """Records which events a callback sees."""

    def __init__(self):
        super().__init__()
        self.events: list[tuple] = []

    def on_train_begin(self, logs=None):
        self.events.append(("train begins",))

    def on_epoch_begin(self, epoch, logs=None):
        self.events.append(("epoch begins", epoch))

    def on_train_batch_end(self, batch, logs=None):
        self.events.append(("step", batch))

    def on_epoch_end(self, epoch, logs=None):
        self.events.append(("epoch ends", epoch, logs["loss"]))

    def on_train_end(self, logs=None):
        self.events.append(("train ends",))
