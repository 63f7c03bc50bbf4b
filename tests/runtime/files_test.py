"""Files: trees that are copied and moved, on this machine and where only tf.io.gfile reaches."""

import pytest
import tensorflow as tf

from tas_tf.runtime import files

TREE = ("saved_model.pb", "assets/labels.txt", "assets.extra/requests", "x/y/z")


@pytest.fixture(params=["", "ram:/"], ids=["disk", "memory"])
def folder(request, tmp_path):
    """A folder that holds a tree, on disk or in memory."""
    folder = f"{request.param}{tmp_path}"
    for name in TREE:
        tf.io.gfile.makedirs(f"{folder}/from/{name}".rsplit("/", 1)[0])
        files.write_whole(f"{folder}/from/{name}", name)
    return folder


def contents(folder):
    """The texts of the files of a tree, by their paths within it."""
    return {
        f"{at}/{name}".removeprefix(f"{folder}/"): files.read_text(f"{at}/{name}")
        for at, _, names in tf.io.gfile.walk(folder)
        for name in names
        if tf.io.gfile.exists(f"{at}/{name}")
    }


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_tree_is_copied(folder, slash):
    files.transfer(f"{folder}/from{slash}", f"{folder}/to")
    assert contents(f"{folder}/to") == contents(f"{folder}/from") == {name: name for name in TREE}


def test_a_file_is_copied(folder):
    files.transfer(f"{folder}/from/x/y/z", f"{folder}/file")
    assert files.read_text(f"{folder}/file") == "x/y/z"


def test_only_what_is_wanted_is_copied(folder):
    files.transfer(f"{folder}/from", f"{folder}/to", wanted=lambda path: path.startswith("assets/"))
    assert list(contents(f"{folder}/to")) == ["assets/labels.txt"]
    assert not tf.io.gfile.exists(f"{folder}/to/x")


def test_a_tree_takes_the_place_of_another(folder):
    files.write_whole(f"{folder}/old", "")
    tf.io.gfile.makedirs(f"{folder}/to")
    files.write_whole(f"{folder}/to/stale", "")
    with files.replacing(f"{folder}/to") as temporary:
        files.transfer(f"{folder}/from", temporary)
    assert contents(f"{folder}/to") == {name: name for name in TREE}
    assert sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder)) == ["from", "old", "to"]
