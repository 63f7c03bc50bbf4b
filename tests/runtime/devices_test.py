"""The devices that are printed and recorded are those in force."""

import json
import os
import subprocess
import sys

import pytest
import tensorflow as tf
from command_line import PATIENCE, PROJECT

from tas_tf.runtime import devices

# Threads of the pool of one operation have no name of their own: those that are more count.
COUNTED = """
import glob, json, os, sys
number, cores = json.loads(sys.argv[1])
os.sched_setaffinity(0, cores)
import tensorflow as tf
from tas_tf.runtime import devices
if number is not None:
    tf.config.threading.set_intra_op_parallelism_threads(number)
tf.config.list_logical_devices()
tasks = len(glob.glob("/proc/self/task/*"))
print(json.dumps([devices.threads(), devices.cores(), tasks]))
"""


def counted(number, cores, **variables):
    """Threads and cores as they are said, and all threads of the process."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, json.dumps([number, cores])],
        env={**os.environ, "PYTHONPATH": str(PROJECT), **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="Linux lists threads there")
def test_threads_are_those_in_force():
    one = [min(os.sched_getaffinity(0))]
    threads, cores, tasks = counted(None, one)
    assert (threads, cores) == (1, 1)
    by_environment = counted(None, one, TF_NUM_INTRAOP_THREADS="4")
    assert by_environment == [4, 1, tasks + 3]
    by_setting = counted(6, one, TF_NUM_INTRAOP_THREADS="4")
    assert by_setting == [6, 1, tasks + 5]


@pytest.mark.parametrize("text", ["", "0", "many", "-1", "\N{SUPERSCRIPT TWO}"])
def test_what_is_no_number_of_threads_leaves_the_default(text):
    assert devices_with(text) == devices.cores()


def devices_with(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_NUM_INTRAOP_THREADS", text)
        return devices.threads()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "TF32"), ("float64", "float32")],
)
def test_the_precision_of_products_is_found_by_trying(dtype, expected):
    def convolve(image, kernel):  # float16 has the digits of TF32
        image, kernel = tf.cast(image, dtype), tf.cast(kernel, dtype)
        return tf.cast(tf.nn.conv2d(image, kernel, 1, "SAME"), tf.float32)

    assert devices.precision_of(convolve) == expected


def test_the_machine_is_recorded_as_it_is():
    machine = devices.describe_machine()
    assert machine["threads"] == devices.threads() and machine["cores"] == devices.cores()
    assert machine["float32_products"] in ("float32", "TF32", "bfloat16")
    gpus = len(tf.config.list_logical_devices("GPU"))
    assert devices.in_use() == {0: "CPU", 1: "GPU"}.get(gpus, f"{gpus} GPUs")
