"""The search, on real images of digits."""

import numpy as np
import pytest
import small_runs
import tensorflow as tf

from tas_tf.data.image_data import paired
from tas_tf.errors import BudgetError, DivergenceError, SpecError
from tas_tf.layers.sampling import STRATEGIES
from tas_tf.runtime.checkpoints import CheckpointInterval, Checkpoints
from tas_tf.runtime.run_directory import RunDirectory
from tas_tf.spaces.cost import cost
from tas_tf.spaces.expected_cost import CostModel
from tas_tf.training.architecture_search import ARCHITECTURE_HALF, WEIGHTS_HALF
from tas_tf.training.optimizers import Adam


@pytest.fixture(scope="module")
def feed():
    """Epochs of a few steps."""
    return small_runs.shortened(paired(small_runs.digits(), 64, seed=0), 4)


def assert_equal(values, expected):
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)


def numpy(variables):
    return [variable.numpy() for variable in variables]


@pytest.fixture(scope="module")
def undisturbed(feed):
    """A search of three epochs, of which the first only warms up, and its history."""
    loop = small_runs.search(weight_warmup_epochs=1)
    return loop, loop.fit(feed, epochs=3)


def test_a_search_that_was_cut_off_goes_on_as_if_it_was_not(undisturbed, feed, tmp_path):
    directory = RunDirectory(str(tmp_path))
    first = small_runs.search(weight_warmup_epochs=1)
    with pytest.raises(small_runs.Killed):
        callbacks = [small_runs.KillAt(2)]
        first.fit(
            feed,
            epochs=3,
            callbacks=callbacks,
            checkpoints=Checkpoints(directory, **first.state()),
        )
    second = small_runs.search(initial=9, weight_warmup_epochs=1)
    checkpoints = Checkpoints(directory, **second.state())
    assert checkpoints.restore()
    second.fit(feed, epochs=3, checkpoints=checkpoints)
    assert_equal(small_runs.values(second), small_runs.values(undisturbed[0]))


@pytest.mark.slow
def test_a_search_that_was_cut_off_within_an_epoch_logs_the_whole_epoch(
    undisturbed, feed, tmp_path
):
    directory, every_third = RunDirectory(str(tmp_path)), CheckpointInterval(steps=3)
    first = small_runs.search(weight_warmup_epochs=1)
    with pytest.raises(small_runs.Killed):
        checkpoints = Checkpoints(directory, every_third, **first.state())
        first.fit(
            feed,
            epochs=3,
            callbacks=[small_runs.KillAfter(7)],
            checkpoints=checkpoints,
        )
    second = small_runs.search(initial=9, weight_warmup_epochs=1)
    checkpoints = Checkpoints(directory, every_third, **second.state())
    assert checkpoints.restore() and int(second.step.numpy()) == 6
    history = second.fit(feed, epochs=3, checkpoints=checkpoints)
    assert small_runs.without_times(history) == small_runs.without_times(undisturbed[1][1:])
    assert_equal(small_runs.values(second), small_runs.values(undisturbed[0]))


@pytest.mark.parametrize(
    ("half", "rate"),
    [
        (WEIGHTS_HALF, float("inf")),
        # Weights stay finite; the loss of the other half does not.
        pytest.param(WEIGHTS_HALF, 1e30, marks=pytest.mark.slow),
        pytest.param(ARCHITECTURE_HALF, float("inf"), marks=pytest.mark.slow),
    ],
)
def test_the_half_that_is_not_finite_is_named(feed, half, rate):
    loop = small_runs.search()
    if half == WEIGHTS_HALF:
        loop.learning_rate = lambda step: rate if step == 1 else 0.05
    else:
        loop.arch_optimizer.learning_rate = rate
    with pytest.raises(DivergenceError, match=half) as caught:
        loop.fit(feed, epochs=2)
    assert caught.value.step == (2 if half == WEIGHTS_HALF else 1)


def test_what_a_search_logs(undisturbed):
    loop, history = undisturbed
    assert "architecture_loss" not in history[0]
    for logs in history[1:]:
        assert logs["architecture_loss"] > 0
    assert [logs["temperature"] for logs in history] == pytest.approx([5, 2.55, 0.1])
    widths, depths = (p.numpy() for p in loop.supernet.probabilities())
    expected = CostModel(loop.supernet.space).expected(widths, depths)
    assert history[-1]["expected_macs_ratio"] == pytest.approx(expected / loop.budgets[0].unpruned)
    assert 0.99 < history[-1]["width_entropy"] <= 1
    # A ResNet-8 has one depth only.
    assert "depth_entropy" not in history[-1]


