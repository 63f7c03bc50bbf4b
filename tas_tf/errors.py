"""Mistakes of users, as exceptions that commands turn into a message and an exit code."""

from collections.abc import Mapping

EXIT_DONE = 0
EXIT_USER_ERROR = 2
EXIT_OUTSIDE_BAND = 3
EXIT_INTERRUPTED = 75


class UserError(Exception):
    """A mistake that the user can mend: the message names the culprit and what would be right.

    Args:
        message: The message. A setting that it names in backticks is one that commands know by
            another name, such as `run_dir`.
        field: The setting that is wrong; it stands before the message.
    """

    def __init__(self, message: str, *, field: str | None = None):
        super().__init__(message)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return self.worded({})

    def worded(self, names: Mapping[str, str]) -> str:
        """Returns field and message, with other names for some settings.

        Args:
            names: What settings are called, such as `--run_dir` for `run_dir`.
        """
        text = self.message
        for setting, name in names.items():
            text = text.replace(f"`{setting}`", name)
        return f"{names.get(self.field, self.field)}: {text}" if self.field else text


class SpecError(UserError):
    """A gin file, a binding or a flag that does not say something sensible."""


class ArchitectureError(UserError):
    """An architecture file that is malformed, or does not fit where it is used."""


class ModelError(UserError):
    """A Keras model that cannot be read."""


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
