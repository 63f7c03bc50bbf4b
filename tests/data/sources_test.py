"""Folders of images, whole and damaged."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from image_sets import arrays, prepared

from tas_tf.data import batches, image_data
from tas_tf.errors import DataError


def _write(path, shape=(6, 5, 3), value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = tf.constant(np.full(shape, value, np.uint8))
    encode = tf.io.encode_jpeg if path.suffix == ".jpg" else tf.io.encode_png
    tf.io.write_file(str(path), encode(image))


@pytest.fixture
def folder(tmp_path):
    """Two classes, `cold` and `warm`, of ten grey PNG images each."""
    for number in range(10):
        _write(tmp_path / "images" / "warm" / f"{number}.PNG", (6, 5, 1), 200 + number)
        _write(tmp_path / "images" / "cold" / f"{number}.PNG", (6, 5, 1), number)
    return tmp_path / "images"


@pytest.mark.parametrize("prefix", ["", "folder:"])
def test_folder_of_grey_images(folder, held, prefix):
    (folder / "warm" / "notes.txt").write_text("no image")
    (folder / ".hidden").mkdir()
    images = prepared(f"{prefix}{folder}", mean=[0], deviation=[1], augmentation="none")
    info = images.describe()
    assert info.label_names == ("cold", "warm") and info.input_shape == (6, 5, 1)
    assert (info.train_images, info.evaluation_images) == (18, 2)
    train = arrays(images.evaluation("train", 18))[0]
    np.testing.assert_array_equal(train[0][:, 0, 0, 0] > 0.5, train[1] == 1)
    np.testing.assert_array_equal(np.bincount(train[1]), [9, 9])
    shuffled = arrays(images.training(18, 0).batches(0, 1))[0]
    np.testing.assert_array_equal(np.sort(shuffled[0][:, 0, 0, 0]), train[0][:, 0, 0, 0])


@pytest.mark.parametrize("name", ["test", "validation"])
def test_folder_with_splits(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path / "both" / "train")
    shutil.copytree(folder, tmp_path / "both" / name)
    images = prepared(str(tmp_path / "both"))
    assert images.describe().evaluation_split == name
    assert images.record()["counts"] == {"train": 20, name: 20}
    assert sum(len(y) for _, y in arrays(images.evaluation("test", 7))) == 20
    shutil.rmtree(tmp_path / "both" / name / "cold")
    _write(tmp_path / "both" / name / "hot" / "0.png")
    with pytest.raises(DataError, match="same classes.*lacks 'hot'.*lacks 'cold'"):
        image_data.ImageData(str(tmp_path / "both")).describe()


def test_folder_images_are_brought_to_size(folder):
    _write(folder / "warm" / "large.png", (60, 50, 1), 250)
    _write(folder / "warm" / "colour.jpg", (30, 20, 3), 250)
    images = prepared(str(folder), image_size=(4, 7), augmentation="none")
    assert images.describe().input_shape == (4, 7, 3)
    assert arrays(images.evaluation("train", 20))[0][0].shape == (20, 4, 7, 3)


def test_folder_images_of_two_sizes_need_an_image_size(folder, held):
    _write(folder / "warm" / "5.PNG", (7, 5, 1))
    images = image_data.ImageData(str(folder))
    with pytest.raises(DataError, match=r"5.PNG' is 7x5 and .*0.PNG' is 6x5; give an image_size"):
        images.prepare(0)


@pytest.mark.parametrize("name", ["0", "5"])
@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n\0\0"])
def test_corrupt_file_is_named(folder, name, content):
    (folder / "cold" / f"{name}.PNG").write_bytes(content)
    with pytest.raises(DataError, match=rf"cold/{name}.PNG' cannot be read as an image"):
        image_data.ImageData(str(folder)).prepare(0)


def test_file_that_is_spoilt_while_it_streams_is_named(folder, monkeypatch):
    monkeypatch.setattr(batches, "MEMORY_LIMIT", 0)
    images = prepared(str(folder), augmentation="none")
    path = folder / "warm" / "3.PNG"
    whole = path.read_bytes()
    for spoil, message in (
        (lambda: path.write_bytes(whole[:20]), "warm/3.PNG' cannot be read as an image"),
        (lambda: path.unlink(), "warm/3.PNG' cannot be read as an image: .*No such file"),
        (lambda: _write(path, (7, 5, 1)), "warm/3.PNG' is 7x5 and .*cold/0.PNG' is 6x5; give"),
    ):
        spoil()
        for read in (images.training(6, 0).batches(0, 3), images.evaluation("train", 6)):
            with pytest.raises(DataError, match=message), images.explained():
                arrays(read)
    path.write_bytes(whole)
    with pytest.raises(tf.errors.InvalidArgumentError), images.explained():
        tf.reshape(tf.zeros(2), 3)  # no fault of the images


def test_corrupt_files_are_skipped_where_that_is_asked_for(folder, held):
    for name in ("cold/0.PNG", "warm/7.PNG"):
        (folder / name).write_bytes(b"no image")
    message = r"cold/0.PNG' cannot be .* 2 of 20 images .* more than ImageData.skip_corrupt = 0.05"
    with pytest.raises(DataError, match=message):
        prepared(str(folder), skip_corrupt=0.05)
    with pytest.raises(DataError, match="2 of 20 images cannot be read: put them right$"):
        prepared(str(folder))
    images = prepared(str(folder), skip_corrupt=0.1, augmentation="none", mean=[0], deviation=[1])
    record = images.record()
    assert sum(record["splits"][part]["images"] for part in ("train", "test")) == 18
    (first, second) = record["skipped"]["train"]
    assert "cold/0.PNG' cannot be read as an image" in first and "warm/7.PNG'" in second
    train, test = (arrays(images.evaluation(part, 20))[0] for part in ("train", "test"))
    read = np.round(255 * np.concatenate([train[0], test[0]])[:, 0, 0, 0])
    np.testing.assert_array_equal(np.sort(read), [*range(1, 10), *range(200, 207), 208, 209])
    for batch in arrays(images.training(4, 0).batches(0, 8)):
        np.testing.assert_array_equal(batch[0][:, 0, 0, 0] > 0.5, batch[1] == 1)


def test_how_much_to_skip_is_said_where_it_is_little(folder):
    for number in range(100):
        _write(folder / "warm" / f"more{number}.png", (6, 5, 1), number)
    (folder / "warm" / "more7.png").write_bytes(b"")
    message = r"1 of 120 images cannot .* by ImageData.skip_corrupt = 0.009$"
    with pytest.raises(DataError, match=message):
        prepared(str(folder))
    assert len(prepared(str(folder), skip_corrupt=0.009).record()["skipped"]["train"]) == 1


def test_nothing_is_skipped_of_a_sound_set(folder, held):
    for share in (0.0, 0.5):
        assert prepared(str(folder), skip_corrupt=share).record()["skipped"] == {}


def _without_images(folder):
    shutil.rmtree(folder / "warm")
    (folder / "warm").mkdir()


def _with_one_image(folder):
    for path in list((folder / "warm").iterdir())[1:]:
        path.unlink()


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: shutil.rmtree(folder), "does not exist"),
        (_without_images, "warm' has no images"),
        (_with_one_image, "class 'warm' .* has 1 training images"),
        (lambda folder: shutil.rmtree(folder / "warm"), "has 1 sub-folders"),
        (lambda folder: [shutil.rmtree(path) for path in folder.iterdir()], "has 0 sub-folders"),
    ],
)
def test_folder_that_cannot_be_used(folder, spoil, message):
    spoil(folder)
    with pytest.raises(DataError, match=message):
        image_data.ImageData(f"folder:{folder}").prepare(0)
