"""Runs the same steps on one device and on several replicas, and shows how far results differ.

    python tests/support/replicas.py                            # the whole table
    python tests/support/replicas.py --ways '2 devices' --cases 'search, plain float64'

Each way is a process of its own, or two, since devices and workers are set before TensorFlow
starts. A batch has 26 images, the last one of an epoch 9: no part of the replicas is like another,
and of four replicas one gets nothing of the last batch.
"""

import argparse
import json
import os
import socket
import subprocess
import sys

WAYS = {"1 device": 1, "2 devices": 2, "4 devices": 4, "2 workers": 1}
WORKERS = 2
BATCH, LAST_BATCH, STEPS, EPOCHS = 26, 9, 5, 4
# Largest differences: after the first step, and after 20.
EXACT = (1e-8, 1e-8)
# What rounding puts on the other side of a ReLU or of another kink moves a gradient by more than
# rounding; measured differences are in docs/distributed.md.
ROUNDED = (1e-5, 5e-2)
CASES = {
    "search, plain float64": EXACT,
    "search, drawn float64": EXACT,
    "search, padded float64": EXACT,
    "search, derived float64": EXACT,
    "paths float64": EXACT,
    "distillation float64": EXACT,
    "search, plain float32": ROUNDED,
    "search, drawn float32": ROUNDED,
    "search, padded float32": ROUNDED,
    "search, model float32": ROUNDED,
    "paths, model float32": ROUNDED,
    "distillation float32": ROUNDED,
}
# Seconds for a case: on four replicas a search is traced for minutes where the cores are busy.
PATIENCE = 600
OWN_DRAWS = "own draws"  # not to be compared with one device


def make(case: str):
    """Returns a loop, its feed, and what gives its logits."""
    import keras
    import small_runs
    import tensorflow as tf
    from plain import PlainSupernet

    from tas_tf.data.image_data import paired
    from tas_tf.layers.searchable_unit import Mode
    from tas_tf.models.spec_compiler import build_model
    from tas_tf.training.optimizers import SGD, Adam

    kind, precision = case.rsplit(" ", 1)
    data = small_runs.digits()
    images, _ = next(iter(data.evaluation("test", 32)))
    images = tf.cast(images, precision)
    if kind == "distillation":
        keras.config.set_dtype_policy(precision)
        keras.utils.set_random_seed(5)
        teacher = build_model(small_runs.space().unpruned())
        loop = small_runs.training(teacher=teacher)
        keras.config.set_dtype_policy("float32")
        feed = data.training(BATCH, seed=0)
        return loop, feed, lambda: loop.model(images, training=False)
    if kind.endswith("model"):
        loop = small_runs.of_model(measured=kind.startswith("paths"))
        draw = loop.supernet.fixed_draw(loop.supernet.space.unpruned())
        feed = data.training(BATCH, 0, "weights") if "paths" in kind else paired(data, BATCH, 0)
        return loop, feed, lambda: loop.supernet(images, draw, mode=Mode.INFERENCE)
    if kind == "paths":
        keras.utils.set_random_seed(5)
        teacher = build_model(small_runs.space().unpruned())
        loop = small_runs.paths(teacher=teacher, dtype=precision)
        draw = loop.supernet.fixed_draw(loop.supernet.space.unpruned())
        feed = data.training(BATCH, 0, "weights")
        return loop, feed, lambda: loop.supernet(images, draw, mode=Mode.INFERENCE)
    options = {
        "search, derived": {"shapes": "drawn", "aggregation": "pad", "streams": "derived"},
        "search, plain": {"make": PlainSupernet},
        "search, drawn": {"shapes": "drawn"},
        "search, padded": {"shapes": "static", "aggregation": "pad"},
    }[kind]
    # In float32 rounding puts what is next to zero on the other side of a ReLU, Adam turns a
    # gradient that is all rounding into a step, and large steps multiply both: small ones do not.
    rate, epsilon = (0.05, 1e-8) if precision == "float64" else (0.005, 1e-4)
    settings = {"optimizer": SGD(rate), "arch_optimizer": Adam(0.02, epsilon=epsilon)}
    loop = small_runs.search(supernet={**options, "dtype": precision}, **settings)
    draw = loop.supernet.fixed_draw(loop.supernet.space.unpruned())
    return loop, paired(data, BATCH, 0), lambda: loop.supernet(images, draw, mode=Mode.INFERENCE)


def uneven(feed, precision: str):
    """A feed whose epochs end with a smaller batch."""
    import tensorflow as tf

    from tas_tf.data.batches import Feed

    def cut(step, batch):
        size = tf.where(step % STEPS == STEPS - 1, LAST_BATCH, BATCH)

        def of(tensor):
            return tf.cast(tensor[:size], precision if tensor.dtype.is_floating else tensor.dtype)

        return tf.nest.map_structure(of, batch)

    def batches(start, stop):
        numbered = feed.batches(start, stop).enumerate(start)
        return numbered.map(lambda step, batch: cut(step, batch))

    return Feed(STEPS, batches)


