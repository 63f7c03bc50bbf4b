"""The registry: every experiment, function and class that gin can bind."""

from __future__ import annotations

from tas_tf.config.gin_config import configurable
from tas_tf.data.image_data import ImageData
from tas_tf.experiments.baseline import BaselineExperiment
from tas_tf.experiments.derive import DerivationExperiment
from tas_tf.experiments.export import ExportExperiment
from tas_tf.experiments.own_model import own_model
from tas_tf.experiments.pipeline import PipelineExperiment
from tas_tf.experiments.profile_device import ProfileExperiment
from tas_tf.experiments.search import SearchExperiment
from tas_tf.experiments.train import TrainingExperiment
from tas_tf.models.interpreter import ModelSupernet
from tas_tf.models.supernet import Supernet
from tas_tf.runtime.checkpoints import CheckpointInterval
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.training import schedules
from tas_tf.training.measurement import Measurement
from tas_tf.training.optimizers import SGD, Adam

for _experiment in (
    SearchExperiment,
    BaselineExperiment,
    TrainingExperiment,
    DerivationExperiment,
    ExportExperiment,
    PipelineExperiment,
    ProfileExperiment,
):
    configurable(_experiment, _experiment.NAME)
for _function, _name in (
    (ImageData, "ImageData"),
    (CheckpointInterval, "CheckpointInterval"),
    (Measurement, "Measurement"),
    (SGD, "SGD"),
    (Adam, "Adam"),
    (schedules.linear_temperature, "linear_temperature"),
    (schedules.cosine_temperature, "cosine_temperature"),
):
    configurable(_function, _name)
configurable(SearchSpace.resnet, "resnet", later=("num_classes", "input_shape"))
configurable(own_model, "own_model", later=("num_classes", "input_shape"))
configurable(Supernet, "Supernet", later=("space",))
configurable(ModelSupernet, "ModelSupernet", later=("space",))
