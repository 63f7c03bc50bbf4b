"""The whole path in one run on real images, interrupted, repeated, exported and damaged."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import keras
import kill_test
import pytest
import tensorflow as tf
from command_line import (
    MUCH_PATIENCE,
    QUICK,
    bindings,
    check_message,
    check_refused,
    finished,
    process,
    run,
    training_arguments,
)

import tas_tf

pytestmark = pytest.mark.usefixtures("empty_directory")


def test_pipeline_makes_every_part(pipeline):
    folder, code, stdout = pipeline
    assert code in (0, 3)
    every = {"config.gin", "data.json", "machine.json", "metrics.jsonl", "result.json"}
    every |= {"checkpoints", "events", "architecture.json"}
    assert set(os.listdir(folder)) == {
        "config.gin", "teacher", "search", "student", "student_kd", "export",
        "report.html", "report.md", "report_pictures"
    }  # fmt: skip
    assert set(os.listdir(folder / "search")) == every | {
        "model.keras",
        "logits.json",
        "networks.json",
        "space.json",
    }
    for part in ("teacher", "student", "student_kd"):
        learns = {"networks.json"} if part == "student_kd" else set()
        assert set(os.listdir(folder / part)) == every | {"model.keras"} | learns
    assert set(os.listdir(folder / "export")) == {
        "config.gin", "architecture.json", "data.json", "result.json", "saved_model",
        "manifest.json", "model_card.md"
    }  # fmt: skip
    assert list((folder / "search/events").glob("events.out.tfevents.*"))
    derived = (folder / "search/architecture.json").read_text()
    built = (folder / "student/architecture.json").read_text()
    parsed = [tas_tf.Architecture.from_json(text) for text in (derived, built)]
    assert parsed[0] == parsed[1]


def test_what_says_that_a_part_is_done_is_written_last(pipeline):
    """Whoever is killed before it does the rest again; a kill after it finds nothing missing."""
    written = {
        path.relative_to(pipeline[0]).as_posix(): path.stat().st_mtime_ns
        for path in pipeline[0].rglob("*")
        if path.is_file() and "events" not in path.parts
    }
    for part in ("teacher", "search", "student", "student_kd"):
        of_part = {name: time for name, time in written.items() if name.startswith(f"{part}/")}
        assert max(of_part, key=of_part.get) == f"{part}/result.json"
    of_export = [name for name in written if name.startswith("export/saved_model/")]
    before = max(written[name] for name in (*of_export, "export/model_card.md"))
    assert before <= written["export/manifest.json"] <= written["export/result.json"]


def test_pipeline_ends_with_a_table(pipeline):
    lines = pipeline[2].splitlines()
    table = lines[next(i for i, line in enumerate(lines) if "network" in line and "MACs" in line) :]
    rows = [line.strip() for line in table if "%" in line]
    assert [re.split(r"\s{2,}", row)[0] for row in rows] == [
        "unpruned", "derived", "derived, distilled"
    ]  # fmt: skip
    for row in rows:
        assert re.search(r" k \(\d+%\) .* k \(\d+%\) +\d+\.\d\d% +\d+ s$", row)
    paths = [line.split()[-1] for line in table if "run/" in line]
    assert len(paths) == 4 and all((pipeline[0].parent / path).exists() for path in paths)


def test_pipeline_ends_with_a_report(pipeline):
    folder = pipeline[0]
    page = (folder / "report.html").read_text()
    assert "What is missing" not in page
    for part in ("teacher", "student", "student_kd"):
        accuracy = json.loads((folder / part / "result.json").read_text())["test"]["accuracy"]
        assert f"{100 * accuracy:.2f}\N{NO-BREAK SPACE}%" in page
        records = (folder / part / "metrics.jsonl").read_text().splitlines()
        assert json.loads(records[-1])["device_seconds"] > 0
        command = json.loads((folder / part / "machine.json").read_text())["command"]
        assert command == [
            *("python", "-m", "tas_tf.pipeline", "--gin_file=small.gin", "--run_dir=run")
        ]
    assert page.count("<svg") >= 7 and "--gin_file=small.gin" in page


def test_search_records_how_its_most_probable_network_moved(pipeline):
    folder = pipeline[0] / "search"
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    space = json.loads((folder / "space.json").read_text())
    assert len(records) == 5
    for record in records:
        for width, choice in zip(record["argmax_widths"], space["space"]["choices"], strict=True):
            assert width in choice["candidates"]
    (budget,) = space["budgets"]
    shape = records[-1]
    found = tas_tf.SearchSpace.resnet(8, 10, (8, 8, 1))
    indices = [
        choice.candidates.index(width)
        for choice, width in zip(found.choices, shape["argmax_widths"], strict=True)
    ]
    depths = [d.index(depth) for d, depth in zip(found.depths, shape["argmax_depths"], strict=True)]
    macs = tas_tf.cost.cost(found.architecture(indices, depths))
    assert macs / budget["unpruned"] == pytest.approx(shape["argmax_macs_ratio"], abs=1e-6)


def test_pipeline_skips_what_is_done(pipeline):
    folder, code, _ = pipeline
    before = file_times(folder)
    arguments = ["--gin_file=small.gin", "--run_dir=run"]
    again, stdout, stderr = finished(
        "pipeline", *arguments, timeout=MUCH_PATIENCE, cwd=folder.parent
    )
    assert (again, stderr) == (code, "")
    assert stdout.count("Already done") == 5
    assert file_times(folder) == before


def file_times(folder):
    """Of all files but the report, which is written anew."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    reports = ("report.html", "report.md", "report_pictures")
    return {
        path: path.stat().st_mtime_ns
        for path in files
        if path.relative_to(folder).parts[0] not in reports
    }


