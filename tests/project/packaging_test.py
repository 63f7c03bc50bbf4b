"""The wheel and the sdist: what they hold, that an index would take them, and that they run.

The sdist holds what the wheel is made from. Tests, documents and benchmarks stay in the checkout,
since the tests read files from all of it.
"""

import email
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import readme_renderer.markdown
import setuptools
from checkout import ROOT, options

PACKAGED = (
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "tas_tf",
    "specs",
    "zoo",
    "tests",
)


def console_scripts() -> list[str]:
    return options("options.entry_points")["console_scripts"].strip().splitlines()


def build(source: pathlib.Path, out: pathlib.Path, *parts: str) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", *parts, "--outdir", out, source]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> pathlib.Path:
    """A copy of the checkout, since setuptools leaves its own files beside its sources."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name)
    return source


@pytest.fixture(scope="module")
def built(source, tmp_path_factory) -> pathlib.Path:
    """A folder that holds the sdist, and the wheel built from the sdist."""
    out = tmp_path_factory.mktemp("built")
    build(source, out)
    return out


@pytest.fixture(scope="module")
def sdist(built) -> pathlib.Path:
    (path,) = built.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(built) -> pathlib.Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> pathlib.Path:
    """A folder that holds the wheel's content alone."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", target, wheel], check=True)
    return target


def run_installed(installed, directory, *arguments) -> subprocess.CompletedProcess:
    """Runs Python in `directory` with the installed wheel in front of the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)


def sources() -> set[str]:
    """The files of the checkout that are packaged as code or as presets."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder, patterns in (
            ("tas_tf", ("*.py", "*.pyi", "py.typed", "templates/*")),
            ("specs", ("*.gin", "*.json")),
            ("zoo", ("*.md", "*.json", "*.keras")),
        )
        for pattern in patterns
        for path in (ROOT / folder).rglob(pattern)
    }


def contents(wheel: pathlib.Path) -> dict[str, int]:
    """The checksum of every packaged file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        files = {entry.filename: entry.CRC for entry in archive.infolist()}
    return {name: crc for name, crc in files.items() if ".dist-info/" not in name}


def metadata(wheel: pathlib.Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_every_package_is_named_in_setup_cfg():
    named = options("options")["packages"].split()
    found = setuptools.find_packages(ROOT, include=["tas_tf", "tas_tf.*"])
    assert sorted(named) == sorted([*found, "tas_tf.specs", "tas_tf.zoo"])


def test_wheel_holds_every_source_and_spec_and_nothing_else(wheel):
    held = set(contents(wheel))
    beside = ("specs/", "zoo/")
    assert held == {f"tas_tf/{name}" if name.startswith(beside) else name for name in sources()}
    assert "tas_tf/specs/quickstart.gin" in held
    assert {"tas_tf/py.typed", "tas_tf/reports/templates/page.html"} <= held


def test_sdist_holds_what_the_wheel_is_made_from(sdist):
    with tarfile.open(sdist) as archive:
        members = [
            member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()
        ]
    held = {name for name in members if not name.startswith("tas_tf.egg-info/")}
    assert held == sources() | {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}


def test_wheel_built_from_the_checkout_is_the_one_built_from_the_sdist(source, wheel, tmp_path):
    build(source, tmp_path, "--wheel")
    (direct,) = tmp_path.glob("*.whl")
    assert direct.name == wheel.name
    assert contents(direct) == contents(wheel)


def test_an_index_would_take_both(sdist, wheel):
    command = [sys.executable, "-m", "twine", "check", "--strict", sdist, wheel]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_description_renders_as_an_index_would_render_it(wheel):
    about = metadata(wheel)
    assert about["Description-Content-Type"] == "text/markdown"
    assert about.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    page = readme_renderer.markdown.render(about.get_payload())
    for element in ("<h1 ", "<table>", "<pre ", "<img "):
        assert element in page


def test_wheel_names_its_licence_and_commands(wheel):
    with zipfile.ZipFile(wheel) as archive:
        texts = {name.split("/")[-1]: name for name in archive.namelist() if "dist-info" in name}
        assert "LICENSE" in texts
        assert (
            "tas-pipeline = tas_tf.pipeline:run" in archive.read(texts["entry_points.txt"]).decode()
        )


def test_installed_wheel_is_what_is_imported(installed, tmp_path):
    done = run_installed(installed, tmp_path, "-c", "import tas_tf; print(tas_tf.__file__)")
    assert pathlib.Path(done.stdout.strip()).is_relative_to(installed), done.stderr


@pytest.mark.parametrize(
    ("command", "preset"),
    [
        pytest.param("search", "resnet20", marks=pytest.mark.slow),
        ("search", "quickstart"),
        ("pipeline", "quickstart"),
    ],
)
def test_packaged_preset_is_found_from_another_directory(
    installed, tmp_path, command, preset, request
):
    """The preset and the files that it includes: none of them is in the working directory."""
    arguments = [f"--gin_file=specs/{preset}.gin", "--run_dir=run", "--dry_run"]
    if preset == "resnet20":  # its data set does not come with the install
        arguments.append(f"--data_dir={request.getfixturevalue('data_dir')}")
    done = run_installed(installed, tmp_path, "-m", f"tas_tf.{command}", *arguments)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", console_scripts())
def test_console_script_explains_itself(installed, tmp_path, line):
    script, module = re.fullmatch(r"(tas-[a-z-]+) = (tas_tf\.[a-z_]+):run", line).groups()
    installed_script = run_installed(installed, tmp_path, installed / "bin" / script, "--help")
    as_module = run_installed(installed, tmp_path, "-m", module, "--help")
    for done in (installed_script, as_module):
        assert "Exit codes: 0 done" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []
