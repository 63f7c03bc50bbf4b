"""The loop and plain training, on real images of digits."""

import math
import signal

import keras
import numpy as np
import pytest
import small_runs
import tensorflow as tf

from tas_tf.errors import ArchitectureError, DataError, DivergenceError
from tas_tf.models.spec_compiler import build_model
from tas_tf.runtime.checkpoints import CheckpointInterval, Checkpoints
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.runtime.signals import Interrupted
from tas_tf.training import losses
from tas_tf.training.supervised import Training, evaluate


@pytest.fixture(scope="module")
def data():
    return small_runs.digits()


@pytest.fixture(scope="module")
def feed(data):
    """Epochs of a few steps."""
    return small_runs.shortened(data.training(64, seed=0), 4)


@pytest.fixture(scope="module")
def undisturbed(feed):
    """A run of three epochs: the loop, its history, what callbacks saw, its learning rates."""
    loop, recorder, asked = small_runs.training(), small_runs.Recorder(), []
    loop.learning_rate = lambda step: asked.append(step) or 0.05 / (1 + step)
    history = loop.fit(feed, 3, [recorder])
    return loop, history, recorder.events, asked


def test_callbacks_see_everything_in_order(undisturbed):
    _, history, events, _ = undisturbed
    expected = [("train begins",)]
    for epoch in range(3):
        steps = [("step", step) for step in range(4)]
        loss = history[epoch]["loss"]
        expected += [("epoch begins", epoch), *steps, ("epoch ends", epoch, loss)]
    assert events == [*expected, ("train ends",)]


def test_the_learning_rate_is_set_at_every_step(undisturbed):
    _, history, _, asked = undisturbed
    assert asked == list(range(12))
    rates = [logs["learning_rate"] for logs in history]
    assert rates == pytest.approx([0.05 / 4, 0.05 / 8, 0.05 / 12])


