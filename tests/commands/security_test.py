"""What is read as data runs no code (docs/security.md)."""

import ast
import json
import pathlib
import shutil
import sys
import zipfile

import keras
import pytest
import tensorflow as tf
from command_line import QUICK, bindings, check_refused, run

import tas_tf
from tas_tf.models import network_files
from tas_tf.runtime.checkpoints import Checkpoints
from tas_tf.runtime.run_directory import RunDirectory

TINY = [QUICK, *bindings("DEPTH = 8", "EPOCHS = 1")]
# Importing or calling this would leave a trace.
EVIL = "import pathlib\npathlib.Path('ran').write_text('')\n"


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "evil_module.py").write_text(EVIL)
    yield
    assert not pathlib.Path("ran").exists()
    assert "evil_module" not in sys.modules


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert run("train", *TINY, f"--run_dir={folder}") == 0
    return folder


@pytest.fixture
def network(trained):
    return pathlib.Path(shutil.copytree(trained, "network"))


def lambda_model(path):
    """Saves a network whose file carries Python code."""
    inputs = keras.Input((8, 8, 1))
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    leave_a_trace = keras.layers.Lambda(lambda x: (open("ran", "w").close(), x)[1], (10,))
    model = keras.Model(inputs, leave_a_trace(logits))
    model.save(path)


def test_a_keras_file_with_code_is_refused(capsys):
    lambda_model("evil.keras")
    keras.saving.load_model("evil.keras", safe_mode=False)(tf.zeros((1, 8, 8, 1)))
    pathlib.Path("ran").unlink()  # the code is there, and would run
    expected = ["teacher: evil.keras cannot be read"]
    check_refused(
        capsys, "train", *TINY, "--run_dir=run", "--teacher=evil.keras", expected=expected
    )


def test_a_keras_file_in_a_run_directory_gives_numbers_only(network, capsys):
    lambda_model(network / "model.keras")
    expected = ["network/model.keras cannot be read"]
    arguments = [*TINY, "--run_dir=run", "--teacher=network"]
    check_refused(capsys, "train", *arguments, expected=expected)


def test_a_description_of_layers_beside_the_numbers_is_not_read(network):
    before = network_files.load_model("network").get_weights()
    lambda_model("evil.keras")
    with zipfile.ZipFile("evil.keras") as evil, zipfile.ZipFile(network / "model.keras") as model:
        contents = {name: model.read(name) for name in model.namelist()}
        contents["config.json"] = evil.read("config.json")
    with zipfile.ZipFile(network / "model.keras", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    for value, old in zip(network_files.load_model("network").get_weights(), before, strict=True):
        assert (value == old).all()


@pytest.mark.parametrize(
    "line", ["import evil_module", "include 'evil.gin'", "from evil_module import x"]
)
@pytest.mark.parametrize("command", ["export", "derive"])
def test_a_recorded_configuration_that_loads_code_is_refused(network, capsys, command, line):
    pathlib.Path("evil.gin").write_text("import evil_module\n")
    config = network / "config.gin"
    config.write_text(f"{config.read_text()}\n{line}\n")
    target = ["--target=0.5"] if command == "derive" else []
    expected = [r"config.gin, line \d+: (import|include|from).*If you trust it, give --gin_file"]
    check_refused(capsys, command, "--run_dir=network", *target, expected=expected)


def test_a_manifest_names_files_of_its_own_checkpoint_only(tmp_path):
    directory = RunDirectory(str(tmp_path / "run"))
    Checkpoints(directory, value=tf.Variable(1.0)).save(1)
    manifest = tmp_path / "run/checkpoints/ckpt-1.json"
    content = json.loads(manifest.read_text())
    secret = tmp_path / "secret"
    secret.write_text("secret")
    content["files"]["../../secret"] = {"bytes": 6, "sha256": ""}
    manifest.write_text(json.dumps(content))
    checkpoints = Checkpoints(directory, value=tf.Variable(0.0))
    with pytest.raises(tas_tf.errors.RunDirectoryError, match="file ../../secret is missing"):
        checkpoints.restore()


def test_nothing_is_unpickled_or_evaluated():
    root = pathlib.Path(tas_tf.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            assert not {"pickle", "marshal", "dill", "shelve"}.intersection(names), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile", "__import__"), path
