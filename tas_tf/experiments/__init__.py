"""Experiments, one file for each command.

An experiment is a dataclass of the settings that gin binds; its method `run` does the work.

Comes in: settings that gin has checked. Goes out: a run directory, and an exit code. The steps of a
command, their order and its messages may be changed here alone.
"""
