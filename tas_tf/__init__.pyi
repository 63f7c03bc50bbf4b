# What `tas_tf` resolves when it is first used, for type checkers, which do not run `__getattr__`.
from tas_tf import data as data
from tas_tf.models.derived import build_model as build_model
from tas_tf.models.derived import supernet_of
from tas_tf.models.network_files import load as load
from tas_tf.reports import canvas as canvas
from tas_tf.reports import curve_plots, shape_plots
from tas_tf.spaces import cost as cost
from tas_tf.spaces import derivation as derivation
from tas_tf.spaces.architecture import Architecture as Architecture
from tas_tf.spaces.search_space import SearchSpace as SearchSpace
from tas_tf.training.architecture_search import ArchitectureSearch as ArchitectureSearch

Supernet = supernet_of
plotting = curve_plots
drawing = shape_plots

__version__: str
__all__: list[str]
