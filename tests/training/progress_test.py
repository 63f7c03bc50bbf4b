"""What a run shows on its way: a display in a terminal, plain lines in a log."""

import io
import re
import time

import pytest
import rich.console

from tas_tf.spaces.cost import KINDS, Budget
from tas_tf.training import loop as training_loop
from tas_tf.training import progress
from tas_tf.training.callbacks import duration
from tas_tf.training.progress import Progress

SEARCH_LOGS = {
    "loss": 0.25,
    "accuracy": 0.5,
    "architecture_loss": 1.25,
    "architecture_accuracy": 0.75,
    "temperature": 1.5,
    "width_entropy": 0.9,
    "expected_macs_ratio": 0.60,
    "argmax_macs_ratio": 0.54,
    "other": 1.0,
}
BUDGET = Budget(KINDS["macs"], 22_000_000, 40_000_000)


def screen(width: int, interactive: bool = True) -> rich.console.Console:
    """A terminal of some width, or a log, whose text is kept."""
    return rich.console.Console(
        file=io.StringIO(),
        width=width,
        force_terminal=interactive,
        force_interactive=interactive,
        color_system=None,
        highlight=False,
    )


def printed(console: rich.console.Console) -> str:
    return console.file.getvalue()


def test_a_log_gets_a_line_for_each_epoch():
    console = screen(80, interactive=False)
    shown = Progress("search", 3, 2, first_step=2, budgets=[BUDGET], console=console)
    shown.on_train_begin()
    shown.on_train_batch_end(0)
    shown.on_train_batch_end(1)
    shown.on_epoch_end(1, SEARCH_LOGS)
    shown.on_train_end()
    (line,) = printed(console).splitlines()
    assert line.startswith(
        "search 2/3  weights loss 0.250, accuracy 0.500  architecture loss 1.250"
    )
    assert "MACs expected 24 M above, argmax 21.6 M in band  (" in line
    assert re.search(r"  \(\d+ s, \d+ s left\)$", line)
    assert "other" not in line


def test_a_log_gets_a_line_within_an_epoch_after_some_time(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    console = screen(80, interactive=False)
    shown = Progress("training", 2, 100, console=console)
    shown.on_train_begin()
    for step in range(100):
        clock[0] += 1.0
        shown.on_train_batch_end(step, {"loss": 1.0 - step / 100})
    lines = [line for line in printed(console).splitlines() if line.startswith("training 1/2")]
    assert [re.search(r"step (\d+)/100", line)[1] for line in lines] == ["30", "60", "90"]
    assert "loss 0.410" in lines[1] and lines[1].endswith("(1 min 0 s, 2 min 20 s left)")


def test_the_end_is_said_after_the_first_steps(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    console = screen(80, interactive=False)
    shown = Progress("training", 1, 50, console=console)
    shown.on_train_begin()
    for step in range(50):
        clock[0] += 20.0 if step == 0 else 0.5
        shown.on_train_batch_end(step)
    (line,) = printed(console).splitlines()
    assert line.startswith("training: 0.5 s per step (20.0 s until the first was done, tracing")
    assert re.search(r"; 20 s left, until \d{4}-\d\d-\d\d \d\d:\d\d$", line)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_everything_within_its_width(width):
    console = screen(width)
    shown = Progress("search", 40, 12, first_step=144, budgets=[BUDGET], console=console)
    shown.on_train_begin()
    for step in range(12):
        shown.on_train_batch_end(step, SEARCH_LOGS)
    shown.on_train_end()
    last = printed(console)[printed(console).rindex("search  epoch") :]
    for text in (
        "search  epoch 13/40  step 12/12",
        "32% (",
        "weights       loss 0.250, accuracy 0.500",
        "architecture  loss 1.250, accuracy 0.750, temperature 1.50",
        "entropy       widths 0.90",
        "MACs          expected 24 M above, argmax 21.6 M in band",
        "band          20.9 M to 22 M MACs",
        "end           about 20",
    ):
        assert text in last
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed(console))
    assert max(len(line) for line in re.split(r"[\r\n]", plain)) <= width


def test_a_terminal_shows_that_the_first_step_is_traced():
    console = screen(80)
    shown = Progress("training", 2, 3, console=console)
    shown.on_train_begin()
    shown.on_train_end()
    assert "training  epoch 1/2  tracing the first step" in printed(console)


def test_steps_do_not_wait_for_what_is_shown(monkeypatch):
    """Values are read from the device once a second, however many steps that is."""
    import small_runs

    loop = small_runs.training()
    feed = small_runs.shortened(small_runs.digits().training(16, 0), 40)
    monkeypatch.setattr(training_loop, "READ_SECONDS", 0.2)
    seen = []

    class Reader(small_runs.Recorder):
        def on_train_batch_end(self, batch, logs=None):
            if logs:
                seen.append((time.perf_counter(), logs))

    loop.fit(feed, epochs=1, callbacks=[Reader()])
    assert 0 < len(seen) < 40
    assert set(seen[0][1]) >= {"loss", "accuracy", "learning_rate"}
    times = [at for at, _ in seen]
    assert all(b - a >= 0.2 for a, b in zip(times, times[1:], strict=False))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7325, "2 h 2 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
