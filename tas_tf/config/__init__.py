"""Settings: gin files and bindings, the presets, and the configurations that runs record.

Comes in: paths of specs, bindings, and functions with type hints. Goes out: the same functions with
their arguments checked and given. Only this package and `experiments/registry.py` know gin, so how
specs are written may be changed here alone.
"""
