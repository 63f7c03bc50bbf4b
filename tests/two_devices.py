"""Runs one step on one and on two virtual devices, and prints how far the results differ.

A process of its own, since virtual devices are set before TensorFlow starts.
"""

import json

import numpy as np
import small_runs
import tensorflow as tf

from tas_tf.data import paired


def result(make, feed, strategy):
    """Returns the variables before and after a step, and its logs."""
    with strategy.scope():
        loop = make()
    before = small_runs.values(loop)
    logs = loop.fit(small_runs.shortened(feed, 1), 1)[0]
    del logs["seconds_per_step"]
    return before, small_runs.values(loop), logs


def compare(make, feed, mirrored) -> dict[str, float]:
    """Returns the largest differences between one and two devices."""
    before, one, logs = result(make, feed, tf.distribute.get_strategy())
    same, two, other_logs = result(make, feed, mirrored)
    for a, b in zip(before, same, strict=True):
        np.testing.assert_array_equal(a, b)
    return {
        "moved": max(
            float(np.abs(a - b).max()) for a, b in zip(before, one, strict=True) if a.ndim
        ),
        "largest_difference": max(
            float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True)
        ),
        "largest_log_difference": max(abs(logs[name] - other_logs[name]) for name in logs),
    }


def main():
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    # One strategy for both: two would number their collective operations alike, and clash.
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    data = small_runs.digits()
    print(
        json.dumps(
            {
                "training": compare(small_runs.training, data.training(64, seed=0), mirrored),
                "search": compare(small_runs.search, paired(data, 64, seed=0), mirrored),
            }
        )
    )


if __name__ == "__main__":
    main()