def start_and_wait_for(pattern, *command, **options):
    """Starts a command, and waits until it has made a file."""
    started = process(*command, **options)
    deadline = time.monotonic() + MUCH_PATIENCE
    while not list(pathlib.Path(options.get("cwd", ".")).glob(pattern)):
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return started


def test_interrupted_search_goes_on_to_the_same_architecture(pipeline, monkeypatch, capsys):
    done = pipeline[0] / "search"
    monkeypatch.chdir(pipeline[0].parent)  # the recorded paths are relative
    arguments = [f"--gin_file={done / 'config.gin'}", "--run_dir=again"]
    started = start_and_wait_for("again/checkpoints/ckpt-*.json", "search", *arguments)
    # A second process in the same directory is refused.
    assert run("search", *arguments) == 2
    expected = f"--run_dir: .*again is in use by process {started.pid} on .*, started 2"
    check_message(capsys.readouterr().err, expected)
    begun = time.monotonic()
    started.send_signal(signal.SIGINT)
    stderr = started.communicate(timeout=MUCH_PATIENCE)[1]
    assert time.monotonic() - begun < 15
    assert started.returncode == 75
    command = " ".join(["-m tas_tf.search", *arguments])
    assert re.search(rf"Interrupted by SIGINT.* To go on:\n  .*{command}\n$", stderr, re.DOTALL)
    assert not pathlib.Path("again/architecture.json").exists()
    assert not pathlib.Path("again/run.lock").exists()

    assert run("search", *arguments) == pipeline[1]
    assert "Goes on from the checkpoint of step" in capsys.readouterr().out
    assert kill_test.differences(done, pathlib.Path("again")) == []


def test_terminated_pipeline_says_how_to_go_on(pipeline):
    arguments = ["--run_dir=run", "--gin_bindings=CheckpointInterval.steps = 2"]
    arguments = [f"--gin_file={pipeline[0].parent / 'small.gin'}", *arguments]
    started = start_and_wait_for("run/teacher/checkpoints/ckpt-2.json", "pipeline", *arguments)
    started.send_signal(signal.SIGTERM)
    stderr = started.communicate(timeout=MUCH_PATIENCE)[1]
    assert started.returncode == 75
    assert "-m tas_tf.pipeline --gin_file=" in stderr and "Traceback" not in stderr
    (step,) = re.findall(r"SIGTERM; the checkpoint of step (\d+) is saved", stderr)
    assert pathlib.Path(f"run/teacher/checkpoints/ckpt-{step}.json").exists()
    assert not list(pathlib.Path("run").rglob("run.lock"))


