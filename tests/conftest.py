"""Fixtures, and where developers keep the reference numbers and the prepared data sets."""

import os
import pathlib
import signal

import parity
import pytest
import spaces

from tas_tf.spaces import families

_SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


# A shell has background commands ignore SIGINT, which the tests of interruptions send.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _folder(variable: str, default: pathlib.Path) -> pathlib.Path:
    folder = pathlib.Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: set {variable} to the folder that has it")
    return folder


@pytest.fixture(scope="session")
def reference_dir() -> pathlib.Path:
    """The folder that directly holds the reference's .npz files."""
    return _folder("TAS_REFERENCE_DIR", _SHARED / "reference" / "numerics")


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """A TFDS folder with cifar10 prepared."""
    return _folder("TAS_DATA_DIR", _SHARED / "tfds")


def pytest_sessionfinish(session):
    """Hands the comparisons of a process that runs a part of the tests to the one that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["parity"] = parity.records()


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node, error):
    """Takes what such a process hands over; one that crashed hands nothing."""
    parity.add(*getattr(node, "workeroutput", {}).get("parity", ([], {})))


def pytest_terminal_summary(terminalreporter):
    """Prints every comparison with the reference, with its tolerance and its worst error."""
    lines = parity.table()
    if lines:
        terminalreporter.section("agreement with the reference")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture(scope="module")
def odd_blocks():
    """Registers blocks of odd kernels beside the families' own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, block in spaces.ODD_BLOCKS.items():
            patch.setitem(families.BLOCKS, name, block)
        yield