def test_what_is_derived_lies_in_the_band(undisturbed):
    loop, _ = undisturbed
    found = loop.derivation()
    assert loop.derive() == found.architecture
    assert found.in_band
    (budget,) = loop.budgets
    assert 0.95 * budget.amount <= cost(found.architecture, "macs") <= budget.amount


def test_warm_up_leaves_the_logits_alone(feed):
    loop = small_runs.search(weight_warmup_epochs=2)
    logits = numpy(loop.supernet.architecture_variables)
    moments = numpy(loop.arch_optimizer.variables)
    weights = numpy(loop.supernet.weight_variables)
    loop.fit(feed, epochs=1)
    assert_equal(numpy(loop.supernet.architecture_variables), logits)
    assert_equal(numpy(loop.arch_optimizer.variables), moments)
    for value, other in zip(numpy(loop.supernet.weight_variables), weights, strict=True):
        assert np.any(value != other)


def test_each_half_moves_its_own(feed):
    batch, after = next(iter(feed.batches(0, 1))), {}
    for weight_warmup_epochs in (1, 0):
        loop = small_runs.search(weight_warmup_epochs=weight_warmup_epochs)
        net = loop.supernet
        parts = net.architecture_variables, net.weight_variables, net.average_variables
        logits, *others = map(numpy, parts)
        loop.begin_epoch(0, 2)
        loop.train_step(batch, tf.constant(0, tf.int64))
        # L2 and momentum act on all weights; the averages of candidates that were drawn move.
        for variables, before in zip(parts[1:], others, strict=True):
            assert all(np.any(v != b) for v, b in zip(numpy(variables), before, strict=True))
        after[loop.phase] = [numpy(variables) for variables in parts]
        if loop.phase == "warmup":
            assert_equal(numpy(net.architecture_variables), logits)
        else:
            assert np.all(net.width_logits.numpy() != logits[0])
    for one, other in zip(after["warmup"][1:], after["search"][1:], strict=True):
        assert_equal(one, other)  # the half of the architecture moves neither


@pytest.mark.parametrize("aggregation", ["interpolate", "pad"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_step_of_every_strategy(feed, strategy, aggregation):
    loop = small_runs.search(supernet={"strategy": strategy, "aggregation": aggregation})
    loop.begin_epoch(0, 2)
    before = loop.supernet.width_logits.numpy()
    logs = loop.train_step(next(iter(feed.batches(0, 1))), tf.constant(0, tf.int64))
    assert all(np.isfinite(value) for value in logs.values())
    assert np.all(loop.supernet.width_logits.numpy() != before)


@pytest.mark.parametrize(("target", "start"), [(0.35, 0.9), (0.9, 0.35)])
def test_the_cost_term_pushes_into_the_band_from_both_sides(feed, target, start):
    loop = small_runs.search(target=target, cost_weight=1e4, arch_optimizer=Adam(0.1))
    tilt = np.linspace(-1, 1, 3) * (1.5 if start > target else -1.5)
    noise = np.random.default_rng(0).normal(size=(7, 3))
    loop.supernet.width_logits.assign(tilt + 0.5 * noise)
    loop.begin_epoch(0, 2)
    batch = next(iter(feed.batches(0, 1)))

    def expected():
        return loop.readings()["expected_macs_ratio"]

    first = expected()
    assert (first > target) == (start > target)
    step = tf.function(loop.train_step, autograph=False)
    series = [float(step(batch, tf.constant(s, tf.int64))["cost_loss"]) for s in range(60)]
    assert abs(expected() - target) < abs(first - target)
    assert 0.0 in series


def test_entropy_falls_as_logits_are_pushed():
    loop = small_runs.search()
    loop.supernet.width_logits.assign(np.zeros([7, 3]))
    assert loop.entropies()["width_entropy"] == pytest.approx(1)
    series = []
    for push in (1.0, 3.0, 30.0):
        loop.supernet.width_logits.assign(np.eye(3)[[0, 1, 2, 0, 1, 2, 0]] * push)
        series.append(loop.entropies()["width_entropy"])
    assert 1 > series[0] > series[1] > series[2]
    assert series[2] < 1e-3


def test_what_compile_refuses():
    with pytest.raises(SpecError, match="cost_formula: expected one of .*'published'"):
        small_runs.search(cost_formula="both")
    with pytest.raises(BudgetError, match="target: .*Reachable"):
        small_runs.search(target=0.01)
