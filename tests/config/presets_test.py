"""Presets and published networks are found by name, from any directory."""

import codecs
import pathlib

import pytest
import tensorflow as tf

from tas_tf.config import presets
from tas_tf.errors import SpecError
from tas_tf.spaces.architecture import Architecture


def test_the_root_holds_the_presets():
    assert (presets.presets_root() / "specs/base/method.gin").is_file()


def test_a_preset_is_found_from_anywhere():
    found = presets.find_spec("specs/quickstart.gin")
    assert found == str(presets.presets_root() / "specs/quickstart.gin")
    assert presets.is_file(found)


def test_what_lies_here_comes_before_a_preset(tmp_path):
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/quickstart.gin").write_text("TARGET = 0.1\n")
    assert presets.find_spec("specs/quickstart.gin") == "specs/quickstart.gin"
    assert presets.read_lines("specs/quickstart.gin") == ["TARGET = 0.1"]


def test_home_is_known_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.gin").write_text("")
    assert presets.find_spec("~/own.gin") == f"{tmp_path}/own.gin"


def test_a_folder_is_no_spec(tmp_path):
    (tmp_path / "own.gin").mkdir()
    assert not presets.is_file("own.gin")
    with pytest.raises(SpecError, match=r"^--gin_file: own\.gin does not exist here, nor among "):
        presets.find_spec("own.gin")


def test_a_preset_that_is_nearly_right_is_offered():
    with pytest.raises(SpecError) as raised:
        presets.find_spec("spec/resnet110.gin")
    start = "--gin_file: spec/resnet110.gin does not exist here, nor among the presets; did you "
    assert str(raised.value).startswith(f"{start}mean specs/resnet110.gin or ")


def test_what_resembles_no_preset_gets_all_of_them():
    with pytest.raises(SpecError) as raised:
        presets.find_spec("", "a.gin, line 3: include")
    message = str(raised.value)
    assert message.startswith("a.gin, line 3: include:  does not exist here, nor among the presets")
    known = message.partition("; presets are ")[2].split(", ")
    root = presets.presets_root()
    assert sorted(known) == sorted(str(p.relative_to(root)) for p in root.glob("specs/**/*.gin"))


def test_a_spec_may_lie_on_another_file_system(tmp_path):
    path = f"ram://{tmp_path}/specs/a.gin"
    assert not presets.is_file(path)
    tf.io.gfile.makedirs(f"ram://{tmp_path}/specs")
    with tf.io.gfile.GFile(path, "w") as file:
        file.write("TARGET = 0.1\n# \N{GREEK SMALL LETTER LAMDA}\n")
    assert presets.is_file(path) and not presets.is_file(f"ram://{tmp_path}/specs")
    assert presets.find_spec(path) == path
    assert presets.read_lines(path) == ["TARGET = 0.1", "# \N{GREEK SMALL LETTER LAMDA}"]


def test_what_is_no_text_is_refused():
    pathlib.Path("a.gin").write_bytes(b"TARGET = \xff")
    with pytest.raises(SpecError, match=r"^a\.gin cannot be read as a spec: 'utf-8' .* as UTF-8"):
        presets.read_lines("a.gin")
    with pytest.raises(SpecError, match=r"^nowhere\.gin cannot be read as a spec: .*No such file"):
        presets.read_lines("nowhere.gin")


def test_published_networks_have_a_spec_and_an_architecture():
    names = presets.published_names()
    assert "tas_resnet20_cifar10" in names and names == sorted(names)
    for name in names:
        spec = presets.published_spec(name)
        assert presets.is_file(presets.find_spec(spec))
        text = pathlib.Path(presets.find_architecture(name)).read_text()
        assert Architecture.from_json(text).name in (None, name)
    assert presets.published_spec("resnet20") is None
    assert presets.published_spec(None) is None


def test_what_lies_here_comes_before_a_published_network(tmp_path):
    (tmp_path / "tas_resnet20_cifar10").mkdir()
    assert presets.find_architecture("tas_resnet20_cifar10") == "tas_resnet20_cifar10"
    assert presets.find_architecture("nowhere") == "nowhere"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_spec_may_begin_with_a_mark_and_end_its_lines_anyhow(mark, end):
    lines = ["TARGET = 0.1", "", "# one \N{LINE SEPARATOR} line"]
    pathlib.Path("a.gin").write_bytes(mark + (end.join(lines)).encode())
    assert presets.read_lines("a.gin") == lines


def test_text_of_another_encoding_is_named():
    pathlib.Path("a.gin").write_text("TARGET = 0.1\n", encoding="utf-16")
    with pytest.raises(SpecError, match="^a.gin is UTF-16 text: save it as UTF-8$"):
        presets.read_lines("a.gin")


def test_what_is_included_lies_beside_or_where_specs_lie(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("mine/a.gin", "mine/b.gin", "b.gin", "c.gin"):
        (tmp_path / name).write_text("")
    assert presets.find_included("b.gin", "mine/a.gin") == "mine/b.gin"
    assert presets.find_included("c.gin", "mine/a.gin") == "c.gin"
    assert presets.find_included("specs/resnet20.gin", "mine/a.gin") == "specs/resnet20.gin"
    assert presets.same_file("mine/../c.gin", f"{tmp_path}/c.gin")
    assert not presets.same_file("b.gin", "mine/b.gin")
    with pytest.raises(SpecError, match="^mine/a.gin, line 1: include: d.gin does not exist here"):
        presets.find_included("d.gin", "mine/a.gin", "mine/a.gin, line 1: include")
