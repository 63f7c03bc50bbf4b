"""The environment of a command: settings of Keras that are not its own, and system errors."""

import errno
import json
import os
import subprocess
import sys

import keras
import pytest
import small_runs
import tensorflow as tf
from command_line import PATIENCE, PROJECT, QUICK, bindings, check_message, run

import tas_tf
from tas_tf.errors import InstallationError, SpecError, UserError
from tas_tf.runtime import environment

# What programs of a user may have left for Keras, in the environment and in keras.json.
VARIABLES = [
    {"KERAS_BACKEND": "jax"},
    {"KERAS_BACKEND": "no backend", "KERAS_MAX_EPOCHS": "many", "KERAS_NNX_ENABLED": "perhaps"},
]
CONTENTS = [
    json.dumps({"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1}),
    json.dumps({"backend": "torch", "floatx": "int3", "image_data_format": "sideways"}),
    "[]",
]
SETTINGS = (
    "import sys; from tas_tf.runtime import environment; environment.settle(); import keras, json; "
    "c = keras.config; print(json.dumps([keras.backend.backend(), c.image_data_format(), c.floatx()"
    ", c.epsilon(), c.max_epochs()]))"
)


def python(code, **variables):
    done = subprocess.run(
        [sys.executable, *code],
        env={**os.environ, "PYTHONPATH": str(PROJECT), **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("content", CONTENTS)
def test_keras_starts_with_the_settings_of_this_package(tmp_path, content):
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras/keras.json").write_text(content)
    variables = VARIABLES[len(content) % 2]
    code, stdout, stderr = python(["-c", SETTINGS], HOME=str(tmp_path), **variables)
    assert code == 0, stderr
    assert json.loads(stdout) == ["tensorflow", "channels_last", "float32", 1e-7, None]
    assert (tmp_path / ".keras/keras.json").read_text() == content


def test_a_command_has_them_from_its_first_second(tmp_path):
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras/keras.json").write_text(CONTENTS[0])
    command = ["-m", "tas_tf.search", QUICK, "--dry_run", *bindings("DEPTH = 8")]
    code, stdout, stderr = python(command, HOME=str(tmp_path), **VARIABLES[0])
    assert (code, stderr) == (0, "") and "Computes in float32" in stdout


def test_what_a_program_has_set_is_refused_by_name():
    space = small_runs.space()
    keras.config.set_image_data_format("channels_first")
    try:
        for make in (tas_tf.Supernet, lambda space: tas_tf.build_model(space.unpruned())):
            with pytest.raises(
                InstallationError, match="image_data_format channels_last. Received"
            ):
                make(space)
    finally:
        keras.config.set_image_data_format("channels_last")


NO_ROOM = OSError(errno.ENOSPC, "No space left on device", "a/b")
GRAPH = (
    "Graph execution error:\n\nDetected at node Pad defined at (most recent call last):\n"
    "<stack traces unavailable>\n{{function_node f}} one is not two.\n\t [[{{node Pad}}]] [Op:f]"
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NO_ROOM, "No space left on device: 'a/b'. Make room. The same command goes on"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "denied: 'a'. Give this user"),
        (OSError(errno.EMFILE, "Too many open files", "a"), "files: 'a'. Raise the limit"),
        (FileNotFoundError("No usable temporary directory found"), "found. Set TMPDIR"),
        (MemoryError(), "out of memory. Take a smaller BATCH_SIZE"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"), "BATCH_SIZE"),
        (tf.errors.NotFoundError(None, None, "a; No such file or directory"), "Check that it"),
        (tf.errors.InvalidArgumentError(None, None, GRAPH), "one is not two. What it means"),
        (
            UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "no"),
            r"b'a\\xff': 'utf-8' codec can't.* UTF",
        ),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "no"), r"'a\\udcff': 'utf-8' codec .* UTF-8"),
        (ValueError("embedded null byte"), "embedded null byte. Give it a name"),
    ],
)
def test_an_error_of_the_system_is_what_where_and_what_to_do(error, expected):
    with pytest.raises(UserError, match=expected.replace(". ", r"\. ")) as raised:
        with environment.explained():
            raise error
    assert raised.value.__cause__ is error and len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "error", [KeyError("a"), ValueError("no"), SpecError("wrong"), SystemExit(3)]
)
def test_other_errors_come_through(error):
    with pytest.raises(type(error)) as raised, environment.explained():
        raise error
    assert raised.value is error


def test_the_traceback_is_there_for_who_asks(capsys):
    with pytest.raises(UserError), environment.explained(verbose=True):
        raise NO_ROOM
    assert "Traceback" in capsys.readouterr().err


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A directory with things that are no folders and no files, and the names of some."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.mkdir("folder.gin")
    os.symlink("circle", "circle")
    return [
        "bad\udcff",
        "x" * 300,
        "/dev/null",
        "/dev/null/x",
        "/proc/x",
        "pipe",
        "pipe/x",
        "circle",
    ]


def test_no_name_of_a_run_directory_ends_in_a_traceback(places, capsys):
    for name in [*places, "new/" + "x" * 300]:
        assert run("train", QUICK, f"--run_dir={name}", *bindings("DEPTH = 8", "EPOCHS = 1")) == 2
        check_message(capsys.readouterr().err)


def test_no_name_of_a_spec_ends_in_a_traceback(places, capsys):
    for name in [*places, "folder.gin"]:
        assert run("search", f"--gin_file={name}", "--dry_run") == 2
        check_message(capsys.readouterr().err)


@pytest.mark.parametrize("flag", ["--architecture", "--teacher"])
def test_no_name_of_a_network_ends_in_a_traceback(places, capsys, flag):
    for name in places:
        assert run("train", QUICK, "--dry_run", f"{flag}={name}") == 2
        check_message(capsys.readouterr().err)
