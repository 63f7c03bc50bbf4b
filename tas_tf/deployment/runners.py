"""Runners of networks: one for each runtime, and the time of a call."""

from __future__ import annotations

import abc
import dataclasses
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tas_tf.deployment import litert
from tas_tf.deployment.saved_model import frozen
from tas_tf.errors import SpecError
from tas_tf.runtime.stderr import held_back

RUNTIMES = ("keras", "saved_model", "litert", "litert_int8")
WARM_ROUNDS = 5
LEAST_ROUNDS, MOST_ROUNDS = 20, 2_000
_SAMPLES = 32  # random images that set the ranges of int8 where no real ones are given


@dataclasses.dataclass(frozen=True)
class Times:
    """How long a call takes, in milliseconds.

    Args:
        median_ms: Median.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        rounds: Number of calls that were timed.
    """

    median_ms: float
    p90_ms: float
    p99_ms: float
    rounds: int

    @classmethod
    def of(cls, milliseconds: np.ndarray) -> Times:
        """Returns the percentiles of the times of several calls."""
        median, p90, p99 = np.percentile(milliseconds, (50, 90, 99)).tolist()
        return cls(median, p90, p99, len(milliseconds))


def use_threads(threads: int) -> None:
    """Limits TensorFlow to so many threads; LiteRT's runners take their own number.

    Raises:
        SpecError: If TensorFlow has started with another number.
    """
    if threads < 1:
        raise SpecError(f"expected at least 1. Received: {threads}", field="threads")
    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        raise SpecError(
            "TensorFlow has started, and keeps the number of threads that it has", field="threads"
        ) from None


def check_runtime(name: str) -> None:
    """Refuses a runtime that there is not, or that is not installed.

    Raises:
        SpecError: If it is none of `RUNTIMES`.
        InstallationError: If its package is missing.
    """
    if name not in RUNTIMES:
        raise SpecError(
            f"expected one of {', '.join(RUNTIMES)}. Received: {name!r}", field="runtime"
        )
    if name.startswith("litert"):
        litert.require_litert()


class Runner(abc.ABC):
    """A network in a runtime; a call gives logits (batch, classes) for images.

    Images are normalized, (batch, height, width, channels) float32, always as many.
    """

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns the logits of images."""
        self.load(images)
        self.run()
        return self.logits()

    @abc.abstractmethod
    def load(self, images: np.ndarray) -> None:
        """Takes the images that `run` runs on."""

    @abc.abstractmethod
    def run(self) -> None:
        """Runs the network; this is what is timed."""

    @abc.abstractmethod
    def logits(self) -> np.ndarray:
        """Returns what the last run gave."""


def runner(
    model: keras.Model,
    runtime: str,
    batch_size: int = 1,
    threads: int = 1,
    samples: np.ndarray | None = None,
) -> Runner:
    """Returns a network in a runtime.

    Args:
        model: The network, of stock layers.
        runtime: One of `RUNTIMES`.
        batch_size: Images in a call.
        threads: Threads of LiteRT; TensorFlow has those of `use_threads`.
        samples: (images, height, width, channels) float32, normalized images from which int8
            takes its ranges; random ones by default, which is enough to measure times.

    Raises:
        SpecError: If there is no such runtime.
        InstallationError: If it is not installed.
    """
    check_runtime(runtime)
    if runtime == "keras":
        traced = tf.function(_inference(model), autograph=False)
        return TensorFlowRunner(traced.get_concrete_function(_images(model, batch_size)))
    if runtime == "saved_model":
        return _saved_model_runner(model, batch_size)
    if runtime == "litert_int8" and samples is None:
        samples = random_images(model, _SAMPLES)
    content = litert_bytes(model, batch_size, samples if runtime == "litert_int8" else None)
    return LiteRTRunner(content, threads)


def _inference(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda images: model(images, training=False)


def _images(model: keras.Model, batch_size: int) -> tf.TensorSpec:
    return tf.TensorSpec((batch_size, *model.input_shape[1:]), tf.float32, name="images")


def _saved_model_runner(model: keras.Model, batch_size: int) -> Runner:
    """Returns a SavedModel's runner; its weights are constants, as in what is exported."""
    spec = _images(model, batch_size)
    constant = frozen(_inference(model), spec)
    served = tf.function(lambda images: {"logits": constant(images)[0]}, autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        signature = served.get_concrete_function(spec)
        tf.saved_model.save(tf.Module(), folder, signatures=signature)
        loaded = tf.saved_model.load(folder)
    return TensorFlowRunner(
        lambda images: loaded.signatures["serving_default"](images=images)["logits"]
    )


class TensorFlowRunner(Runner):
    """A network as a traced function of TensorFlow.

    Args:
        function: From images to logits, tensors both.
    """

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor]):
        self._function = function

    def load(self, images: np.ndarray) -> None:
        """Makes a tensor of the images."""
        self._images = tf.constant(images)

    def run(self) -> None:
        """Calls the function."""
        self._logits = self._function(self._images)

    def logits(self) -> np.ndarray:
        """Returns the function's result."""
        return self._logits.numpy()


