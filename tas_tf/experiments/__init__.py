"""What the commands do: each file holds one experiment.

An experiment is a dataclass of the settings that gin binds, with `run`.

Comes in: settings that gin has checked. Goes out: a run directory, and an exit code. What a command
does, in which order, and what it says may be changed here alone.
"""
