"""TAS on TensorFlow: makes a convolutional network smaller by searching its shape."""

import importlib

__version__ = "0.1.0"

# Public names, resolved when they are first used, so that importing the package loads nothing.
_NAMES = {
    "Architecture": "architecture",
    "ArchitectureSearch": "search_loop",
    "SearchSpace": "search_space",
    "Supernet": "supernet",
    "build_model": "spec_compiler",
    "cost": None,
    "data": None,
    "derivation": None,
}
__all__ = sorted(_NAMES)


def __getattr__(name: str):
    if name not in _NAMES:
        raise AttributeError(f"module 'tas_tf' has no attribute {name!r}")
    if _NAMES[name] is None:
        return importlib.import_module(f"tas_tf.{name}")
    return getattr(importlib.import_module(f"tas_tf.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