class LiteRTRunner(Runner):
    """A LiteRT network in an interpreter; int8 is scaled on the way in and out.

    Args:
        content: The file's content.
        threads: Number of threads.
    """

    def __init__(self, content: bytes, threads: int = 1):
        with held_back():
            self._interpreter = litert.interpreter(content, threads)
            self._interpreter.allocate_tensors()
        (self._source,) = self._interpreter.get_input_details()
        (self._target,) = self._interpreter.get_output_details()

    def load(self, images: np.ndarray) -> None:
        """Copies the images into the interpreter."""
        self._interpreter.set_tensor(self._source["index"], _quantize(images, self._source))

    def run(self) -> None:
        """Invokes the interpreter."""
        self._interpreter.invoke()

    def logits(self) -> np.ndarray:
        """Copies the logits out of the interpreter."""
        values = self._interpreter.get_tensor(self._target["index"])
        scale, zero = self._target["quantization"]
        return (values.astype(np.float32) - zero) * scale if scale else values


def _quantize(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    scale, zero = details["quantization"]
    if not scale:
        return values
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def litert_bytes(model: keras.Model, batch_size: int, samples: np.ndarray | None = None) -> bytes:
    """Returns a network as a LiteRT file's content.

    Args:
        model: The network.
        batch_size: Images in a call, always as many.
        samples: (images, height, width, channels) float32, normalized: from their ranges all of it
            becomes int8, input and output too. None keeps float32.
    """
    # Constants: the calibration of int8 reads no variables.
    constant = frozen(_inference(model), _images(model, batch_size))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([constant], tf.Module())
    if samples is not None:
        batches = [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
        batches = [np.resize(batch, (batch_size, *batch.shape[1:])) for batch in batches]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([batch] for batch in batches)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with held_back(), warnings.catch_warnings():
        # For each network of int8: that its input has no statistics, which it is about to get.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
        return converter.convert()


def random_images(model: keras.Model, count: int, seed: int = 0) -> np.ndarray:
    """Returns random normalized images that fit a network, (count, height, width, channels)."""
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def time_models(
    models: Mapping[Any, keras.Model],
    runtime: str,
    batch_size: int = 1,
    threads: int = 1,
    seconds: float = 10.0,
) -> dict[Any, Times]:
    """Times networks in a runtime, in turn, on random images that are there already.

    Args:
        models: The networks by their names.
        runtime: One of `RUNTIMES`.
        batch_size: Images in a call.
        threads: See `runner`.
        seconds: See `timed`.
    """
    calls = {}
    for name, model in models.items():
        network = runner(model, runtime, batch_size, threads)
        network.load(random_images(model, batch_size))
        calls[name] = network.run
    return time_calls(calls, seconds)


def time_calls(
    calls: Mapping[Any, Callable[[], object]], seconds: float = 10.0
) -> dict[Any, Times]:
    """Times calls in turn, round by round.

    Args:
        calls: Name to what is timed, such as `Runner.run` of several runners; a call returns when
            its work is done.
        seconds: About how long to go on, after the warm-up; at least 20 rounds are timed.
    """
    warm = in_turn(calls, WARM_ROUNDS)
    rounds = int(1e3 * seconds / max(sum(times[-1] for times in warm.values()), 1e-3))
    rounds = min(max(rounds, LEAST_ROUNDS), MOST_ROUNDS)
    return {name: Times.of(times) for name, times in in_turn(calls, rounds).items()}


def in_turn(calls: Mapping[Any, Callable[[], object]], rounds: int) -> dict[Any, np.ndarray]:
    """Times calls round by round: what slows the machine down for a while slows down all of them.

    What a call leaves in the caches is met by each of the others, too.

    Args:
        calls: Name to what is timed; a call returns when its work is done.
        rounds: Number of rounds.

    Returns:
        Milliseconds (rounds,) of each.
    """
    times = np.array([[_milliseconds(call) for call in calls.values()] for _ in range(rounds)])
    return dict(zip(calls, times.T, strict=True))


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)
