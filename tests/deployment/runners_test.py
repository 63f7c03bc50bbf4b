"""Networks in every runtime: the same logits, and times that are those of the calls."""

import itertools
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from tas_tf.deployment import formats, litert, runners, speed
from tas_tf.errors import SpecError
from tas_tf.models.spec_compiler import build_model
from tas_tf.runtime import devices
from tas_tf.spaces.search_space import SearchSpace


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_model(SearchSpace.resnet(8, 10, (8, 8, 1)).unpruned())


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("runtime", formats.RUNTIMES)
def test_every_runtime_gives_the_logits_of_the_network(network, runtime, batch_size):
    images = runners.random_images(network, batch_size, seed=1)
    received = runners.runner(network, runtime, batch_size, threads=2)(images)
    expected = network(images).numpy()
    assert received.shape == expected.shape and received.dtype == np.float32
    # int8 has a step of about 1 % of the range.
    tolerance = 0.15 if runtime == "litert_int8" else 1e-5
    assert np.abs(received - expected).max() < tolerance * np.abs(expected).max()
    assert np.abs(runners.runner(network, runtime, batch_size)(images) - received).max() < 1e-6


def test_int8_is_int8_from_end_to_end(network):
    samples = runners.random_images(network, 3)
    small = litert.litert_bytes(network, 2, samples)
    assert len(small) < 0.5 * len(litert.litert_bytes(network, 2))


def test_times_are_those_of_the_calls():
    calls = {"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.004)}
    found = runners.time_calls(calls, seconds=0.1)
    assert 1 <= found["short"].median_ms < 4 <= found["long"].median_ms < 40
    assert found["long"].median_ms <= found["long"].p90_ms <= found["long"].p99_ms
    assert found["short"].rounds == found["long"].rounds >= runners.LEAST_ROUNDS


@pytest.mark.parametrize(("seconds", "rounds"), [(0.1, 20), (0.5, 10), (3, 5)])
def test_of_rounds_that_take_seconds_fewer_do(seconds, rounds):
    ticks = itertools.count(step=seconds)
    found = runners.time_calls({"call": lambda: None}, seconds=1, clock=lambda: next(ticks))
    assert found["call"].rounds == rounds


def test_calls_are_timed_in_turn():
    made = []
    times = runners.in_turn({name: lambda n=name: made.append(n) for name in "abc"}, 4)
    assert "".join(made) == 4 * "abc"
    assert list(times) == [*"abc"] and all(of_call.shape == (4,) for of_call in times.values())


def test_percentiles():
    times = runners.Times.of(np.arange(1, 102, dtype=float))
    assert times == runners.Times(26, 51, 91, 100, 101)


def test_threads_are_those_asked_for():
    code = (
        "from tas_tf.deployment import runners; from tas_tf.runtime import devices\n"
        "import tensorflow as tf; runners.use_threads(1); tf.constant(1)\n"
        "assert devices.threads() == 1; runners.use_threads(1); runners.use_threads(2)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "SpecError: threads: TensorFlow has started" in ended.stderr


def test_refusals(network):
    with pytest.raises(SpecError, match="runtime: expected one of saved_model, .*Received: 'ort'"):
        runners.runner(network, "ort")
    with pytest.raises(SpecError, match="threads: expected at least 1"):
        runners.use_threads(0)


def test_what_times_depend_on_is_described():
    for runtime, made in formats.FORMATS.items():
        described = runners.describe_device(runtime)
        assert {"tensorflow", *made.packages} <= set(described["versions"])
        by_tensorflow = runtime in ("saved_model", "keras")
        expected = devices.device_names()[0] if by_tensorflow else devices.processor_name()
        assert described["processor"] == runners.measured_on(runtime) == expected
    assert runners.measured_on("of another version") == devices.processor_name()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_runtime_has_the_threads_that_it_is_given(network, threads):
    session = runners.runner(network, "onnx", threads=threads).session
    assert session.get_session_options().intra_op_num_threads == threads
    compiled = runners.runner(network, "openvino", threads=threads).network
    assert compiled.get_property("INFERENCE_NUM_THREADS") == min(threads, devices.cores())


@pytest.mark.parametrize(
    ("macs", "time", "faster"),
    [(0.55, 1 / 1.41, True), (0.55, 1 / 1.39, False), (0.8, 0.8, True), (0.8, 0.95, False)],
)
def test_what_is_called_faster(macs, time, faster):
    assert speed.is_faster({"share_of_macs": macs}, time) == faster
    # What was asked for in milliseconds is judged by milliseconds, whatever it has of the MACs.
    assert speed.is_faster({"share_of_macs": macs, "share_asked": None}, time) == faster
    assert speed.is_faster({"share_of_macs": 0.1, "share_asked": macs}, time) == faster


@pytest.mark.parametrize(
    ("derivation", "share"),
    [
        ({"budgets": {"latency": {"amount": 60_000.0, "unpruned": 100_000}}}, 0.6),
        ({"budgets": {"latency": {"amount": 2e5, "unpruned": 1e5}}}, 1.0),
        ({"budgets": {"macs": {"amount": 60_000.0, "unpruned": 100_000}}}, None),
        ({"budgets": {"latency": {"amount": "60", "unpruned": 1}}}, None),
        ([], None),
    ],
)
def test_the_time_that_was_asked_for_is_that_of_the_search(derivation, share):
    architecture = SearchSpace.resnet(8).unpruned()
    assert speed.share_asked(architecture) is None
    found = architecture.replace(provenance={"derivation": derivation})
    assert speed.share_asked(found) == share