def test_a_run_that_was_cut_off_goes_on_as_if_it_was_not(undisturbed, feed, tmp_path):
    directory = RunDirectory(str(tmp_path))
    first = small_runs.training()
    first.learning_rate = lambda step: 0.05 / (1 + step)
    with pytest.raises(small_runs.Killed):
        callbacks = [small_runs.KillAt(2)]
        first.fit(feed, 3, callbacks, Checkpoints(directory, **first.state()))
    # Another process: other initial weights, then the checkpoint.
    second = small_runs.training(initial=9)
    second.learning_rate = lambda step: 0.05 / (1 + step)
    checkpoints = Checkpoints(directory, **second.state())
    assert checkpoints.restore()
    assert int(second.step.numpy()) == 8
    history = second.fit(feed, 3, checkpoints=checkpoints)
    whole, full_history, *_ = undisturbed
    assert small_runs.without_times(history) == small_runs.without_times(full_history[2:])
    for value, expected in zip(small_runs.values(second), small_runs.values(whole), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_run_that_was_cut_off_within_an_epoch_logs_the_whole_epoch(undisturbed, feed, tmp_path):
    directory, whole = RunDirectory(str(tmp_path)), undisturbed[0]
    first = small_runs.training()
    first.learning_rate = lambda step: 0.05 / (1 + step)
    every_third = CheckpointInterval(steps=3)
    with pytest.raises(small_runs.Killed):
        checkpoints = Checkpoints(directory, every_third, **first.state())
        first.fit(feed, 3, [small_runs.KillAfter(7)], checkpoints)
    second = small_runs.training(initial=9)
    second.learning_rate = lambda step: 0.05 / (1 + step)
    checkpoints = Checkpoints(directory, every_third, **second.state())
    assert checkpoints.restore()
    assert int(second.step.numpy()) == 6
    assert second.epoch_so_far.seconds > 0
    recorder = small_runs.Recorder()
    history = second.fit(feed, 3, [recorder], checkpoints)
    assert small_runs.without_times(history) == small_runs.without_times(undisturbed[1][1:])
    assert recorder.events[1:4] == [("epoch begins", 1), ("step", 2), ("step", 3)]
    for value, expected in zip(small_runs.values(second), small_runs.values(whole), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_every_second_epoch_and_the_last_are_saved(undisturbed, feed, tmp_path):
    directory, every_second = RunDirectory(str(tmp_path)), CheckpointInterval(epochs=2)
    first = small_runs.training()
    checkpoints = Checkpoints(directory, every_second, **first.state())
    with pytest.raises(small_runs.Killed):
        first.fit(feed, 3, [small_runs.KillAt(1)], checkpoints)
    assert checkpoints.saved is None
    second = small_runs.training()
    second.learning_rate = lambda step: 0.05 / (1 + step)
    checkpoints = Checkpoints(directory, every_second, **second.state())
    assert not checkpoints.restore()
    second.fit(feed, 3, checkpoints=checkpoints)
    names = {path.name for path in (tmp_path / "checkpoints").glob("*.json")}
    assert names == {"ckpt-8.json", "ckpt-12.json"}
    for value, expected in zip(
        small_runs.values(second), small_runs.values(undisturbed[0]), strict=True
    ):
        np.testing.assert_array_equal(value, expected)


def test_a_run_that_is_done_does_nothing_more(undisturbed, feed):
    loop, *_ = undisturbed
    before = small_runs.values(loop)
    recorder = small_runs.Recorder()
    assert loop.fit(feed, 3, [recorder]) == []
    assert recorder.events == [("train begins",), ("train ends",)]
    for value, expected in zip(small_runs.values(loop), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_digits_are_learnt(data):
    whole = data.training(64, seed=0)
    loop = small_runs.training(holdout=lambda: data.evaluation("test", 64))
    history = loop.fit(whole, 4)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["accuracy"] > history[0]["accuracy"] + 0.1
    tested = evaluate(loop.model, data.evaluation("test", 64))
    assert tested["accuracy"] > 0.7
    assert history[-1]["holdout_accuracy"] == tested["accuracy"]


def test_a_loss_that_is_not_finite_ends_the_run(feed, tmp_path):
    loop, recorder = small_runs.training(rate=1e30), small_runs.Recorder()
    checkpoints = Checkpoints(RunDirectory(str(tmp_path)), **loop.state())
    with pytest.raises(DivergenceError, match=r"not finite after step \d \(epoch 1\), in train"):
        loop.fit(feed, 2, [recorder], checkpoints)
    assert recorder.events[-1] == ("train ends",)
    assert not checkpoints.restore()


def test_weights_that_are_not_finite_are_never_saved(feed, tmp_path):
    loop, spoilt = small_runs.training(), 6
    checkpoints = Checkpoints(
        RunDirectory(str(tmp_path)), CheckpointInterval(steps=1), **loop.state()
    )
    # The loss and the gradients of that step are finite, what it makes of the weights is not.
    loop.learning_rate = lambda step: math.inf if step == spoilt else 0.05
    with pytest.raises(DivergenceError) as caught:
        loop.fit(feed, 3, [], checkpoints)
    assert caught.value.step == spoilt + 1
    assert checkpoints.saved == spoilt


def test_data_that_end_early_are_an_error(feed):
    ends_early = small_runs.shortened(feed, 4)
    ends_early.batches = lambda first, last: feed.batches(first, last - 2)
    with pytest.raises(DataError, match="end early: there is no batch for step 7 of 8"):
        small_runs.training().fit(ends_early, 2)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_saves_and_ends_the_run(undisturbed, feed, tmp_path, name):
    whole, full_history, *_ = undisturbed
    number = getattr(signal, name)
    directory, before = RunDirectory(str(tmp_path)), signal.getsignal(number)
    first = small_runs.training()
    first.learning_rate = lambda step: 0.05 / (1 + step)
    checkpoints = Checkpoints(directory, **first.state())
    stop = small_runs.KillAfter(6, lambda: signal.raise_signal(number))
    with pytest.raises(Interrupted, match=f"^{name}; the checkpoint of step 6 is saved$"):
        first.fit(feed, 3, [stop], checkpoints)
    assert signal.getsignal(number) is before
    second = small_runs.training(initial=9)
    second.learning_rate = lambda step: 0.05 / (1 + step)
    checkpoints = Checkpoints(directory, **second.state())
    assert checkpoints.restore() and int(second.step.numpy()) == 6
    history = second.fit(feed, 3, checkpoints=checkpoints)
    assert small_runs.without_times(history) == small_runs.without_times(full_history[1:])
    for value, expected in zip(small_runs.values(second), small_runs.values(whole), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_signal_between_epochs_saves_what_the_last_of_them_did_not(feed, tmp_path):
    loop = small_runs.training()

    class AtEnd(small_runs.Recorder):
        def on_epoch_end(self, epoch, logs=None):
            signal.raise_signal(signal.SIGTERM)

    interval = CheckpointInterval(epochs=10)
    checkpoints = Checkpoints(RunDirectory(str(tmp_path)), interval, **loop.state())
    with pytest.raises(Interrupted, match="^SIGTERM; the checkpoint of step 4 is saved$"):
        loop.fit(feed, 3, [AtEnd()], checkpoints)
    assert checkpoints.restore() and int(loop.step.numpy()) == 4


def test_a_second_signal_ends_the_run_at_once(feed, tmp_path, capsys):
    loop, recorder = small_runs.training(), small_runs.Recorder()

    def twice():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    checkpoints = Checkpoints(RunDirectory(str(tmp_path)), **loop.state())
    with pytest.raises(Interrupted, match="^SIGINT; the checkpoint of step 4 is saved$"):
        loop.fit(feed, 3, [small_runs.KillAfter(6, twice), recorder], checkpoints)
    assert "SIGTERM: saves a checkpoint after this step" in capsys.readouterr().err
    assert checkpoints.restore() and int(loop.step.numpy()) == 4


def test_a_signal_before_anything_is_unsaved_ends_the_run_at_once(feed, tmp_path):
    loop = small_runs.training()

    class AtBegin(small_runs.KillAt):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == self._epoch:
                signal.raise_signal(signal.SIGTERM)

    checkpoints = Checkpoints(RunDirectory(str(tmp_path)), **loop.state())
    with pytest.raises(Interrupted, match="^SIGTERM; the checkpoint of step 4 is saved$"):
        loop.fit(feed, 3, [AtBegin(1)], checkpoints)
    assert checkpoints.saved == 4


def test_evaluation_counts_the_last_batch_as_it_comes(data):
    model = build_model(small_runs.space().unpruned())
    batches = data.evaluation("test", 50)
    sizes = [len(labels) for _, labels in batches]
    assert sizes[-1] != 50
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    logits = model(images, training=False)
    found = evaluate(model, batches)
    assert found["images"] == len(labels) == sum(sizes)
    assert found["loss"] == pytest.approx(losses.cross_entropy(labels, logits).numpy().mean(), 1e-5)
    assert found["accuracy"] == pytest.approx(np.mean(np.argmax(logits, 1) == labels))


def test_distillation_is_the_formula(feed):
    keras.utils.set_random_seed(5)
    teacher = build_model(small_runs.space().unpruned())
    loop = small_runs.training(teacher=teacher, alpha=0.7, temperature=3.0)
    before = teacher.get_weights()
    images, labels = next(iter(feed.batches(0, 1)))
    student_logits = loop.model(images, training=True)
    teacher_logits = teacher(images, training=False)
    p, q = (tf.nn.softmax(logits / 3).numpy() for logits in (teacher_logits, student_logits))
    divergence = (p * (np.log(p) - np.log(q))).sum(axis=1)
    entropy = -tf.nn.log_softmax(student_logits).numpy()[np.arange(64), labels]
    expected = (0.3 * entropy + 0.7 * 9 * divergence).mean()
    history = loop.fit(small_runs.shortened(feed, 1), 1)
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-4)
    for value, old in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


@pytest.mark.parametrize("fields", [{"num_classes": 9}, {"input_shape": (8, 9, 1)}])
def test_a_teacher_that_does_not_fit_is_refused(fields):
    unpruned = small_runs.space().unpruned()
    teacher = build_model(unpruned.replace(**fields))
    with pytest.raises(ArchitectureError, match=r"teacher: expected .*\(8, 8, 1\) and 10 classes"):
        Training(build_model(unpruned), teacher)


def test_the_mean_of_an_epoch_is_over_its_steps(feed):
    loop = small_runs.training(rate=0.0)
    loop.optimizer.l2 = 0.0
    history = loop.fit(feed, 1)
    expected = [
        losses.cross_entropy(labels, loop.model(images, training=True)).numpy().mean()
        for images, labels in feed.batches(0, 4)
    ]
    assert history[0]["loss"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert math.isfinite(history[0]["seconds_per_step"])
