"""The launcher of a command under `bazel run`, which would start it in a folder of Bazel's own.

The first argument is the command's name, the others are its own.
"""

import os
import runpy
import sys

if __name__ == "__main__":
    name = sys.argv.pop(1)
    os.chdir(os.environ.get("BUILD_WORKING_DIRECTORY", "."))
    # What an interrupted command says to go on with.
    sys.orig_argv = ["tools/bazel", "run", f"//:{name}", "--", *sys.argv[1:]]
    runpy.run_module(f"tas_tf.{name}", run_name="__main__", alter_sys=True)
