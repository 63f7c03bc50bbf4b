"""SIGINT and SIGTERM: a run saves a checkpoint and ends."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end; its message says which, and what was saved last."""


class Interruption:
    """While it is entered, SIGINT and SIGTERM end the process in good order.

    They raise `Interrupted` at once, except where something has still to be saved: then the first
    is only noted, in `signal`, and the second raises. A signal that is ignored stays ignored, as
    that of a shell's background job is. Signals can be caught in the main thread only.

    Attributes:
        unsaved: Whether something would be lost if the process ended at once.
        saved: What was saved last, such as "the checkpoint of step 7"; None where nothing was.
        signal: Name of the signal that was noted; None before.
    """

    def __init__(self) -> None:
        self.unsaved = False
        self.saved: str | None = None
        self.signal: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, frame: object) -> None:
        name = signal.Signals(number).name
        if self.signal is not None or not self.unsaved:
            self.end(name)
        self.signal = name
        print(f"\n{name}: saves a checkpoint after this step, then ends", file=sys.stderr)

    def end(self, name: str) -> None:
        """Ends the process because of the signal of this name."""
        raise Interrupted(f"{name}; {self.saved} is saved" if self.saved else name)
