"""Every command in README and docs is run, and what they name exists.

Commands of the package are dry runs here, on a shrunk network and a folder of real scans of digits,
in a directory that holds what the earlier commands of their page would have made. Those of
troubleshooting are run as they stand, and must say what the page says. The slow test runs the
tutorial from its first command to its last.
"""

import re
import shlex
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import spaces
from command_line import PROJECT, bindings, run
from documents import blocks, commands, in_shell, save_images

from tas_tf.config import gin_config
from tas_tf.spaces.search_space import SearchSpace

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((PROJECT / "docs").glob("*.md")))]
TROUBLE = "docs/troubleshooting.md"
FAMILY = "docs/add_a_block_family.md"  # carried out in block_family_test.py
# What else stands in shell blocks, and where it is run.
ELSEWHERE = {
    "tools/quickstart": "in tests/commands/pipeline_test.py, step by step",
    "tools/test": "in .ci/run",
    "tools/serve_check": "in tests/deployment/serving_protocol_test.py",
    "python -m venv": "in tools/venv.sh",
    "pip install": "in tools/venv.sh and tests/project/packaging_test.py",
    "tensorboard": "in tests/training/tensorboard_test.py",
    "python -m tas_tf.report": "in tests/reports/report_test.py",
    "python -m tas_tf.measure": "in tests/commands/latency_command_test.py",
    "python -m tas_tf.profile_device": "in tests/commands/latency_command_test.py, by layer in "
    "tests/deployment/latency_profile_test.py",
    "python tools/run_study.py --gin_file=specs/study/cifar10_small.gin --data_dir": "with digits "
    "in tests/project/study_test.py",
    **{
        f"python -m tas_tf.{command} --gin_file=specs/model.gin": "in "
        "tests/commands/model_command_test.py"
        for command in ("pipeline", "baseline", "train")
    },
    "saved_model_cli": "in tests/deployment/artifacts_test.py",
    "docker run": "nowhere: it needs Docker; a server of the same protocol stands in",
    "curl": "nowhere, likewise",
}
# A network that has the same parts and takes seconds.
SMALL = ["AUGMENTATION = 'crop'", "BATCH_SIZE = 16", "EPOCHS = 1", "SEARCH_EPOCHS = 1"]
SHRUNK = ["DATASET = 'flowers'", "ImageData.image_size = 16", "DEPTH = 8", *SMALL]
PUBLISHED = ["DATASET = 'hundred'", *SMALL[:-1]]


