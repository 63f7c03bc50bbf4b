"""pytest under `bazel test`: the fast tests of one folder, which is the argument.

Fails where pytest finds no test, which has an exit code of its own.
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
