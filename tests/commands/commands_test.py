"""What users type by mistake, and what they are told; help; dry runs."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from command_line import (
    COMMANDS,
    PROJECT,
    QUICK,
    RUN,
    bindings,
    check_message,
    check_refused,
    finished,
    run,
)

import tas_tf
from tas_tf.models import network_files
from tas_tf.runtime import run_directory

PRESETS = sorted(path.name for path in (PROJECT / "specs").glob("*.gin"))


pytestmark = pytest.mark.usefixtures("empty_directory")


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("search", ["--gin_file=specs/resnet21.gin", RUN], "specs/resnet21.gin.*resnet20.gin"),
        (
            "search",
            ["--gin_file=specs/resnet50.gin", RUN, "--data_dir=."],
            "imagenet2012.*not prep",
        ),
        ("search", [QUICK, RUN, "--gin_bindings=TARGET = 0.001"], "Reachable.* 0.023 to 1.000"),
        ("train", [QUICK, RUN, "--sed=3"], "'sed'.*seed"),
        ("train", [QUICK, RUN, "--architecture=a.json"], "a.json.*No such file"),
        ("export", ["--run_dir=run"], "run/config.gin is missing"),
    ],
)
def test_mistake_ends_a_process_with_a_message(command, arguments, expected):
    code, stdout, stderr = finished(command, *arguments)
    assert code == 2
    check_message(stderr, expected)
    assert not os.listdir()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_flag(command):
    code, stdout, stderr = finished(command, "--help")
    assert (code, stderr) == (0, "")
    own = {"train": ["architecture", "teacher"], "export": ["model"], "derive": ["target"]}
    trains = command in ("search", "train", "pipeline")
    assert ("--profile_steps" in stdout) == trains
    general = ["gin_file", "gin_bindings", "run_dir", "data_dir", "download", "dry_run", "seed"]
    for name in [*general, *own.get(command, [])]:
        assert re.search(rf"^  --{name} +\S.{{15}}", stdout, re.MULTILINE)
    assert f"python -m tas_tf.{command} " in stdout and "Exit codes: 0 " in stdout


@pytest.mark.slow
def test_messages_of_tensorflow_are_shown_to_who_asks(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    code, _, stderr = finished("search", QUICK, RUN, "--dry_run")
    assert (code, stderr) == (0, "")
    code, _, stderr = finished("search", QUICK, RUN, "--dry_run", "--verbosity=0")
    assert code == 0 and re.search(r"^[IW]\d{4} ", stderr, re.MULTILINE)


def test_missing_tensorboard_is_named():
    code = "import sys; sys.modules['tensorboard'] = None; from tas_tf import search; search.run()"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", code, QUICK, RUN], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    check_message(done.stderr, "TensorBoard is not installed.*pip install 'tensorboard")
    assert not os.listdir()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([RUN], "--gin_file: a spec is needed"),
        ([QUICK], "--run_dir: a directory for the run is needed"),
        ([QUICK, RUN, "--seed=abc"], "--seed=abc"),
        ([QUICK, RUN, "--seed=-1"], r"seed.*expected 0 to 2147483647\. Received: -1"),
        ([QUICK, RUN, "--dry_run=maybe"], "dry_run"),
        ([QUICK, RUN, "TARGET=0.4"], "unexpected argument 'TARGET=0.4'"),
        ([QUICK, RUN, "--data_dir=nowhere"], "--data_dir: nowhere is no directory"),
        ([QUICK, RUN, "--profile_steps=20"], "--profile_steps: .*as 20,25: .*Received: '20'"),
        ([QUICK, RUN, "--profile_steps=25,20"], "--profile_steps: .*ascending"),
        ([QUICK, RUN, "--profile_steps=0,5"], "--profile_steps: .*from 1"),
        ([QUICK, RUN, "--profile_steps=1,101"], "--profile_steps: .*at most 100 steps"),
        ([QUICK, RUN, "--profile_steps=a,b"], "--profile_steps: .*Received: 'a,b'"),
        (["--gin_file=nowhere.gin", RUN], "nowhere.gin does not exist.*quickstart.gin"),
        (["--gin_file=.", RUN], r"--gin_file: \. does not exist"),
    ],
)
def test_flag_is_refused(capsys, arguments, expected):
    check_refused(capsys, "search", *arguments, expected=[expected])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("include 'specs/base/cifr.gin'", "a.gin, line 1: include: specs/base/cifr.gin.*cifar.gin"),
        ("include 'a.gin'", "a.gin, line 1.*includes itself"),
        ("include 'specs/quickstart.gin'\nDEPTH = = 20", "a.gin, line 2: DEPTH = = 20"),
        ("include 'specs/quickstart.gin'\nDEPTH 20", "a.gin, line 2: DEPTH 20: .*'='"),
        ("include 'specs/quickstart.gin'\nTARGET = (1,", "a.gin: .*line [23]: .*not closed"),
        ("include 'specs/quickstart.gin'\nDATASET = digits", "line 2.*'digits'; text needs quotes"),
        ("include 'specs/quickstart.gin'\nrun_serch.epochs = 3", "run_serch.*mean run_search"),
        ("include 'specs/quickstart.gin'\nrun_search.epoch = 3", "'epoch'.*line 2.*mean epochs"),
        ("include 'specs/quickstart.gin'\nrun_search.optimizer = @SDG()", "@SDG.*mean SGD"),
        ("include 'specs/quickstart.gin'\nimport nowhere", "'nowhere'.*line 2"),
        ("include 'specs/quickstart.gin'\nDEPTH = %DEPTH", "in a circle"),
        ("include 'specs/base/method.gin'", r"the macro \w+ is used but never given"),
        ("run_search.epochs = 3", "run_search: nothing gives data, .*include a preset"),
        ("", "run_search: nothing gives data"),
        (b"\xff\xfe\x00", "a.gin is UTF-16 text: save it as UTF-8"),
        (b"\xff\x00", "a.gin cannot be read as a spec"),
    ],
)
def test_spec_is_refused(capsys, text, expected):
    pathlib.Path("a.gin").write_bytes(text if isinstance(text, bytes) else text.encode())
    check_refused(capsys, "search", "--gin_file=a.gin", RUN, expected=[expected])


@pytest.mark.parametrize(
    ("binding", "expected"),
    [
        ("EPOCH = 3", "--gin_bindings='EPOCH = 3': nothing uses the macro EPOCH; .*EPOCHS"),
        ("EPOCHS = 'ten'", "run_training.epochs .macro EPOCHS, .*expected int. Received: 'ten'"),
        ("SEARCH_EPOCHS = 0", "run_search.epochs .*at least 1. Received: 0"),
        ("BATCH_SIZE = -1", "batch_size .*BATCH_SIZE.*at least 1. Received: -1"),
        ("BATCH_SIZE = True", "batch_size .*expected int. Received: True"),
        ("BATCH_SIZE = 809", "at most 808, the images in each half of the training set"),
        ("DEPTH = 20.5", "resnet.depth .macro DEPTH.*expected int. Received: 20.5"),
        ("DEPTH = 21", r"6n\+2 layers, so for instance 20 or 26. Received: 21"),
        ("DEPTH = 0", "for instance 8. Received: 0"),
        ("DEPTH = -5", "Received: -5"),
        ("DEPTH = 60002", "at most 1000 blocks"),
        ("LEARNING_RATE = 'x'", r"SGD.learning_rate .*expected float .*Received: 'x'"),
        ("LEARNING_RATE = 0", "SGD.learning_rate .*a number above 0"),
        ("SEED = -1", "seed .macro SEED.*0 to 2147483647. Received: -1"),
        ("resnet.ratios = (0.5, 'a')", "resnet.ratios .*Received"),
        ("run_search.tolerance = -1.0", "tolerance .*0 to 1. Received: -1.0"),
        ("run_search.temperature = 3", "temperature .*expected Callable"),
        ("linear_temperature.end = 0.0", "temperature .*at least 0.001"),
        ("AGGREGATION = 'x'", "'interpolate', 'pad'.*Received: 'x'"),
        ("SEARCH = 'x'", "'shape', 'width', 'depth'.*Received: 'x'"),
        ("TARGET = []", r"TARGET: .*Received: \[\]"),
        ("TARGET = None", "TARGET.*Received: None"),
        ("TARGET = 'watts: 3'", "macs, parameters.*Received: 'watts: 3'"),
        ("TARGET = 1e-5", "Reachable are .*0.023 to 1.000"),
        ("TARGET = 'macs: 500M'", r"Reachable are 58.19 k to 2.533 M macs"),
        ("DATASET = 'digts'", "unknown data set 'digts': did you mean 'digits'"),
        ("DATASET = 'folder:nowhere'", "'nowhere' does not exist"),
        ("DATASET = 'cifar10'", "'cifar10' is not prepared.*, pass --download, or prepare it"),
        ("ImageData.image_size = 0", "image_size"),
        ("run_search.start_from = 'nowhere'", "start_from: nowhere does not exist"),
        ("run_search.run_dir = 'x'", "run_dir .*changes nothing: give the flag --run_dir"),
        ("run_training.dry_run = True", "dry_run .*changes nothing: give the flag --dry_run"),
        ("CheckpointInterval.steps = 0", "CheckpointInterval.steps: expected a number above 0"),
        ("CheckpointInterval.seconds = 'x'", "CheckpointInterval.seconds .*expected float"),
        ("ImageData.skip_corrupt = 2", "ImageData.skip_corrupt = 2.0 is wrong: a number from 0"),
    ],
)
def test_binding_is_refused(capsys, binding, expected):
    arguments = [QUICK, RUN, "--data_dir=.", *bindings(binding)]
    check_refused(capsys, "search", *arguments, expected=[expected])


def test_a_search_by_measurement_needs_two_batches_of_each_half(capsys):
    wrong = bindings("BATCH_SIZE = 405", "run_search.decide = 'measurement'")
    expected = "at most 404, half of the images in each half of the training set"
    check_refused(capsys, "search", QUICK, RUN, "--data_dir=.", *wrong, expected=[expected])


def architecture_text(**fields):
    space = tas_tf.SearchSpace.resnet(8, 10, (8, 8, 1))
    return json.dumps({**json.loads(space.unpruned().to_json()), **fields})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (architecture_text(stem_width=0), "stem_width: .*1 to 65536. Received: 0"),
        (architecture_text(stem_width=-3), "stem_width: .*Received: -3"),
        (architecture_text(stem_width=10**9), "stem_width: .*Received: 1000000000"),
        (architecture_text(stages=[[[65536, 65536]]] * 3), r"2\^31"),
        (architecture_text(stages=[[16, 16]] * 3), r"stages\[0\]\[0\]: expected a list of 2"),
        (architecture_text(stages=[[[16, 16]] * 2000] * 3), "more than 1000 blocks"),
        (architecture_text(family="vgg"), "family: .*cifar_resnet.*Received: 'vgg'"),
        (architecture_text(num_classes=7), "7 classes; digits has .*10 classes"),
        (architecture_text(input_shape=[32, 32, 3]), r"\(32, 32, 3\).*digits has .*\(8, 8, 1\)"),
        (architecture_text(colour=1), "unknown field 'colour'"),
        (architecture_text()[:60], "not valid JSON"),
        ("[" * 100_000, "nested"),
        ("", "not valid JSON"),
        (bytes(range(256)), "not UTF-8"),
    ],
)
def test_architecture_is_refused(capsys, text, expected):
    pathlib.Path("a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    check_refused(
        capsys, "train", QUICK, RUN, "--architecture=a.json", expected=["a.json", expected]
    )


def test_directory_without_architecture_is_refused(capsys):
    pathlib.Path("empty").mkdir()
    check_refused(
        capsys, "train", QUICK, RUN, "--architecture=empty", expected=["empty/architecture.json"]
    )


def save_network(path, input_shape=(8, 8, 1), num_classes=10):
    """Makes what stands in the run directory of a trained network."""
    path.mkdir()
    architecture = tas_tf.SearchSpace.resnet(8, num_classes, input_shape).unpruned()
    model = tas_tf.build_model(architecture)
    network_files.save_model(model, architecture, run_directory.RunDirectory(str(path)))
    (path / "architecture.json").write_text(architecture.to_json())


@pytest.mark.parametrize(
    ("network", "received"),
    [
        ({"num_classes": 7}, r"input \(8, 8, 1\) and 7 classes"),
        ({"input_shape": (32, 32, 3)}, r"input \(32, 32, 3\) and 10 classes"),
    ],
)
def test_teacher_that_does_not_fit_is_refused(capsys, network, received):
    save_network(pathlib.Path("other"), **network)
    expected = [r"expected a network of input \(8, 8, 1\) and 10 classes", f"Received: {received}"]
    check_refused(capsys, "train", QUICK, RUN, "--teacher=other", expected=["teacher", *expected])
    check_refused(capsys, "train", QUICK, RUN, "--teacher=other/model.keras", expected=expected)
    start = bindings("run_search.start_from = 'other'")
    check_refused(capsys, "search", QUICK, RUN, *start, expected=["start_from", *expected])


def test_damaged_teacher_is_refused(capsys):
    folder = pathlib.Path("damaged")
    save_network(folder)
    model = folder / "model.keras"
    whole = model.read_bytes()
    middle = len(whole) // 2
    for content in (b"", b"x" * 999, whole[:-999], whole[:middle] + b"x" * 999 + whole[middle:]):
        model.write_bytes(content)
        expected = "teacher: damaged/model.keras cannot be read"
        check_refused(capsys, "train", QUICK, RUN, f"--teacher={folder}", expected=[expected])
    model.unlink()
    check_refused(
        capsys, "train", QUICK, RUN, f"--teacher={folder}", expected=["model.keras is missing"]
    )
    check_refused(
        capsys, "train", QUICK, RUN, "--teacher=nowhere", expected=["nowhere does not exist"]
    )


def test_directory_that_is_no_run_directory_is_refused(capsys):
    pathlib.Path("foreign").mkdir()
    pathlib.Path("foreign/file").write_text("x")
    for path, expected in (
        ("foreign", "is not empty and is no run directory"),
        ("foreign/file", "is a file"),
        ("foreign/file/below", "cannot be written"),
        ("x" * 300, "cannot be made"),
    ):
        check_refused(
            capsys, "search", QUICK, f"--run_dir={path}", expected=[f"--run_dir: {path} ", expected]
        )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_directory_that_cannot_be_written_is_refused(capsys):
    pathlib.Path("locked").mkdir(mode=0o500)
    check_refused(
        capsys, "search", QUICK, "--run_dir=locked/run", expected=["locked/run cannot be written"]
    )


def test_override_that_leaves_a_macro_idle_is_no_mistake(capsys):
    assert run("search", QUICK, "--dry_run", "--seed=3") == 0
    assert run("pipeline", QUICK, "--dry_run", *bindings("run_search.epochs = 3")) == 0
    assert "3 epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "preset", [name for name in PRESETS if name not in ("quickstart.gin", "model.gin")]
)
def test_dry_run_of_preset(preset, data_dir, capsys):
    imagenet = "imagenet" in (PROJECT / "specs" / preset).read_text()
    code = run("pipeline", f"--gin_file=specs/{preset}", f"--data_dir={data_dir}", "--dry_run")
    out, err = capsys.readouterr()
    if imagenet:
        assert code == 2
        check_message(err, "imagenet2012.*not prepared")
    else:
        assert code == 0
        assert "reachable" in out and "50000 for training" in out
    assert not os.listdir()


def test_help_that_cannot_be_printed_is_said():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tas_tf.search", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
    assert done.returncode == 2
    check_message(done.stderr, "No space left on device. Make room")
