"""Identities of data sets: which changes are seen, what is said of them, and what is none."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from image_sets import numbered, prepared, store
from PIL import Image

from tas_tf.data import folders, identity, image_data
from tas_tf.errors import DataError


def _draw(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 5, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three classes of five images, each image of its own."""
    for label, name in enumerate("abc"):
        for number in range(5):
            _draw(tmp_path / "images" / name / f"{number}.png", 50 * label + number)
    return tmp_path / "images"


@pytest.fixture(params=["all", "sample"])
def extent(request, monkeypatch):
    """How much of the contents is read: all, or that of a sample; of 15 images it is the same."""
    if request.param == "sample":
        monkeypatch.setattr(folders, "HASHED_FILES", 0)


def _record(path):
    """What a run writes of its images and reads again."""
    return json.loads(json.dumps(prepared(str(path)).record()))


def _rename(folder):
    (folder / "a").rename(folder / "zebra")


def _rename_in_place(folder):
    (folder / "c").rename(folder / "d")


def _add_images(folder):
    for number in range(31):
        _draw(folder / "b" / f"more{number}.png", 100)


def _take_away(folder):
    (folder / "b" / "3.png").unlink()


def _swap(folder):
    for one, other in (("a", "x"), ("b", "a"), ("x", "b")):
        (folder / one).rename(folder / other)


def _rotate(folder):
    for one, other in (("c", "x"), ("b", "c"), ("a", "b"), ("x", "a")):
        (folder / one).rename(folder / other)


def _swap_and_add(folder):
    for one, other in (("a", "x"), ("b", "a"), ("x", "b")):
        (folder / one).rename(folder / other)
    for number in range(31):
        _draw(folder / "c" / f"more{number}.png", 100)


def _repaint(folder):
    path = folder / "c" / "2.png"
    content = bytearray(path.read_bytes())
    _draw(path, 103)  # of the same size
    assert len(path.read_bytes()) == len(content)


def _rename_file(folder):
    (folder / "c" / "2.png").rename(folder / "c" / "20.png")


def _move_between(folder):
    (folder / "c" / "2.png").rename(folder / "b" / "c2.png")


def _add_class(folder):
    _draw(folder / "d" / "0.png", 1)
    _draw(folder / "d" / "1.png", 2)
    _draw(folder / "d" / "2.png", 3)


def _split(folder):
    shutil.copytree(folder, folder / "train")
    shutil.copytree(folder / "train", folder / "val")
    for name in "abc":
        shutil.rmtree(folder / name)


# What is done to a folder, what is said of classes (or nothing), and what of images.
_CHANGES = {
    "renamed": (_rename, "class 'a' is now 'zebra'", ""),
    "renamed in place": (_rename_in_place, "class 'c' is now 'd'", ""),
    "images added": (_add_images, "", "31 images more in train: 46 in place of 15"),
    "an image less": (_take_away, "", "1 images fewer in train: 14 in place of 15"),
    "classes swapped": (_swap, "class 'a' is now 'b'; class 'b' is now 'a'", ""),
    "another content": (_repaint, "", "other contents of the images of class 'c' in train"),
    "another file name": (_rename_file, "", "other names or sizes of the images of class 'c'"),
    "classes in a ring": (_rotate, "class 'a' is now 'b'; class 'b' is now 'c'; class 'c'", ""),
    "swapped, and more": (_swap_and_add, "class 'a' is now 'b'; class 'b' is now 'a'", "31 images"),
    "an image elsewhere": (_move_between, "", "other names or sizes of the images of class 'b'"),
    "a class more": (_add_class, "class 'd' is new", "3 images more"),
    "a split more": (_split, "", "the split 'validation' is new"),
}


@pytest.mark.parametrize(("change", "classes", "images"), _CHANGES.values(), ids=_CHANGES)
def test_a_change_is_refused_with_what_differs(folder, extent, change, classes, images):
    record = _record(folder)
    change(folder)
    now = image_data.ImageData(str(folder)).identity
    assert now.digest != identity.read(record).digest
    with pytest.raises(DataError, match="not the images of the run: ") as refused:
        identity.check_same(record, now, of="the run", advice="Do that")
    assert classes in str(refused.value) and images in str(refused.value)
    assert str(refused.value).endswith(". Do that")
    if classes:
        with pytest.raises(DataError, match="not the classes of the teacher: " + classes):
            identity.check_classes(record, now, of="the teacher", advice="Do that")
    else:
        (said,) = identity.check_classes(record, now, of="the teacher", advice="Do that")
        assert "other images of the same classes" in said and images in said


def test_where_images_lie_is_no_part_of_them(folder, extent, tmp_path):
    record = _record(folder)
    shutil.copytree(folder, tmp_path / "elsewhere")
    now = image_data.ImageData(f"folder:{tmp_path / 'elsewhere'}").identity
    assert identity.read(record) == now and identity.read(record).digest == now.digest
    assert identity.check_same(record, now, of="the run", advice="") == []


def test_a_sample_is_said_to_be_one(folder, monkeypatch):
    assert image_data.ImageData(str(folder)).identity.extent.endswith("contents of all 15")
    monkeypatch.setattr(identity, "HASHED_BYTES", 0)
    monkeypatch.setattr(folders, "SAMPLE", 6)
    assert image_data.ImageData(str(folder)).identity.extent.endswith(
        "contents of 6 of 15, evenly spaced in each class"
    )


def test_fingerprints_of_unlike_sets_differ(folder):
    before = _record(folder)["splits"]
    _swap(folder)
    after = _record(folder)["splits"]
    assert all(
        before[part]["fingerprint"] != after[part]["fingerprint"]
        for part in before
        if before[part]["images"]
    )


