"""Peak memory of models that were read: against a simulation, our own formula, and all networks."""

import itertools
import math

import keras
import numpy as np
import pytest
import random_models
import small_models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers
from model_parts import classified, image, unit

import tas_tf
from tas_tf.errors import SpecError
from tas_tf.models.reading import read
from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces import derivation
from tas_tf.spaces.cost import cost, parse_targets
from tas_tf.spaces.expected_terms import cost_model
from tas_tf.spaces.search_space import SearchSpace
from tas_tf.spaces.space_terms import cost_of


def entries(shape):
    return math.prod(length or 1 for length in shape)


def simulated(graph):
    """Bytes alive at most if the calls run in turn, and buffers are freed after their last use."""
    size, owner, peak = {}, {}, 0
    waiting = [number for call in graph.calls for number in call.read] + [*graph.outputs]
    for call in graph.calls:
        for number, shape in zip(call.read, call.input_shapes, strict=True):
            if number not in owner:  # an input of the model
                owner[number] = number
                size[number] = 4 * entries(shape)
        for number in call.read:
            waiting.remove(number)
        for number, shape in zip(call.written, call.output_shapes, strict=True):
            overwritten = [
                read
                for read, of in zip(call.read, call.input_shapes, strict=True)
                if read not in waiting and entries(of) == entries(shape)
            ]
            if call.uses or call.reason or "Pooling" in call.kind or len(call.written) > 1:
                overwritten = []
            owner[number] = owner[overwritten[0]] if overwritten else number
            size[owner[number]] = 4 * entries(shape)
        alive = {owner[number] for number in (*call.read, *call.written)}
        alive |= {owner[number] for number in waiting if number in owner}
        peak = max(peak, sum(size[number] for number in alive))
    return peak


def check(model, seed=0):
    try:
        space = tas_tf.SearchSpace.from_model(model, leave_out_branches=True)
    except SpecError:  # nothing to search
        return
    rng = np.random.default_rng(seed)
    terms = cost_of(space, "memory")
    for _ in range(3):
        widths = [rng.integers(len(choice.candidates)) for choice in space.choices]
        branches = [rng.integers(2) for _ in space.branches]
        architecture = space.architecture(widths, branches)
        bytes_alive = cost(architecture, "memory")
        assert terms.value(widths + branches) == bytes_alive
        assert simulated(read(tas_tf.build_model(architecture))) == bytes_alive


@pytest.mark.parametrize("name", small_models.ALL)
def test_small_models(name):
    check(small_models.ALL[name]())


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(plan=random_models.plans(most=4), seed=st.integers(0, 99))
def test_random_models(plan, seed):
    check(random_models.build(plan), seed)


@pytest.mark.parametrize("depth", [20, 32])
def test_our_own_networks_have_what_their_formula_says(depth):
    space = SearchSpace.resnet(depth, 10, (32, 32, 3))
    for architecture in (space.unpruned(), space.architecture([0] * len(space.choices), [0, 0, 0])):
        assert read(build_model(architecture)).cost(kind="memory") == cost(architecture, "memory")


def test_by_hand():
    i = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 3, padding="same", name="wide")(i)  # 32 and 48 numbers
    y = layers.ReLU()(layers.Conv2D(5, 3, padding="same", name="inside")(x))
    y = layers.Conv2D(3, 1, name="back")(y)  # x waits: 48 + 80 + 48
    model = keras.Model(i, layers.Flatten()(layers.Add(name="sum")([x, y])))
    graph = read(model)
    assert graph.cost(kind="memory") == 4 * (48 + 80 + 48)
    assert graph.cost({"inside": 1}, kind="memory") == 4 * (48 + 16 + 48)
    assert graph.cost(kind="memory", left_out=("sum",)) == 4 * (32 + 48)


def residual():
    i = image()
    x = unit(i, 6)
    for _ in range(2):
        x = layers.Add()([x, unit(unit(x, 12), 6)])
    return classified(i, x)


def test_the_bound_lies_above_the_mean_and_meets_single_networks():
    space = tas_tf.SearchSpace.from_model(residual(), ratios=(0.5, 1.0), leave_out_branches=True)
    model, (low, high) = cost_model(space, "memory"), derivation.reachable(space, MEMORY)
    sizes = [len(choice.candidates) for choice in space.choices], [2] * len(space.branches)
    peaks = []
    for picks in itertools.product(*map(range, sizes[0] + sizes[1])):
        widths, branches = picks[: len(sizes[0])], picks[len(sizes[0]) :]
        one_hot = np.eye(2)[list(widths)], np.eye(2)[list(branches)]
        peaks.append(cost(space.architecture(widths, branches), "memory"))
        assert model.expected(*one_hot, total=np.max) == peaks[-1]
        assert peaks[-1] <= model.expected(*one_hot) <= 1.05 * max(peaks)
    uniform = np.full((len(sizes[0]), 2), 0.5), np.full((len(sizes[1]), 2), 0.5)
    assert np.mean(peaks) <= model.expected(*uniform) <= 1.05 * max(peaks)
    assert low <= min(peaks) and high == max(peaks)


def test_a_budget_of_memory_is_kept_beside_one_of_macs():
    space = tas_tf.SearchSpace.from_model(residual(), leave_out_branches=True)
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(len(space.choices), 8)), rng.normal(size=(len(space.branches), 2))
    budgets = parse_targets(["memory: 0.7", "macs: 0.5"], space, tolerance=0.2)
    found = derivation.derive(space, *logits, budgets)
    assert found.in_band
    assert all(budget.contains(cost(found.architecture, budget.kind)) for budget in budgets)


(MEMORY,) = (
    b.kind for b in parse_targets("memory: 0.9", tas_tf.SearchSpace.from_model(residual()))
)
