"""Networks in every runtime: the same logits, and times that are those of the calls."""

import builtins
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from tas_tf.deployment import runners, speed
from tas_tf.errors import InstallationError, SpecError
from tas_tf.models.spec_compiler import build_model
from tas_tf.spaces.search_space import SearchSpace


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_model(SearchSpace.resnet(8, 10, (8, 8, 1)).unpruned())


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("runtime", runners.RUNTIMES)
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
    small = runners.litert_bytes(network, 2, samples)
    assert len(small) < 0.5 * len(runners.litert_bytes(network, 2))


def test_times_are_those_of_the_calls():
    calls = {"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.004)}
    found = runners.time_calls(calls, seconds=0.1)
    assert 1 <= found["short"].median_ms < 4 <= found["long"].median_ms < 40
    assert found["long"].median_ms <= found["long"].p90_ms <= found["long"].p99_ms
    assert found["short"].rounds == found["long"].rounds >= runners.LEAST_ROUNDS


def test_calls_are_timed_in_turn():
    made = []
    times = runners.in_turn({name: lambda n=name: made.append(n) for name in "abc"}, 4)
    assert "".join(made) == 4 * "abc"
    assert list(times) == [*"abc"] and all(of_call.shape == (4,) for of_call in times.values())


def test_percentiles():
    times = runners.Times.of(np.arange(1, 102, dtype=float))
    assert times == runners.Times(51, 91, 100, 101)


def test_threads_are_those_asked_for():
    code = (
        "from tas_tf.deployment import runners; from tas_tf.runtime import devices\n"
        "import tensorflow as tf; runners.use_threads(1); tf.constant(1)\n"
        "assert devices.threads() == 1; runners.use_threads(1); runners.use_threads(2)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "SpecError: threads: TensorFlow has started" in ended.stderr


def test_refusals(network, monkeypatch):
    with pytest.raises(SpecError, match="runtime: expected one of keras, .*Received: 'onnx'"):
        runners.runner(network, "onnx")
    with pytest.raises(SpecError, match="threads: expected at least 1"):
        runners.use_threads(0)
    real = builtins.__import__

    def without_litert(name, *arguments):
        if name.startswith("ai_edge_litert"):
            raise ModuleNotFoundError(name=name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_litert)
    with pytest.raises(InstallationError, match=r"pip install 'tas_tf\[litert\]'"):
        runners.check_runtime("litert_int8")


@pytest.mark.parametrize(
    ("macs", "time", "faster"),
    [(0.55, 1 / 1.41, True), (0.55, 1 / 1.39, False), (0.8, 0.8, True), (0.8, 0.95, False)],
)
def test_what_is_called_faster(macs, time, faster):
    assert speed.is_faster(macs, time) == faster