def test_an_old_record_is_compared_as_far_as_it_goes(folder):
    record = {"label_names": ["a", "b", "c"], "counts": {"train": 15}}
    now = image_data.ImageData(str(folder)).identity
    (said,) = identity.check_same(record, now, of="runs/old", advice="")
    assert "runs/old is from before contents were recorded. Classes and numbers" in said
    _repaint(folder)
    now = image_data.ImageData(str(folder)).identity
    assert len(identity.check_same(record, now, of="runs/old", advice="")) == 1
    changes = ((_add_images, "31 images more"), (_rename_in_place, "'c' is now 'd'"))
    for change, message in changes:
        change(folder)
        now = image_data.ImageData(str(folder)).identity
        with pytest.raises(DataError, match=message):
            identity.check_same(record, now, of="runs/old", advice="")


@pytest.mark.parametrize("damaged", [3, {}, {"source": "folder"}, {"classes": "abc"}])
def test_a_damaged_record_is_refused(folder, damaged):
    now = image_data.ImageData(str(folder)).identity
    with pytest.raises(DataError, match="record of a run's images is damaged: identity"):
        identity.check_same({identity.FIELD: damaged}, now, of="the run", advice="")
    changed = dataclasses.asdict(now) | {"classes": ["a", "b", "c"], "splits": {"train": {"a": 1}}}
    with pytest.raises(DataError, match="damaged"):
        identity.read({identity.FIELD: changed})


def test_a_tfds_set_is_known_by_its_version(numbered_dir, tmp_path):
    here = numbered(numbered_dir)
    assert here.identity.source == "numbered/1.0.0"
    shutil.copytree(numbered_dir, tmp_path / "moved")
    assert numbered(tmp_path / "moved").identity == here.identity
    store(tmp_path / "other", "numbered", {"train": 241, "test": 35})
    with pytest.raises(DataError, match="1 images more in train"):
        other = numbered(tmp_path / "other").identity
        identity.check_same(here.record(), other, of="the run", advice="")


@pytest.mark.parametrize("limit", [2**28, 10_000])
def test_labels_that_changed_in_a_tfds_set_are_seen(numbered_dir, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(identity, "HASHED_BYTES", limit)
    record = json.loads(json.dumps(numbered(numbered_dir).record()))
    extent = record["identity"]["extent"]
    assert (
        "contents of all" if limit > 10_000 else "the first 1,666 bytes of each of 6 files"
    ) in extent
    store(tmp_path, "numbered", {"train": 240, "test": 35}, shards=3, classes=2)
    changed = image_data.ImageData("numbered", str(tmp_path)).identity
    files = [now["train"][""].files for now in (identity.read(record).splits, changed.splits)]
    assert files[0] == files[1] and changed.classes == ("a", "b", "c")  # TFDS records the same
    with pytest.raises(DataError, match="other contents of the images in train"):
        identity.check_same(record, changed, of="the run", advice="")
    (said,) = identity.check_classes(record, changed, of="the teacher", advice="")
    assert "other images of the same classes: other contents of the images in train" in said


def test_a_tfds_file_that_is_gone_is_another_content(numbered_dir, tmp_path):
    record = numbered(numbered_dir).record()
    shutil.copytree(numbered_dir, tmp_path / "tfds")
    next((tmp_path / "tfds").rglob("*train.tfrecord-00001*")).unlink()
    now = image_data.ImageData("numbered", str(tmp_path / "tfds")).identity
    with pytest.raises(DataError, match="other contents of the images in train"):
        identity.check_same(record, now, of="the run", advice="")


def test_what_is_recorded_to_another_extent_is_compared_as_far_as_it_goes(folder, monkeypatch):
    """As of a folder here and its copy in a bucket, which tells no sizes."""
    record = _record(folder)
    near = image_data.ImageData(f"file://{folder}").identity  # few enough to be read whole
    assert identity.check_same(record, near, of="the run", advice="") == []
    monkeypatch.setattr(folders, "SAMPLE", 6)
    far = image_data.ImageData(f"file://{folder}").identity
    assert far.extent.startswith("names of all images, contents of 6 of 15")
    (said,) = identity.check_same(record, far, of="the run", advice="")
    assert "Contents of the images of the run cannot be compared" in said and far.extent in said
    _rename_file(folder)
    renamed = image_data.ImageData(f"file://{folder}").identity
    with pytest.raises(DataError, match="other names or sizes of the images of class 'c'"):
        identity.check_same(record, renamed, of="the run", advice="")


def test_a_record_without_names_alone_is_compared_by_names_and_sizes(folder):
    record = _record(folder)
    for group in record["identity"]["splits"]["train"].values():
        del group["names"]
    assert (
        identity.check_same(record, image_data.ImageData(str(folder)).identity, of="it", advice="")
        == []
    )
    _rename_file(folder)
    now = image_data.ImageData(str(folder)).identity
    with pytest.raises(DataError, match="other names or sizes of the images of class 'c'"):
        identity.check_same(record, now, of="the run", advice="")


def test_digits_are_known_by_their_pixels():
    first, second = (image_data.ImageData("digits").identity for _ in range(2))
    assert first == second and first.images("train") == 1797


def test_many_differences_are_counted(tmp_path):
    for number in range(12):
        for image in range(5):
            _draw(tmp_path / f"class{number:02}" / f"{image}.png", number * 5 + image)
    record = _record(tmp_path)
    for number in range(12):
        (tmp_path / f"class{number:02}").rename(tmp_path / f"kind{number:02}")
    now = image_data.ImageData(str(tmp_path)).identity
    with pytest.raises(DataError, match="'class02' is now 'kind02'; and 9 more like this"):
        identity.check_same(record, now, of="the run", advice="")
