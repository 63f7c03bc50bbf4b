"""Pipelines that are moved, repeated in other spellings, given other networks, and killed."""

import json
import os
import pathlib
import random
import shutil

import kill_test
import pytest
from command_line import bindings, check_refused, run, training_arguments

pytestmark = pytest.mark.usefixtures("empty_directory")


@pytest.mark.slow
def test_a_pipeline_goes_on_wherever_it_was_moved(pipeline, tmp_path, monkeypatch, capsys):
    folder, code, _ = pipeline
    moved, spec = tmp_path / "it's moved", f"--gin_file={folder.parent / 'small.gin'}"
    shutil.copytree(folder, moved)
    os.rename(folder, folder.with_name("away"))  # nothing may be found where it was
    try:
        monkeypatch.chdir(moved / "search")  # from another working directory, in another spelling
        assert run("pipeline", spec, "--run_dir=../../it's moved/") == code
        printed = capsys.readouterr()
        assert (printed.out.count("Already done"), printed.err) == (5, "")
        for part in ("student_kd/result.json", "student_kd/model.keras"):  # unfinished now
            (moved / part).unlink()
        assert run("pipeline", spec, f"--run_dir={moved}") == code
        printed = capsys.readouterr()
        assert printed.out.count("Already done") == 4
        assert "Goes on from the checkpoint of step 25" in printed.out
        config = moved / "student_kd/config.gin"
        assert "run_training.teacher = '{here}/../teacher'" in config.read_text()
        assert run("train", f"--gin_file={config}", f"--run_dir={moved}/student_kd") == 0
        assert "Already done" in capsys.readouterr().out
    finally:
        os.rename(folder.with_name("away"), folder)


def test_another_network_in_the_place_of_a_teacher_is_refused(pipeline, teacher, capsys):
    arguments = training_arguments(pipeline, "run")
    few = bindings("EPOCHS = 1")
    assert run("train", *arguments, *few, "--teacher=teacher") == 0
    pathlib.Path("here").symlink_to(".")
    assert run("train", *arguments, *few, "--teacher=./here/teacher/") == 0
    shutil.copy(pipeline[0] / "student/model.keras", teacher)
    shutil.copy(pipeline[0] / "student/architecture.json", teacher)
    for place in ("teacher", os.path.abspath("teacher")):
        expected = ["run was begun with another teacher .weights [0-9a-f]{12} in place of"]
        check_refused(capsys, "train", *arguments, *few, f"--teacher={place}", expected=expected)
    other = f"--architecture={pipeline[0] / 'search'}"
    shutil.copytree(pipeline[0] / "student", "student")
    assert run("train", *training_arguments(pipeline, "student"), other) == 0
    architecture = json.loads(pathlib.Path("student/architecture.json").read_text())
    architecture["stem_width"] -= 1
    pathlib.Path("other.json").write_text(json.dumps(architecture))
    check_refused(
        capsys,
        "train",
        *training_arguments(pipeline, "student"),
        "--architecture=other.json",
        expected=["student was begun with another architecture"],
    )


@pytest.mark.slow
def test_killed_export_comes_to_the_same(pipeline, monkeypatch):
    """The other short form: the export of a derived network, whose calls are timed."""
    monkeypatch.chdir(pipeline[0].parent)
    arguments = ("tas_tf.export", "--model=run/student_kd")
    undisturbed = kill_test.Command(arguments, "undisturbed_export")
    kill_test.finish("export", undisturbed, pathlib.Path())
    command = kill_test.Command(arguments, "killed_export")
    kills = list(kill_test.disturb("export", command, pathlib.Path(), 2, 0, random.Random(1)))
    assert kills and {kill.aim for kill in kills} <= {"start", "export"}
    manifests = [
        json.loads(pathlib.Path(c.run_dir, "manifest.json").read_text())
        for c in (undisturbed, command)
    ]
    calls = [manifest["artifacts"]["saved_model"]["speed"]["calls"] for manifest in manifests]
    assert calls[0] != calls[1]  # they are timed, and no two times are the same
    runs = [pathlib.Path(c.run_dir) for c in (undisturbed, command)]
    assert kill_test.differences(*runs) == []
    manifest = manifests[1]
    manifest["artifacts"]["saved_model"]["speed"]["calls"][0]["batch_size"] += 1
    (runs[1] / "manifest.json").write_text(json.dumps(manifest))
    assert kill_test.differences(*runs) == ["manifest.json"]
