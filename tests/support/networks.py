"""Architectures that tests build, and what a built model costs."""

import json

import keras
import numpy as np

from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.search_space import SearchSpace

# Widths on no grid; a projection for widths alone; odd sizes.
SMALL = Architecture(
    family="cifar_resnet",
    block="basic",
    input_shape=(9, 7, 3),
    num_classes=5,
    stem_width=7,
    stages=(((4, 7), (3, 5)), ((9, 8),), ((6, 9),)),
)


BOTTLENECK = SMALL.replace(
    block="bottleneck", stages=(((3, 4, 7), (2, 3, 9)), ((4, 4, 8),), ((5, 4, 8),))
)


IMAGENET = BOTTLENECK.replace(
    family="imagenet_resnet",
    input_shape=(37, 35, 3),
    stages=(((3, 4, 7),), ((4, 4, 9),), ((5, 3, 8),), ((4, 4, 8),)),
)


ALL = {"basic": SMALL, "bottleneck": BOTTLENECK, "imagenet": IMAGENET}


FILE = "architectures.json"


def reference_networks(reference_dir):
    """Yields name, architecture, MACs and trainable parameters of the reference's networks."""
    entries = json.loads((reference_dir.parent / FILE).read_text())
    for name, entry in entries["dense"].items():
        data, depth = name.split("-resnet")
        classes, family = (1000, "imagenet_resnet") if data == "imagenet" else (10, "cifar_resnet")
        unpruned = SearchSpace.resnet(int(depth), classes, family=family).unpruned()
        yield name, unpruned, entry["macs"], entry["trainable_parameters"]
    for name, entry in entries["published"].items():
        family = "imagenet_resnet" if entry["dataset"] == "imagenet" else "cifar_resnet"
        fields = ("block", "input_shape", "num_classes", "stem_width", "stages")
        found = Architecture(family, *(entry[field] for field in fields))
        yield name, found, entry["macs"], entry["trainable_parameters"]


def counted(model):
    """MACs and trainable parameters of a Keras model, from its layers' kernels and outputs."""
    macs = parameters = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            height, width = layer.output.shape[1:3]
            macs += int(np.prod(layer.kernel.shape)) * height * width
            assert not layer.use_bias
        elif isinstance(layer, keras.layers.Dense):
            macs += int(np.prod(layer.kernel.shape))
        parameters += sum(int(np.prod(variable.shape)) for variable in layer.trainable_variables)
    return macs, parameters