@pytest.mark.slow
def test_killed_search_comes_to_the_same(pipeline, monkeypatch):
    """The short form of `tools/kill_test`."""
    monkeypatch.chdir(pipeline[0].parent)
    spec = f"--gin_file={pipeline[0] / 'search/config.gin'}"
    often = "--gin_bindings=CheckpointInterval.steps = 2"
    command = kill_test.Command(("tas_tf.search", spec, often), "killed")
    undisturbed = pipeline[0] / "search"
    last = kill_test.last_step(undisturbed)
    kills = list(kill_test.disturb("search", command, pathlib.Path(), 3, last, random.Random(0)))
    # The moment of an export is short: a busy machine may miss it.
    assert [kill.aim for kill in kills] in (
        ["checkpoint", "step"],
        ["checkpoint", "step", "export"],
    )
    assert kills[0].left == "checkpoint"
    assert kill_test.differences(undisturbed, pathlib.Path("killed")) == []


def test_the_kill_test_sees_what_differs(pipeline, teacher):
    one, other = pipeline[0] / "teacher", teacher
    assert kill_test.differences(one, other) == []
    result = json.loads((other / "result.json").read_text())
    (other / "result.json").write_text(json.dumps({**result, "seconds": 0}))
    assert kill_test.differences(one, other) == []
    shutil.copy(pipeline[0] / "search/model.keras", other)
    with open(other / "metrics.jsonl", "a") as file:
        file.write((other / "metrics.jsonl").read_text())
    (other / "data.json").unlink()
    found = kill_test.differences(one, other)
    assert found == ["only in one: data.json", "metrics.jsonl", "model.keras"]
    moved = tf.train.load_checkpoint(str(one / "checkpoints/ckpt-25"))
    values = {"step": tf.Variable(moved.get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE") + 1)}
    tf.train.Checkpoint(**values).write(str(other / "checkpoints/ckpt-25"))
    assert "checkpoints/ckpt-25.index" in kill_test.differences(one, other)


def test_interrupt_before_the_first_epoch(pipeline):
    started = process("search", *training_arguments(pipeline, "run"))
    assert started.stdout.readline().startswith("Search: ")
    started.send_signal(signal.SIGINT)
    _, stderr = started.communicate(timeout=MUCH_PATIENCE)
    assert started.returncode == 75
    assert stderr.startswith("\nInterrupted by SIGINT. To go on:") and "Traceback" not in stderr


WITHOUT_TAS_TF = """
import json, sys
sys.modules["tas_tf"] = None  # as where it is not installed
try:
    import tas_tf
    sys.exit("tas_tf can be imported")
except ImportError:
    pass
import keras, numpy as np, tensorflow as tf
loaded = tf.saved_model.load("export/saved_model").signatures["serving_default"]
model = keras.models.load_model("student_kd/model.keras")
record = json.load(open("student_kd/data.json"))
for batch in (1, 7):
    images = np.random.default_rng(batch).integers(0, 256, (batch, 8, 8, 1), np.uint8)
    outputs = {name: value.numpy() for name, value in loaded(images=tf.constant(images)).items()}
    assert sorted(outputs) == ["classes", "logits", "probabilities"]
    logits = model((images / 255 - record["mean"]) / record["deviation"]).numpy()
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-4)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(outputs["classes"], logits.argmax(axis=1))
"""


def test_exported_network_runs_without_tas_tf(pipeline):
    command = [sys.executable, "-I", "-c", WITHOUT_TAS_TF]
    done = subprocess.run(
        command, cwd=pipeline[0], timeout=MUCH_PATIENCE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_exported_is_found_before_the_first_part(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["pipeline", QUICK, "--run_dir=new", *bindings("run_export.formats = 'tflite'")]
    expected = r"run_export\.formats: expected one or several of .*'tflite'"
    check_refused(capsys, *arguments, expected=[expected])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    arguments[-1] = "--gin_bindings=run_export.formats = 'onnx'"
    check_refused(capsys, *arguments, expected=["onnx needs onnxruntime, not installed here"])
    check_refused(capsys, *arguments, "--dry_run", expected=["onnx needs onnxruntime"])


def test_trained_network_is_exported_into_its_own_directory(teacher, capsys):
    assert run("export", f"--run_dir={teacher}") == 0
    assert (teacher / "saved_model/saved_model.pb").exists()
    assert "100.0% of the classes agree" in capsys.readouterr().out


def test_different_experiment_is_refused(capsys, pipeline):
    arguments = training_arguments(pipeline, pipeline[0] / "teacher")
    expected = ["holds a different experiment", r"\n  -EPOCHS = 1\n  \+EPOCHS = 2\n"]
    check_refused(capsys, "train", *arguments, *bindings("EPOCHS = 2"), expected=expected)
    check_refused(capsys, "search", *arguments, expected=[r"\+AGGREGATION = 'pad'", "and .. more"])
    check_refused(capsys, "pipeline", QUICK, f"--run_dir={pipeline[0]}", expected=[r"-DEPTH = 8\n"])


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("result.json", b"{", "result.json cannot be read: .* damaged.*: give another --run_dir$"),
        ("result.json", b"[]", "expected a JSON object"),
        ("config.gin", b"\xff\xfe", "config.gin cannot be read"),
        ("config.gin", b"", "holds a different experiment"),
    ],
)
def test_damaged_run_directory_is_refused(capsys, pipeline, teacher, file, content, expected):
    (teacher / file).write_bytes(content)
    check_refused(capsys, "train", *training_arguments(pipeline, teacher), expected=[expected])


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("metrics.jsonl", b"{", "metrics.jsonl cannot be read"),
        ("metrics.jsonl", b"3\n", "a record without `step`"),
        ("metrics.jsonl", b'{"step": "x"}\n', "a record without `step`"),
        ("checkpoints/ckpt-25.index", b"x", "ckpt-25.index has 1 bytes in place of"),
        ("checkpoints/ckpt-25.data-00000-of-00001", b"x", "No checkpoint of teacher can be used"),
        ("checkpoints/ckpt-25.json", b"x", "its manifest is damaged"),
    ],
)
def test_damaged_state_is_refused(pipeline, teacher, capsys, file, content, expected):
    (teacher / "result.json").unlink()
    (teacher / file).write_bytes(content)
    assert run("train", *training_arguments(pipeline, teacher)) == 2
    check_message(capsys.readouterr().err, expected)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("data.json", b"{", "data.json cannot be read"),
        ("data.json", b"{}", "seed, mean, deviation is missing"),
        ("architecture.json", b"{}", "architecture.json: missing field 'schema_version'"),
        ("model.keras", b"x", "model.keras cannot be read"),
    ],
)
def test_damaged_network_is_not_exported(capsys, teacher, file, content, expected):
    (teacher / file).write_bytes(content)
    check_refused(capsys, "export", f"--run_dir={teacher}", expected=[expected])