def result(case: str, strategy) -> dict:
    """Returns state before, after one step and after all; logits and metrics; what differs."""
    import keras
    import small_runs

    with strategy.scope():
        loop, feed, logits = make(case)
    states = [small_runs.values(loop)]

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if len(states) == 1:
                states.append(small_runs.values(loop))

    history = loop.fit(uneven(feed, case.rsplit(" ", 1)[1]), epochs=EPOCHS, callbacks=[Watch()])
    states.append(small_runs.values(loop))
    for logs in history:
        del logs["seconds_per_step"]
    return {
        "states": states,
        "logits": logits().numpy(),
        "history": history,
        "apart": apart(loop, strategy),
    }


def apart(loop, strategy) -> float:
    """Returns how far variables differ between the replicas of a process."""
    import numpy as np
    import small_runs

    copies = [
        [copy.numpy() for copy in strategy.experimental_local_results(variable)]
        for variable in small_runs.variables(loop)
    ]
    return max(float(np.abs(copy - of[0]).max()) for of in copies for copy in of[1:] or of)


def difference(mine, theirs) -> float:
    """Returns the largest difference, relative to the largest value where that is above one.

    Counters are left out.
    """
    import numpy as np

    return max(
        float(np.abs(a - b).max() / max(1, np.abs(b).max()))
        for a, b in zip(mine, theirs, strict=True)
        if a.ndim
    )


def compare(case: str, strategy) -> dict:
    """Compares a case under a strategy with one device."""
    import numpy as np
    import tensorflow as tf

    one, several = result(case, tf.distribute.get_strategy()), result(case, strategy)
    for a, b in zip(several["states"][0], one["states"][0], strict=True):
        np.testing.assert_array_equal(a, b)
    metrics = [
        [abs(a[name] - b[name]) for name in b]
        for a, b in zip(several["history"], one["history"], strict=True)
    ]
    return {
        "case": case,
        "moved": difference(one["states"][2], one["states"][0]),
        "first step": difference(several["states"][1], one["states"][1]),
        "20 steps": difference(several["states"][2], one["states"][2]),
        "logits": difference([several["logits"]], [one["logits"]]),
        "metrics": max(map(max, metrics)),
        "between replicas": several["apart"],
    }


def own_draws(strategy) -> dict:
    """Runs a search in which every replica draws for itself."""
    import small_runs
    import tensorflow as tf

    from tas_tf.data.image_data import paired
    from tas_tf.layers.sampling import step_seed

    with strategy.scope():
        loop = small_runs.search(supernet={"draws": "own", "shapes": "drawn"})
    before = small_runs.values(loop)
    feed = paired(small_runs.digits(), BATCH, 0)
    history = loop.fit(uneven(feed, "float32"), epochs=1)
    drawn = strategy.run(
        lambda: loop.supernet.draw(tf.constant(5.0), step_seed(3, tf.constant(0), 0)).indices
    )
    return {
        "case": OWN_DRAWS,
        "draws": [d.numpy().tolist() for d in strategy.experimental_local_results(drawn)],
        "moved": difference(small_runs.values(loop), before),
        "loss": history[0]["loss"],
        "between replicas": apart(loop, strategy),
    }


def run_way(way: str, cases: list[str]) -> None:
    """Runs cases under a way's strategy in this process; prints a line of JSON for each."""
    import tensorflow as tf

    from tas_tf.runtime import devices

    count = WAYS[way]
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * count,
    )
    if "TF_CONFIG" in os.environ:
        strategy = devices.choose_strategy()
    else:
        # One strategy for all: two would number their collective operations alike, and clash.
        strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(count)])
    for case in cases:
        found = own_draws(strategy) if case == OWN_DRAWS else compare(case, strategy)
        print(json.dumps({"way": way, **found}), flush=True)


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def configs(count: int) -> list[str]:
    """Returns TF_CONFIG for each of several workers on this machine."""
    workers = [f"localhost:{port}" for port in free_ports(count)]
    return [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        for index in range(count)
    ]


def rows(way: str, cases: list[str]) -> list[dict]:
    """Runs cases under a way, in processes of their own; returns a row for each and worker."""
    command = [sys.executable, __file__, "--process", "--ways", way, "--cases", *cases]
    common = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "2"}
    extra = [{"TF_CONFIG": config} for config in configs(WORKERS)] if "work" in way else [{}]
    started = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=common | own
        )
        for own in extra
    ]
    try:
        outputs = [process.communicate(timeout=PATIENCE * len(cases)) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, stderr) in zip(started, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(f"{way}: exit code {process.returncode}\n{stderr[-5000:]}")
    return [json.loads(line) for stdout, _ in outputs for line in stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS)[1:])
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--process", action="store_true", help="run the one way in this process")
    flags = parser.parse_args()
    if flags.process:
        run_way(flags.ways[0], flags.cases)
        return
    titles = ("way", "case", "moved", "first step", "20 steps", "logits", "metrics")
    titles += ("between replicas",)
    print("| " + " | ".join(titles) + " |\n|" + " --- |" * len(titles))
    for way in flags.ways:
        for row in rows(way, flags.cases):
            shown = (f"{v:.1e}" if isinstance(v, float) else v for v in map(row.get, titles))
            print("| " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    main()