def spec_of_tutorial() -> str:
    (block,) = blocks("docs/tutorial.md", "gin")
    assert block.startswith("# flowers.gin\n") and "'/data/flowers'" in block
    return block.replace("'/data/flowers'", "'flowers'")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with images, a spec, and runs that later commands of the pages start from."""
    folder = tmp_path_factory.mktemp("workplace")
    save_images(folder / "flowers", 2, 40, 16)
    save_images(folder / "hundred", 100, 2, 32)
    (folder / "tensorflow_datasets").mkdir()
    for name in ("specs", "tools"):
        (folder / name).symlink_to(PROJECT / name)
    (folder / "flowers.gin").write_text(spec_of_tutorial())
    table = spaces.latency_table(SearchSpace.resnet(8, 2, (16, 16, 3)), most=10**6)
    (folder / "table.json").write_text(table.to_json())
    spec = ["--gin_file=specs/resnet20.gin", *bindings(*SHRUNK)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("train", *spec, "--run_dir=runs/teacher") == 0
        assert run("search", *spec, "--run_dir=runs/search") in (0, 3)
        assert run("derive", "--run_dir=runs/search", "--target=0.3") in (0, 3)
    (folder / "runs/flowers").mkdir()
    for copy in ("search20", "flowers/search"):
        (folder / "runs" / copy).symlink_to(folder / "runs/search")
    for copy in ("teacher20", "student", "student20", "deploy20", "flowers30", "flowers/teacher"):
        (folder / "runs" / copy).symlink_to(folder / "runs/teacher")
    return folder


def dry(words: list[str]) -> list[str]:
    """What is asked for in place of a command of a page."""
    small = any(word.endswith("/config.gin") for word in words)
    if small or words[0] in ("derive", "export"):  # they start from a run, which is small
        return [*words, "--dry_run"]
    shrunk = PUBLISHED if any("tas_resnet" in word for word in words) else SHRUNK
    own = [word for word in words if "--run_dir=" not in word]
    return [*own, *bindings(*shrunk), "--run_dir=runs/new", "--dry_run"]


@pytest.mark.parametrize(
    ("page", "command"),
    [
        pytest.param(page, command, id=f"{page}: {command[:70]}")
        for page in PAGES
        if page not in (TROUBLE, FAMILY)
        for command in dict.fromkeys(commands(page))
        if not command.startswith(tuple(ELSEWHERE))
    ],
)
def test_command(page, command, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("HOME", str(workplace))
    program, *words = shlex.split(command)
    assert program == "python"
    if words[0] == "-m":
        name = words[1].removeprefix("tas_tf.")
        assert run(*dry([name, *words[2:]])) == 0
        return
    in_shell(command)


def test_what_is_run_elsewhere_is_still_in_the_documents():
    everything = [command for page in PAGES for command in commands(page)]
    for start in ELSEWHERE:
        assert any(command.startswith(start) for command in everything), start


def complaints() -> list[tuple[str, str]]:
    """The commands of troubleshooting, each with the message below it."""
    text = (PROJECT / TROUBLE).read_text()
    return re.findall(r"^```sh\n(.*?)\n```\n+```text\n(.*?)\n```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("command", "message"), complaints())
def test_what_troubleshooting_quotes_is_what_is_said(
    command, message, workplace, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    save_images(tmp_path / "pictures", 1, 1, 8, parts=("train",))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/holiday.jpg").write_text("")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/search").symlink_to(workplace / "runs/search")
    words = shlex.split(command)
    assert run(words[2].removeprefix("tas_tf."), *words[3:]) == 2
    said = " ".join(capsys.readouterr().err.split())
    pattern = re.escape(" ".join(message.split())).replace(re.escape("[...]"), ".*")
    assert re.fullmatch(pattern, said), said


def test_every_complaint_of_troubleshooting_has_a_command():
    assert len(complaints()) == len(blocks(TROUBLE, "sh")) == len(blocks(TROUBLE, "text")) > 10


def test_readme_in_python(tmp_path, monkeypatch):
    code, own_model = blocks("README.md", "python")
    shrunk = code.replace("resnet(20", "resnet(8").replace("epochs=5", "epochs=1")
    assert shrunk.count("resnet(8") == shrunk.count("epochs=1") == 1
    names = types.SimpleNamespace()
    exec(shrunk, vars(names))
    assert names.model.output_shape == (None, 10)
    monkeypatch.chdir(tmp_path)
    names.model.save("mine.keras")
    names.keras = keras
    names.x = names.x_held_out = np.random.default_rng(0).normal(size=(64, 8, 8, 1))
    names.y = names.y_held_out = np.arange(64) % 10
    exec(own_model.replace("epochs=5", "epochs=1"), vars(names))
    assert names.smaller.output_shape == (None, 10)
    assert names.smaller.count_params() < names.model.count_params()


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    text = (PROJECT / page).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[\w-]+)?\)", text):
        assert (PROJECT / page).parent.joinpath(target).exists(), target


def test_the_picture_of_the_code_has_every_package_and_file():
    (figure,) = blocks("README.md", "mermaid")
    shown = {}
    for package, files in re.findall(r'\b([a-z]+)[\[(]+"[a-z]+: [^<]+<br>([^"]+)"', figure):
        shown[package] = set(re.findall(r"[a-z][a-z_0-9]*", files.replace("<br>", " ")))
    packages = (PROJECT / "tas_tf").glob("*/__init__.py")
    assert shown == {
        path.parent.name: {file.stem for file in path.parent.glob("*.py")} - {"__init__"}
        for path in packages
    }


def test_files_beside_the_packages_are_named():
    named = set(re.findall(r"`([a-z_]+)`", (PROJECT / "README.md").read_text()))
    assert {path.stem for path in (PROJECT / "tas_tf").glob("*.py")} - {"__init__"} <= named


def test_pages_made_from_the_code_are_current():
    done = subprocess.run(
        [sys.executable, PROJECT / "tools/reference.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_setting_is_explained():
    text = (PROJECT / "docs/spec.md").read_text()
    for name in ("run_search.epochs", "ImageData.image_size", "Supernet.strategy", "SGD.l2"):
        assert re.search(rf"^\| `{re.escape(name)}` \|.*\| [^|]{{10,}} \|$", text, re.MULTILINE)
    for name in gin_config.registered:
        assert f"\n## {name}\n" in text


@pytest.mark.slow
def test_the_tutorial_as_it_is_written(tmp_path, monkeypatch, capsys):
    """All of its commands, in order, with images of its own and fewer epochs: minutes."""
    monkeypatch.chdir(tmp_path)
    for name in ("specs", "tools"):
        (tmp_path / name).symlink_to(PROJECT / name)
    save_images(tmp_path / "flowers", 2, 80, 32)
    small = spec_of_tutorial().replace("EPOCHS = 60", "EPOCHS = 1")
    assert small.count("EPOCHS = 1\n") == 2
    (tmp_path / "flowers.gin").write_text(small)
    for command in commands("docs/tutorial.md"):
        program, *words = shlex.split(command)
        if words[0] == "-m":
            assert run(words[1].removeprefix("tas_tf."), *words[2:]) in (0, 3)
        else:
            in_shell(command)
    capsys.readouterr()
    (code,) = blocks("docs/tutorial.md", "python")
    exec(code, {})
    assert re.fullmatch(r"tf.Tensor\(\[[01] [01]\], .*\)\n", capsys.readouterr().out)
