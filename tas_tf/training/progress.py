"""The display of a run: one live panel in a terminal, plain lines in a log."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import rich.console
import rich.live
import rich.progress_bar
import rich.table
import rich.text

from tas_tf import plain_text
from tas_tf.spaces.cost import Budget, name_of, shown
from tas_tf.training.callbacks import duration

# After how many steps, the first left out, the time of a step is said.
_TIMED_STEPS = 10
# Least time between two lines of one epoch in a log.
_LINE_SECONDS = 30.0
# What each row of numbers shows, where present; the halves of a search have a row each.
_ROWS = {
    "weights": {
        "loss": "loss {:.3f}",
        "accuracy": "accuracy {:.3f}",
        "holdout_accuracy": "holdout accuracy {:.3f}",
    },
    "architecture": {
        "architecture_loss": "loss {:.3f}",
        "architecture_accuracy": "accuracy {:.3f}",
        "temperature": "temperature {:.2f}",
    },
    "entropy": {"width_entropy": "widths {:.2f}", "depth_entropy": "depths {:.2f}"},
}


class Progress(keras.callbacks.Callback):
    """Shows how far a run is and how it goes.

    A terminal has one display that is drawn anew every second. Elsewhere every epoch ends with a
    line, and long ones have a line every 30 seconds.

    Args:
        title: What is running.
        epochs: Number of epochs.
        steps_per_epoch: Steps of an epoch.
        first_step: Step that the run goes on from.
        budgets: Budgets that costs are shown against.
        console: Where to show it; None is standard output.
    """

    def __init__(
        self,
        title: str,
        epochs: int,
        steps_per_epoch: int,
        first_step: int = 0,
        budgets: Sequence[Budget] = (),
        console: rich.console.Console | None = None,
    ):
        super().__init__()
        self._title = title
        self._epochs = epochs
        self._steps = steps_per_epoch
        self._first = self._done = first_step
        self._budgets = budgets
        self._logs: Mapping[str, Any] = {}
        self._start = self._last_line = time.perf_counter()
        self._first_done: float | None = None
        self._console = console or rich.console.Console(file=plain_text.terminal(), highlight=False)
        self._live = rich.live.Live(
            console=self._console, get_renderable=self._display, refresh_per_second=1
        )

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._start = self._last_line = time.perf_counter()
        if self._console.is_interactive:
            self._live.start(refresh=True)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Counts the step, and takes what was read from the device, if anything was."""
        self._done += 1
        now = time.perf_counter()
        if self._first_done is None:
            self._first_done = now
        pace = self._pace()
        if pace and self._done - self._first == _TIMED_STEPS + 1 and not self._live.is_started:
            self._say_end(self._first_done - self._start, *pace)
        if logs:
            self._logs = {**self._logs, **logs}
            if not self._live.is_started and now - self._last_line >= _LINE_SECONDS:
                self._line(f", step {batch + 1}/{self._steps}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Takes the epoch's values; prints a line of them in a log."""
        self._done = (epoch + 1) * self._steps
        self._logs = logs or {}
        if not self._live.is_started:
            self._line("")

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Leaves the display as it was last."""
        if self._live.is_started:
            self._live.stop()

    def _say_end(self, first: float, step: float, left: float) -> None:
        """Says once what a step takes, and when the run will end."""
        self._print(
            f"{self._title}: {step:.3g} s per step "
            f"({first:.1f} s until the first was done, tracing included); "
            f"{duration(left)} left, until {_after(left):%Y-%m-%d %H:%M}"
        )

    def _pace(self) -> tuple[float, float] | None:
        """Returns the seconds of a step, evaluations and records included, and those left.

        They are not known before the second step.
        """
        counted = self._done - self._first - 1
        if self._first_done is None or counted < 1:
            return None
        step = (time.perf_counter() - self._first_done) / counted
        return step, step * (self._epochs * self._steps - self._done)

    def _line(self, place: str) -> None:
        self._last_line = time.perf_counter()
        numbers = "  ".join(f"{name} {text}" for name, text in self._rows())
        self._print(
            f"{self._title} {self._epoch()}/{self._epochs}{place}  {numbers}  {self._times()}"
        )

    def _print(self, text: str) -> None:
        """Prints a line of a log, however long."""
        self._console.print(text, markup=False, soft_wrap=True)

    def _epoch(self) -> int:
        """Returns the number of the epoch that the last step was of, from 1."""
        return max(-(-self._done // self._steps), 1)

    def _times(self) -> str:
        pace = self._pace()
        spent = duration(time.perf_counter() - self._start)
        return f"({spent}, {duration(pace[1])} left)" if pace else f"({spent})"

    def _rows(self) -> Iterator[tuple[str, str]]:
        """Yields what is known now: names of rows, and their numbers as text."""
        for name, texts in _ROWS.items():
            known = [text.format(self._logs[n]) for n, text in texts.items() if n in self._logs]
            if known:
                yield name, ", ".join(known)
        for budget in self._budgets:
            if f"expected_{budget.kind.name}_ratio" in self._logs:
                costs = (self._placed(budget, which) for which in ("expected", "argmax"))
                yield name_of(budget.kind.name), ", ".join(costs)

    def _placed(self, budget: Budget, which: str) -> str:
        """Returns a cost, and where it lies beside the budget's band."""
        cost = self._logs[f"{which}_{budget.kind.name}_ratio"] * budget.unpruned
        place = "in band" if budget.contains(cost) else "above" if cost > budget.floor else "below"
        return f"{which} {shown(cost, budget.kind.name)} {place}"

    def _display(self) -> rich.console.RenderableType:
        """Returns what a terminal shows, at most 60 columns wide where the terminal is."""
        total, done = self._epochs * self._steps, self._done
        head = f"{self._title}  epoch {self._epoch()}/{self._epochs}"
        pace = self._pace()
        if self._first_done is None:
            head += "  tracing the first step"
        else:
            head += f"  step {(done - 1) % self._steps + 1}/{self._steps}"
        if pace:
            seconds, _ = pace
            rate = f"{1 / seconds:.3g} steps/s" if seconds < 1 else f"{seconds:.3g} s/step"
            head += f"  {rate}"
        bar = rich.table.Table.grid(expand=True, padding=(0, 1))
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        bar.add_row(
            rich.progress_bar.ProgressBar(total=total, completed=done),
            f"{done / total:.0%} {self._times()}",
        )
        numbers = rich.table.Table.grid(padding=(0, 2))
        for name, text in self._rows():
            numbers.add_row(name, text)
        for budget in self._budgets:
            name = budget.kind.name
            floor, amount = shown(budget.floor, name), shown(budget.amount, name)
            numbers.add_row("band", f"{floor} to {amount} {name_of(name)}")
        if pace:
            _, left = pace
            numbers.add_row("end", f"about {_after(left):%Y-%m-%d %H:%M}")
        return rich.console.Group(rich.text.Text(head), bar, numbers)


def _after(seconds: float) -> datetime.datetime:
    return datetime.datetime.now() + datetime.timedelta(seconds=seconds)
