"""TAS on TensorFlow: makes a convolutional network smaller by searching its shape."""

import importlib

__version__ = "0.1.0"

# Public names, resolved when they are first used, so that importing the package loads nothing.
_NAMES = {
    "Architecture": "spaces.architecture.Architecture",
    "ArchitectureSearch": "training.architecture_search.ArchitectureSearch",
    "SearchSpace": "spaces.search_space.SearchSpace",
    "Supernet": "models.derived.supernet_of",
    "build_model": "models.derived.build_model",
    "load": "models.network_files.load",
}
# Modules that users reach as `tas_tf.cost`, in whatever room they stand.
_MODULES = {
    "canvas": "reports.canvas",
    "cost": "spaces.cost",
    "data": "data",
    "derivation": "spaces.derivation",
    "drawing": "reports.shape_plots",
    "plotting": "reports.curve_plots",
}
__all__ = sorted((*_NAMES, *_MODULES))


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"tas_tf.{_MODULES[name]}")
    if name in _NAMES:
        module, _, attribute = _NAMES[name].rpartition(".")
        return getattr(importlib.import_module(f"tas_tf.{module}"), attribute)
    raise AttributeError(f"module 'tas_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
