"""pytest under `bazel test`: the fast tests of the files that are the arguments.

Fails where there is none, for which pytest has an exit code of its own.
"""

import os
import sys

import pytest

if __name__ == "__main__":
    sys.exit(
        pytest.main(
            [
                *("-c", "pyproject.toml", "-m", "not slow", "-p", "no:cacheprovider"),
                f"--junitxml={os.environ['XML_OUTPUT_FILE']}",
                *sys.argv[1:],
            ]
        )
    )
