"""Random architectures, bindings and run directories: a message or a result, never a traceback."""

import json
import pathlib
import random
import shutil
import string

import hypothesis
import hypothesis.strategies as st
import pytest
from command_line import QUICK, bindings, run

import tas_tf
from tas_tf.config import gin_config
from tas_tf.errors import ArchitectureError, UserError
from tas_tf.spaces.cost import costs


def examples(number):
    """Settings of a test: how many examples it tries."""
    unhelpful = [
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.filter_too_much,
    ]
    return hypothesis.settings(
        max_examples=number, deadline=None, suppress_health_check=unhelpful, database=None
    )


VALID = tas_tf.SearchSpace.resnet(8, 10, (8, 8, 1)).unpruned().to_json()
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.sampled_from([10**30, -1, 0, 2**31, "__import__('os').abort()", "macs", "ü"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


pytestmark = pytest.mark.usefixtures("empty_directory")


def changed(value, path, new):
    """Returns a JSON value with one place changed: the place is found by the numbers of `path`."""
    if not path or not isinstance(value, (dict, list)) or not value:
        return new
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = keys[path[0] % len(keys)]
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = changed(value[key], path[1:], new)
    return copy


def check_architecture(text):
    try:
        architecture = tas_tf.Architecture.from_json(text)
    except ArchitectureError:
        return
    assert tas_tf.Architecture.from_json(architecture.to_json()) == architecture
    costs(architecture)


@examples(300)
@hypothesis.given(path=st.lists(st.integers(0, 20), min_size=1, max_size=5), new=VALUES)
def test_architecture_with_one_place_changed(path, new):
    check_architecture(json.dumps(changed(json.loads(VALID), path, new)))


@examples(200)
@hypothesis.given(
    text=st.text(max_size=200)
    | VALUES.map(json.dumps)
    | st.tuples(st.integers(0, len(VALID)), st.text(max_size=9)).map(
        lambda cut: VALID[: cut[0]] + cut[1] + VALID[cut[0] + 1 :]
    )
)
def test_text_as_an_architecture(text):
    check_architecture(text)


NAMES = st.sampled_from(
    """TARGET DEPTH EPOCHS BATCH_SIZE LEARNING_RATE SEED DATASET AUGMENTATION AGGREGATION SEARCH
    PRECISION run_search.target run_search.seed run_search.temperature run_search.run_dir
    run_search.checkpoints resnet.ratios resnet.search ImageData.image_size ImageData.mean
    ImageData.skip_corrupt ImageData.holdout SGD.momentum Adam.beta_1 CheckpointInterval.steps
    CheckpointInterval.seconds Supernet.strategy run_derive.targets nothing @run_search()""".split()
)
# Depths and sizes that are taken at their word cost time, not sense.
NUMBERS = st.integers(-9, 30) | st.floats() | st.sampled_from([10**30, 2**31, 1e-300])
MEANT = st.recursive(
    NUMBERS.map(str)
    | st.text(string.printable, max_size=6).map(repr)
    | st.sampled_from(
        ["@resnet()", "@SGD", "%TARGET", "@run_search()", "None", "True", "'macs: 1'"]
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
    max_leaves=4,
)
BINDING = st.builds("{} = {}".format, NAMES, MEANT) | st.text(string.printable, max_size=30)


@examples(150)
@hypothesis.given(some=st.lists(BINDING, min_size=1, max_size=2))
def test_bindings_are_loaded_or_refused(some):
    hypothesis.assume(not any("import" in binding or "include" in binding for binding in some))
    try:
        gin_config.load(["specs/base/digits.gin"], some)
        gin_config.whole()
    except UserError as error:
        assert str(error)


@examples(40)
@hypothesis.given(binding=st.builds("{} = {}".format, NAMES, MEANT))
def test_dry_runs_with_any_binding(capsys, binding):
    assert run("search", QUICK, "--dry_run", *bindings("DEPTH = 8", binding)) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert not list(pathlib.Path().iterdir())


TINY = [QUICK, *bindings("DEPTH = 8", "EPOCHS = 1", "CheckpointInterval.steps = 10")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run directory of a finished training."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert run("train", *TINY, f"--run_dir={folder}") == 0
    return folder


def damage(path: pathlib.Path, kind: str, content: bytes, seed: int) -> None:
    """Damages a file: `content` stands for it, or in a place of it, or it is cut or removed."""
    whole = path.read_bytes()
    place = random.Random(seed).randrange(len(whole) + 1)
    made = {
        "replaced": content,
        "cut": whole[:place],
        "inserted": whole[:place] + content + whole[place:],
        "overwritten": whole[:place] + content + whole[place + len(content) :],
    }
    path.unlink()
    if kind in made:
        path.write_bytes(made[kind])


DAMAGE = {
    "which": st.integers(0, 99),
    "kind": st.sampled_from(["replaced", "cut", "inserted", "overwritten", "removed"]),
    "content": st.binary(max_size=40) | st.sampled_from([b"{}", b"[]", b"null", b"3", b"[" * 9999]),
    "seed": st.integers(0, 2**32),
}


def damaged_copy(trained, lacking, which, kind, content, seed) -> pathlib.Path:
    """A copy of a run directory that lacks some files, with one of the others damaged."""
    copy = pathlib.Path("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(trained, copy)
    for name in lacking:
        (copy / name).unlink()
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    damage(files[which % len(files)], kind, content, seed)
    return copy


def check_run(capsys, command, *arguments):
    assert run(command, *arguments) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
@examples(40)
@hypothesis.given(**DAMAGE)
def test_damaged_finished_run(trained, capsys, which, kind, content, seed):
    copy = damaged_copy(trained, (), which, kind, content, seed)
    check_run(capsys, "train", *TINY, f"--run_dir={copy}", "--dry_run")
    check_run(capsys, "train", *TINY, "--run_dir=other", f"--teacher={copy}", "--dry_run")
    if (copy / "result.json").exists():
        check_run(capsys, "train", *TINY, f"--run_dir={copy}")


@pytest.mark.slow
@examples(4)
@hypothesis.given(**DAMAGE)
def test_damaged_half_finished_run(trained, capsys, which, kind, content, seed):
    copy = damaged_copy(trained, ("result.json", "model.keras"), which, kind, content, seed)
    check_run(capsys, "train", *TINY, f"--run_dir={copy}")


@examples(5)
@hypothesis.given(**DAMAGE)
def test_damaged_run_to_export(trained, capsys, which, kind, content, seed):
    copy = damaged_copy(trained, (), which, kind, content, seed)
    check_run(capsys, "export", f"--run_dir={copy}")