@pytest.mark.slow
def test_mixed_bfloat16_from_the_teacher_to_the_search(pipeline, teacher, capsys):
    precision = bindings("PRECISION = 'mixed_bfloat16'", "run_training.teacher = 'teacher'")
    assert run("train", *training_arguments(pipeline, "student"), *precision) == 0
    printed = capsys.readouterr().out
    assert re.search(r"Computes in mixed_bfloat16, \d+ threads", printed)
    assert re.search(r"distillation: [\d.e-]+ s per step \([\d.]+ s until the first", printed)
    model = keras.models.load_model("student/model.keras")
    dtypes = {layer.dtype_policy.name for layer in model.layers}
    assert dtypes == {"float32"} == {variable.dtype for variable in model.variables}
    assert json.loads(pathlib.Path("student/result.json").read_text())["test"]["accuracy"] > 0.2

    few = ["--gin_bindings=SEARCH_EPOCHS = 1"]
    assert run("search", *training_arguments(pipeline, "found"), *precision[:1], *few) in (0, 3)
    printed = capsys.readouterr().out
    assert re.search(r"Computes in mixed_bfloat16, \d+ threads; of the supernet what is", printed)


def test_an_unknown_precision_is_refused(pipeline, capsys):
    arguments = training_arguments(pipeline, "other")
    for command in ("train", "search"):
        check_refused(
            capsys, command, *arguments, *bindings("PRECISION = 'half'"),
            expected=["PRECISION", "mixed_bfloat16", "'half'"],
        )  # fmt: skip
