"""Mistakes of users, as exceptions that commands turn into a message and an exit code."""

EXIT_DONE = 0
EXIT_USER_ERROR = 2
EXIT_OUTSIDE_BAND = 3
EXIT_INTERRUPTED = 75


class UserError(Exception):
    """A mistake that the user can mend: the message names the culprit and what would be right."""


class SpecError(UserError):
    """A gin file, a binding or a flag that does not say something sensible."""


class ArchitectureError(UserError):
    """An architecture file that is malformed, or does not fit where it is used."""


class BudgetError(UserError):
    """A cost target that cannot be read, or that no architecture of the space meets."""


class DataError(UserError):
    """A data set that is unknown, missing, unprepared or unreadable."""


class EndOfDataError(DataError):
    """Fewer batches than were promised."""


class RunDirectoryError(UserError):
    """A run directory that cannot be written, or that holds something else."""


class InstallationError(UserError):
    """A package that is needed and not installed."""


class DivergenceError(UserError):
    """A loss, or a variable that a step moved, that is not finite.

    Args:
        half: The part of a step that it was in.
        step: The step, counted from 1.
        epoch: Its epoch, counted from 1.
    """

    def __init__(self, half: str, step: int, epoch: int):
        super().__init__(
            f"the loss or a weight is not finite after step {step} (epoch {epoch}), in {half}"
        )
        self.half = half
        self.step = step


class WorkerLostError(Exception):
    """Another worker of the run has ended or does not answer: the same command goes on."""
