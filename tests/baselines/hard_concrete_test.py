"""Hard-concrete gates: against Monte Carlo, and the training that meets a budget with them."""

import keras
import numpy as np
import pytest
import small_runs
import tensorflow as tf

from tas_tf.baselines import gated, hard_concrete
from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces.cost import cost, parse_targets
from tas_tf.spaces.derivation import derive
from tas_tf.training.optimizers import SGD, Adam

LOG_ALPHA = np.linspace(-6, 6, 13).astype("float32")


def samples(count=200_000):
    uniform = np.random.default_rng(0).uniform(1e-6, 1 - 1e-6, (count, len(LOG_ALPHA)))
    return hard_concrete.sampled_gates(
        tf.constant(LOG_ALPHA), tf.constant(uniform, tf.float32)
    ).numpy()


def test_open_probability_is_that_of_the_samples():
    drawn = samples()
    expected = hard_concrete.open_probability(tf.constant(LOG_ALPHA)).numpy()
    frequencies = (drawn > 0).mean(0)
    errors = np.sqrt(expected * (1 - expected) / len(drawn))
    assert (np.abs(frequencies - expected) < 5 * errors + 1e-6).all()
    # The expected L0 is the sum.
    counts = (drawn > 0).sum(1)
    assert counts.mean() == pytest.approx(expected.sum(), abs=5 * counts.std() / len(drawn) ** 0.5)


def test_gates_are_clamped_at_both_ends():
    drawn = samples(20_000)
    assert drawn.min() == 0 and drawn.max() == 1
    middle = drawn[:, len(LOG_ALPHA) // 2]
    assert ((middle > 0) & (middle < 1)).mean() > 0.3
    # By symmetry as many gates are 0 as 1 where log alpha is 0.
    assert (middle == 0).mean() == pytest.approx((middle == 1).mean(), abs=0.02)


@pytest.mark.parametrize("width", [3.0, 4.0, 5.0, 6.5, 8.0, 11.9, 12.0])
def test_mixture_has_the_width_as_its_mean(width):
    candidates = (4, 6, 8, 12)
    p = hard_concrete.mixture(candidates, tf.constant(width, tf.float64)).numpy()
    assert p.sum() == pytest.approx(1) and (p >= 0).all() and (p > 0).sum() <= 2
    assert p @ np.array(candidates) == pytest.approx(max(width, 4))


def test_mixture_of_a_single_candidate():
    assert hard_concrete.mixture((16,), tf.constant(16.0, tf.float64)).numpy().tolist() == [1]


def trained(space, target, epochs, seed=0):
    """Gates trained from a network of three epochs."""
    loop = small_runs.training()
    data = small_runs.digits()
    loop.fit(data.training(64, 0), 3)
    network = build_model(space.unpruned())
    gated.copy_by_name(loop.model, network)
    keras.utils.set_random_seed(1)
    training = hard_concrete.L0Training(network, space, seed)
    budgets = parse_targets(target, space)
    training.compile(SGD(0.02), Adam(0.1), budgets)
    history = training.fit(data.training(64, 0), epochs)
    return training, budgets, history, network


def test_training_meets_the_budget_with_gates():
    space = small_runs.space()
    training, budgets, history, network = trained(space, 0.5, 8)
    assert history[0]["expected_macs_ratio"] > 0.75
    assert history[-1]["expected_macs_ratio"] == pytest.approx(0.5, rel=0.1)
    assert history[-1]["accuracy"] > 0.7
    values = training.values()
    derived = derive(space, *values, budgets)
    assert derived.in_band and budgets[0].contains(cost(derived.architecture))
    assert [len(stage) for stage in derived.architecture.stages] == [*space.blocks_per_stage]
    # The values are best at the candidate nearest to the expected number of open gates.
    probability = hard_concrete.open_probability(training.log_alpha.value).numpy()
    expected = probability[: space.unpruned().stem_width].sum()
    nearest = np.abs(np.array(space.choices[0].candidates) - expected).argmin()
    assert values.widths[0].argmax() == nearest
    # The network takes the trained weights, its most open channels first.
    training.give_weights(network)
    images, _ = next(iter(small_runs.digits().evaluation("test", 60)))
    expected = training.model([images, gated.open_gates(training.model)], training=False).numpy()
    received = network(images, training=False).numpy()
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    stem = training.model.get_layer("stem").kernel.numpy().sum((0, 1, 2))
    assert not np.allclose(network.get_layer("stem").kernel.numpy().sum((0, 1, 2)), stem)
    assert "the gates ended at an expected" in training.told()


def test_what_is_frozen_has_no_gate():
    space = small_runs.space(frozen=("stage1",))
    training = hard_concrete.L0Training(build_model(space.unpruned()), space)
    whole = sum(
        len(gate)
        for name, gate in gated.open_gates(training.model).items()
        if name in gated.unit_gates(space).values() and not name.startswith("stage1")
    )
    assert training.log_alpha.shape == (whole,)


@pytest.mark.slow
def test_training_goes_on_as_one():
    """Gates are functions of seed and step, and a checkpoint holds all that moves."""
    space = small_runs.space()

    def made():
        keras.utils.set_random_seed(0)
        training = hard_concrete.L0Training(build_model(space.unpruned()), space)
        training.compile(SGD(0.02), Adam(0.1), parse_targets(0.5, space))
        return training

    feed = small_runs.shortened(small_runs.digits().training(32, 0), 3)
    one, first, second = made(), made(), made()
    one.fit(feed, 2)
    first.fit(feed, 1)
    for target, source in zip(small_runs.variables(second), small_runs.values(first), strict=True):
        target.assign(source)
    second.fit(feed, 2)
    np.testing.assert_allclose(second.log_alpha.numpy(), one.log_alpha.numpy(), rtol=1e-5)
    assert (one.log_alpha.numpy() != made().log_alpha.numpy()).all()
