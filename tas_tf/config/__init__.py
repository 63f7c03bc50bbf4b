"""Settings: gin files and bindings, the presets, and the configurations that runs record.

Comes in: paths of specs, bindings, and functions with type hints. Goes out: the same functions with
their arguments checked and bound. Only this package and `experiments/registry.py` use gin, so the
format of specs may be changed here alone.
"""
