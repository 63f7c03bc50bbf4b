"""Fixtures of the tests of specs."""

import pytest
import toys

from tas_tf.config import gin_config


@pytest.fixture(autouse=True)
def nothing_loaded(tmp_path, monkeypatch):
    """Runs every test in a directory of its own, with nothing loaded, and unloads what it loads."""
    monkeypatch.chdir(tmp_path)
    toys.registered()
    gin_config.load([])
    yield
    gin_config.load([])
