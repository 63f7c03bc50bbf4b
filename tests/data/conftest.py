"""Fixtures of the tests of the data."""

import pytest
from image_sets import store

from tas_tf.data import batches


@pytest.fixture(params=["memory", "stream"])
def held(request, monkeypatch):
    """Runs a test twice: with sets in memory, and streaming."""
    if request.param == "stream":
        monkeypatch.setattr(batches, "MEMORY_LIMIT", 0)
    return request.param


@pytest.fixture(scope="session")
def numbered_dir(tmp_path_factory):
    """A TFDS folder with `numbered` in three files: 240 images whose first two pixels say which."""
    folder = tmp_path_factory.mktemp("tfds")
    store(folder, "numbered", {"train": 240, "test": 35}, shards=3)
    return folder
