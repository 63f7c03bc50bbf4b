"""The registry: every function and class that gin can bind."""

from __future__ import annotations

from tas_tf.config.gin_config import configurable
from tas_tf.data.image_data import ImageData
from tas_tf.experiments.derive import run_derive
from tas_tf.experiments.export import run_export
from tas_tf.experiments.pipeline import run_pipeline
from tas_tf.experiments.profile_device import run_profile
from tas_tf.experiments.search import run_search
from tas_tf.experiments.train import run_training
from tas_tf.models.supernet import Supernet
from tas_tf.runtime.checkpoints import CheckpointInterval
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import schedules
from tas_tf.training.optimizers import SGD, Adam

for _root in (run_search, run_training, run_derive, run_export, run_pipeline, run_profile):
    configurable(_root, _root.__name__)
for _function, _name in (
    (ImageData, "ImageData"),
    (CheckpointInterval, "CheckpointInterval"),
    (SGD, "SGD"),
    (Adam, "Adam"),
    (schedules.linear_temperature, "linear_temperature"),
    (schedules.cosine_temperature, "cosine_temperature"),
):
    configurable(_function, _name)
configurable(SearchSpace.resnet, "resnet", later=("num_classes", "input_shape"))
configurable(Supernet, "Supernet", later=("space",))
