"""Schedules of the learning rate and of the temperature (docs/method.md 7)."""

from __future__ import annotations

import math
from collections.abc import Callable


def linear_temperature(start: float = 10.0, end: float = 0.1) -> Callable[[int, int], float]:
    """Returns the paper's schedule: a function of (epoch, epochs), linear from start to end.

    Args:
        start: Temperature of the first epoch.
        end: Temperature of the last.
    """

    def schedule(epoch: int, epochs: int) -> float:
        return start + (end - start) * epoch / max(epochs - 1, 1)

    return schedule


def cosine_temperature(start: float = 5.0, end: float = 0.1) -> Callable[[int, int], float]:
    """Returns the published code's schedule: a function of (epoch, epochs), half a cosine.

    Args:
        start: Temperature of the first epoch.
        end: Temperature of the last.
    """

    def schedule(epoch: int, epochs: int) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * epoch / max(epochs - 1, 1))) / 2

    return schedule


def warm_cosine(peak: float, steps: int, warmup_steps: int = 0) -> Callable[[int], float]:
    """Returns the learning rate by step: linearly up to `peak`, then to 0 by half a cosine.

    Args:
        peak: Largest learning rate.
        steps: Number of all steps.
        warmup_steps: Number of steps of linear warm-up, fewer than all.
    """

    def schedule(step: int) -> float:
        if step < warmup_steps:
            return peak * step / warmup_steps
        done = (step - warmup_steps) / max(steps - warmup_steps, 1)
        return peak * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    return schedule
