"""Folders of images: what is inferred of them, what is left out, and what cannot be listed."""

import contextlib
import json
import os
import re
import shutil
import socket
import unittest.mock

import numpy as np
import pytest
from image_sets import arrays, prepared
from PIL import Image

from tas_tf.data import folders, image_data
from tas_tf.errors import DataError


def _draw(path, value=100, shape=(6, 5, 3), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten coloured images."""
    for label, name in enumerate(("cold", "warm")):
        for number in range(10):
            _draw(tmp_path / "images" / name / f"{number}.png", 100 * label + number)
    return tmp_path / "images"


def _account(folder, **arguments):
    return "\n".join(image_data.ImageData(str(folder), **arguments).describe().account)


@pytest.mark.parametrize("place", ["cold/0", "cold/9", "warm/5"])
@pytest.mark.parametrize(("minority", "majority"), [((6, 5), (6, 5, 3)), ((6, 5, 3), (6, 5))])
def test_grey_and_colour_become_colour_wherever_they_stand(tmp_path, place, minority, majority):
    for name in ("cold", "warm"):
        for number in range(10):
            odd = f"{name}/{number}" == place
            _draw(tmp_path / name / f"{number}.png", 7, minority if odd else majority)
    info = image_data.ImageData(str(tmp_path)).describe()
    assert info.input_shape == (6, 5, 3)
    kind = "grey" if len(minority) == 2 else "colour"
    assert f"grey and colour are mixed: 1 {kind} ('{tmp_path}/{place}.png')" in str(info.account)


def test_properties_come_from_a_stated_sample_of_every_class(folder, monkeypatch):
    monkeypatch.setattr(folders, "SAMPLE", 4)
    assert "Looked at: 4 of 20 images: 4 colour; 6x5" in _account(folder)
    _draw(folder / "zoo" / "0.png", 1, (6, 5))  # of a class of its own: always looked at
    assert "grey and colour are mixed: 1 grey" in _account(folder)


_KINDS = {
    "16 bits": (lambda p: Image.fromarray(np.full((6, 5), 999, np.uint16)).save(p), "the upper 8"),
    "transparent": (lambda p: _draw(p, 9, (6, 5, 4)), "it is dropped"),
    "turned": (lambda p: _draw(p, exif=_turned()), "it is not applied"),
}


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(("write", "said"), _KINDS.values(), ids=_KINDS)
def test_what_images_lose_is_said(folder, write, said):
    write(folder / "warm" / "odd.png")
    assert re.search(f"Note: .*odd.png.*{said}|Note: .*{said}.*odd.png", _account(folder))


def _nested(folder):
    _draw(folder / "warm" / "more" / "1.png")
    _draw(folder / "warm" / "more" / "deep" / "2.png")


def _socket(folder):
    server = socket.socket(socket.AF_UNIX)
    before = os.getcwd()
    os.chdir(folder)  # paths of sockets are short
    server.bind("warm/plug.png")
    os.chdir(before)
    server.close()


# What is put into a folder, and what is said to be left out.
_LEFT_OUT = {
    "text": (lambda f: (f / "warm" / "notes.txt").write_text("x"), "1 files that are no images"),
    "hidden": (lambda f: (f / "cold" / ".x.png").write_text("x"), "1 hidden files: 'cold/.x.png'"),
    "heic": (lambda f: (f / "warm" / "1.HEIC").write_text("x"), "not read (.heic): 'warm/1.HEIC'"),
    "beside": (lambda f: _draw(f / "stray.png"), "1 files beside the folders of the classes"),
    "nested": (_nested, "2 images in sub-folders of a class, which are not read: 'warm/more'"),
    "folder": (lambda f: (f / "warm" / "x.jpg").mkdir(), "1 sub-folders of a class, without"),
    "pipe": (lambda f: os.mkfifo(f / "warm" / "pipe.png"), "1 that are no files"),
    "socket": (_socket, "1 that are no files"),
    "device": (lambda f: (f / "warm" / "zero.png").symlink_to("/dev/zero"), "1 that are no files"),
    "broken": (lambda f: (f / "warm" / "l.png").symlink_to("nowhere"), "1 links that lead nowhere"),
    "loop": (lambda f: (f / "warm" / "l.png").symlink_to("l.png"), "1 links that lead nowhere"),
}


@pytest.mark.parametrize(("put", "said"), _LEFT_OUT.values(), ids=_LEFT_OUT)
def test_what_is_left_out_is_accounted_for(folder, put, said):
    put(folder)
    images = prepared(str(folder))
    assert said in "\n".join(images.describe().account)
    assert images.record()["counts"] == {"train": 20}
    (entry,) = json.loads(json.dumps(images.record()))["account"]["left_out"]
    assert entry["examples"] and entry["reason"]


def test_names_that_are_no_utf8(folder):
    path = os.fsencode(folder / "warm") + b"/caf\xe9.png"
    shutil.copy(folder / "warm" / "3.png", path)
    images = prepared(str(folder), mean=[0] * 3, deviation=[1] * 3)
    assert images.record()["counts"] == {"train": 21}
    read = [arrays(images.evaluation(part, 32))[0][1] for part in ("train", "test")]
    assert sum(map(len, read)) == 21
    json.dumps(images.record()).encode()
    with open(path, "wb") as file:
        file.write(b"spoilt")
    with pytest.raises(DataError, match=r"caf\\\\xe9.png' cannot be read as an image"):
        prepared(str(folder))
    os.rename(folder / "warm", os.fsencode(folder) + b"/w\xe4rm")
    with pytest.raises(DataError, match=r"class folder 'w\\\\xe4rm' .* is no UTF-8 text"):
        prepared(str(folder))


@pytest.mark.parametrize("names", [("train", "val"), ("Training", "Test"), ("train", "eval")])
def test_usual_names_of_splits_are_understood(folder, tmp_path, names):
    for name in names:
        shutil.copytree(folder, tmp_path / "set" / name)
        _draw(tmp_path / "set" / name / "stray.png")
    info = image_data.ImageData(str(tmp_path / "set")).describe()
    assert info.label_names == ("cold", "warm")
    assert info.evaluation_split == ("test" if names[1] == "Test" else "validation")
    assert "2 files beside the folders of the classes" in str(info.account)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("Cold", "cold"), "Note: the classes 'Cold' and 'cold' have names that look alike"),
        (
            ("\u00e9", "e\u0301"),
            r"Note: the classes 'e\\u0301' and '\\xe9' have names that look alike",
        ),
        ((" ", "cold"), r"Classes: ' ' \(10\), cold"),
    ],
    ids=["case", "accent", "blank"],
)
def test_names_that_mislead_the_eye_are_told(folder, tmp_path, names, said):
    for name in names:
        shutil.copytree(folder / "cold", tmp_path / "set" / name)
    assert re.search(said, _account(tmp_path / "set"))


def test_a_class_that_a_split_lacks_is_said(folder, tmp_path):
    _draw(folder / "hot" / "0.png")
    _draw(folder / "hot" / "1.png")
    shutil.copytree(folder, tmp_path / "set" / "train")
    shutil.copytree(folder, tmp_path / "set" / "test")
    shutil.rmtree(tmp_path / "set" / "test" / "cold")
    images = prepared(str(tmp_path / "set"), mean=[0] * 3, deviation=[1] * 3)
    assert "test has no images of 1 of the classes: 'cold'" in str(images.describe().account)
    ((_, labels),) = arrays(images.evaluation("test", 20))
    np.testing.assert_array_equal(np.bincount(labels), [0, 2, 10])


def test_train_alone_is_a_split(folder, tmp_path):
    shutil.move(folder, tmp_path / "set" / "train")
    assert image_data.ImageData(str(tmp_path / "set")).describe().label_names == ("cold", "warm")


_REFUSED = {
    "pictures in splits": (
        lambda f: [
            f.joinpath(old).rename(f / new) for old, new in (("cold", "train"), ("warm", "val"))
        ],
        "has 0 sub-folders.*read as a split",
    ),
    "two of a split": (
        lambda f: [
            shutil.copytree(f / "cold", f / n / c) for n in ("train", "val", "valid") for c in "ab"
        ],
        "'val' and 'valid', each of which may be the split 'validation'",
    ),
    "all nested": (
        lambda f: shutil.copytree(f / "cold", f / "deep" / "more"),
        "deep' has no images .*sub-folders have 10: move them up",
    ),
    "a class that train lacks": (
        lambda f: [
            shutil.copytree(f / "cold", f / split / name)
            for split, names in (("train", "ab"), ("test", "bc"))
            for name in names
        ],
        "train lacks 'c', and test lacks 'a'",
    ),
    "an empty file": (lambda f: (f / "warm" / "7.png").write_bytes(b""), "7.png.*file is empty"),
    "a file": (lambda f: (shutil.rmtree(f), f.write_text("zip")), "is a file; a folder"),
}


@pytest.mark.parametrize(("spoil", "message"), _REFUSED.values(), ids=_REFUSED)
def test_what_looks_like_a_mistake_is_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(DataError, match=message):
        image_data.ImageData(f"folder:{folder}").describe()


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    real = os.scandir

    def refusing(path):
        if str(path).endswith("warm"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)  # the tests may run as one who may read all
    with pytest.raises(DataError, match="warm' cannot be listed: .*Permission denied"):
        image_data.ImageData(str(folder)).describe()


def test_a_folder_whose_files_cannot_be_reached_is_named(folder, monkeypatch):
    """Its names may be read, but it may not be searched."""

    @contextlib.contextmanager
    def unsearchable(path):
        if not str(path).endswith("warm"):
            with real(path) as found:
                yield found
            return
        entry = unittest.mock.Mock(**{"is_dir.return_value": False, "is_file.return_value": True})
        entry.name, entry.path = "1.png", f"{path}/1.png"
        entry.stat.side_effect = PermissionError(13, "Permission denied", entry.path)
        yield iter([entry])

    real = os.scandir
    monkeypatch.setattr(os, "scandir", unsearchable)
    with pytest.raises(DataError, match="warm' cannot be listed: .*Permission denied: .*1.png"):
        image_data.ImageData(str(folder)).describe()


@pytest.mark.parametrize("spoilt", [["cold/0.png"], ["warm/3.png", "warm/9.png"]])
def test_a_dry_run_finds_images_that_cannot_be_read(folder, spoilt):
    for name in spoilt:
        (folder / name).write_bytes(b"no image")
    message = f"{spoilt[0]}' cannot be read .* {len(spoilt)} of 20 images cannot be read"
    with pytest.raises(DataError, match=message):
        image_data.ImageData(str(folder)).describe()


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("{above}/imagse", "does not exist: '{above}' has no 'imagse'. Did you mean 'images'"),
        ("./flowrs", "does not exist: '{cwd}' has no './flowrs'|has no 'flowrs'"),
        ("no/such/place", "does not exist, nor does"),
        ("~/no_such_place", "does not exist: .* has no 'no_such_place'"),
        ("flowrs", "unknown data set 'flowrs': .*There is no folder 'flowrs' in '{cwd}'"),
        ("folder:", "'folder:' names no folder"),
    ],
)
def test_a_path_is_told_from_a_name(folder, dataset, message):
    places = {"above": folder.parent, "cwd": os.getcwd()}
    with pytest.raises(DataError, match=message.format(**places)) as refused:
        image_data.ImageData(dataset.format(**places)).describe()
    assert dataset == "flowrs" or "tf_flowers" not in str(refused.value)


def test_a_name_is_compared_with_the_folders_beside_it_too(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "flowers").mkdir()
    with pytest.raises(DataError, match="'flowrs': did you mean 'flowers' or .*'tf_flowers'"):
        image_data.ImageData("flowrs").describe()
