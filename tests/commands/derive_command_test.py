"""`python -m tas_tf.derive` on a finished search, and what else starts from one or shapes one."""

import json
import pathlib
import shutil

import gin
import numpy as np
import pytest
import small_runs
import tensorflow as tf
from command_line import QUICK, RUN, bindings, check_message, check_refused, finished, run

import tas_tf
from tas_tf.data.image_data import paired
from tas_tf.experiments import common
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models import inheritance, network_files, supernet
from tas_tf.models.spec_compiler import TRAINING_LAYERS, build_model
from tas_tf.runtime import checkpoints, run_directory
from tas_tf.spaces.cost import cost, costs
from tas_tf.spaces.expected_cost import CostModel
from tas_tf.training import losses, search_records
from tas_tf.training.architecture_search import ArchitectureSearch
from tas_tf.training.optimizers import SGD, Adam

# Along tied streams a derived network has no projection that its supernet does not have.
TINY = bindings("DEPTH = 8", "SEARCH_EPOCHS = 1", "resnet.tie_streams = True")
SPACE = tas_tf.SearchSpace.resnet(8, 10, (8, 8, 1), tie_streams=True)


pytestmark = pytest.mark.usefixtures("empty_directory")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The run directory of a search of one epoch, with two budgets at once."""
    folder = tmp_path_factory.mktemp("search") / "run"
    both = "TARGET = ['macs: 0.5', 'memory: 0.9']"
    code = run("search", QUICK, f"--run_dir={folder}", *TINY, *bindings(both))
    assert code in (0, 3)
    return folder


@pytest.fixture
def search(searched):
    """A copy of the finished search, that a test may damage."""
    return pathlib.Path(shutil.copytree(searched, "search"))


def read(path) -> tas_tf.Architecture:
    return tas_tf.Architecture.from_json(path.read_text())


def test_a_search_with_two_budgets_keeps_both(searched):
    found = read(searched / "architecture.json")
    derivation = found.provenance["derivation"]
    assert set(derivation["budgets"]) == {"macs", "memory"}
    for kind, budget in derivation["budgets"].items():
        assert budget["cost"] == cost(found, kind) <= budget["amount"]


def test_several_targets_from_one_search(search, capsys):
    folders = {
        "0.4": {"macs": 0.4},
        "macs: 0.7": {"macs": 0.7},
        "memory: 0.8": {"memory": 0.8},
        "parameters: 0.5, memory: 0.9": {"parameters": 0.5, "memory": 0.9},
        "macs: 0.5, parameters: 0.6": {"macs": 0.5, "parameters": 0.6},
    }
    before = {path for path in search.rglob("*") if path.is_file()}
    assert run("derive", f"--run_dir={search}", *(f"--target={t}" for t in folders)) == 0
    out = capsys.readouterr().out
    unpruned = costs(SPACE.unpruned())
    made = {
        search / "derived" / name / "architecture.json": shares
        for name, shares in zip(
            ["0.4", "macs_0.7", "memory_0.8", "parameters_0.5_memory_0.9"]
            + ["macs_0.5_parameters_0.6"],
            folders.values(),
            strict=True,
        )
    }
    assert {path for path in search.rglob("*") if path.is_file()} - before == set(made)
    for path, shares in made.items():
        assert f"Architecture: {path}" in out
        found = read(path)
        assert dict(found.cost) == costs(found)
        assert found.provenance["derivation"]["in_band"]
        assert set(found.provenance["derivation"]["budgets"]) == set(shares)
        for kind, share in shares.items():
            assert 0.95 * share <= cost(found, kind) / unpruned[kind] <= share


def test_a_derived_architecture_is_the_functions(search):
    assert run("derive", f"--run_dir={search}", "--target=0.4") == 0
    logits = search_records.read_logits(run_directory.RunDirectory(str(search)), SPACE)
    expected = tas_tf.derivation.derive(SPACE, *logits, tas_tf.cost.parse_targets(0.4, SPACE))
    derived = search / "derived/0.4/architecture.json"
    assert read(derived) == expected.architecture
    arguments = [QUICK, "--dry_run", f"--architecture={derived}"]
    assert run("train", *arguments) == 0


def test_outside_its_band_is_an_exit_code_of_its_own(search, capsys):
    exactly = bindings("run_derive.tolerance = 0.0")
    targets = ["--target=macs: 300001", "--target=macs: 0.1, parameters: 1"]
    assert run("derive", f"--run_dir={search}", *targets, *exactly) == 3
    assert "No architecture was found in the band: this is the nearest below" in (
        capsys.readouterr().out
    )
    found = read(search / "derived/macs_300001/architecture.json")
    assert cost(found, "macs") <= 300001
    assert not found.provenance["derivation"]["in_band"]


def test_dry_run_leaves_nothing(search, capsys):
    before = sorted(search.rglob("*"))
    assert run("derive", f"--run_dir={search}", "--target=0.4", "--dry_run") == 0
    assert "reachable" in capsys.readouterr().out
    assert sorted(search.rglob("*")) == before


def test_processes(searched):
    code, stdout, stderr = finished("derive", f"--run_dir={searched}", "--target=0.6")
    assert (code, stderr) == (0, "")
    assert "Derived: " in stdout and "derived/0.6/architecture.json" in stdout
    code, _, stderr = finished("derive", f"--run_dir={searched}")
    assert code == 2
    check_message(stderr, "--target: at least one budget is needed")


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([], "--target: at least one budget"),
        (["half"], "TARGET: expected a share.*Received: 'half'"),
        ([""], "TARGET: .*Received: ''"),
        (["0.4", "watts: 3"], "macs, parameters.*Received: 'watts: 3'"),
        (["0.4,"], "TARGET: .*Received: ''"),
        (["0.4, 0.5"], "one target of each kind"),
        (["0.4", "0.0001"], "no architecture of the space .*Reachable are"),
        (["memory: 2k"], "no architecture of the space .*Reachable are"),
    ],
)
def test_target_is_refused(search, capsys, targets, expected):
    arguments = [f"--run_dir={search}", *(f"--target={target}" for target in targets)]
    check_refused(capsys, "derive", *arguments, expected=[expected])


def test_directory_that_is_no_search_is_refused(search, capsys):
    target = "--target=0.5"
    check_refused(capsys, "derive", target, expected=["--run_dir: a directory"])
    expected = "nowhere is no run directory of a search: nowhere/config.gin is missing"
    check_refused(capsys, "derive", "--run_dir=nowhere", target, expected=[expected])
    (search / "logits.json").unlink()
    expected = r"search holds no finished search \(logits.json is missing\)"
    check_refused(capsys, "derive", f"--run_dir={search}", target, expected=[expected])


DAMAGED = {
    "NaN": lambda logits: logits["width_logits"][0].__setitem__(0, float("nan")),
    "a row less": lambda logits: logits["depth_logits"].pop(),
    "a ragged row": lambda logits: logits["width_logits"][0].pop(),
    "text": lambda logits: logits["width_logits"][0].__setitem__(0, "x"),
    "no depths": lambda logits: logits.pop("depth_logits"),
    "null": lambda logits: logits.update(width_logits=None),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_logits_are_refused(search, capsys, damage):
    file = search / "logits.json"
    logits = json.loads(file.read_text())
    DAMAGED[damage](logits)
    file.write_text(json.dumps(logits))
    expected = "logits.json.*(expected finite numbers|depth_logits is missing)"
    arguments = [f"--run_dir={search}", "--target=0.5"]
    check_refused(capsys, "derive", *arguments, expected=[expected])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 99_999])
@pytest.mark.parametrize("file", ["logits.json", "architecture.json"])
def test_damaged_file_is_refused(search, capsys, file, content):
    (search / file).write_bytes(content)
    arguments = [f"--run_dir={search}", "--target=0.5"]
    check_refused(capsys, "derive", *arguments, expected=[file])


def test_logits_of_another_space_are_refused(search, capsys):
    arguments = [f"--run_dir={search}", "--target=0.5", *bindings("DEPTH = 14")]
    expected = r"width_logits: expected finite numbers \(\d+, 8\)\. Received: shape \(\d+, 8\)"
    check_refused(capsys, "derive", *arguments, expected=[expected])


def test_published_network_by_its_name(data_dir, capsys):
    cifar = [f"--data_dir={data_dir}", "--dry_run"]
    arguments = ["--gin_file=specs/resnet20.gin", *cifar]
    assert run("train", *arguments, "--architecture=tas_resnet20_cifar10") == 0
    assert "22,444,472 MACs" in capsys.readouterr().out
    check_refused(
        capsys,
        "train",
        *arguments,
        "--architecture=tas_resnet20_cifar100",
        expected=["100 classes; cifar10 has .* 10 classes"],
    )
    expected = ["tas_resnet20_cifar11"]
    check_refused(
        capsys, "train", *arguments, "--architecture=tas_resnet20_cifar11", expected=expected
    )


def restored_supernet(searched) -> supernet.Supernet:
    net = supernet.Supernet(SPACE, aggregation="pad")
    loop = ArchitectureSearch(net)
    loop.compile(SGD(), Adam())
    assert checkpoints.Checkpoints(
        run_directory.RunDirectory(str(searched)), **loop.state()
    ).restore()
    return net


def images(count=32) -> tf.Tensor:
    return next(iter(small_runs.digits().training(count, 0).batches(0, 1)))[0]


def stopped_at_the_fit(monkeypatch, command, *arguments):
    """Runs a command up to its first step; returns the loop."""
    loops = []

    def stop(loop, *_, **__):
        loops.append(loop)
        raise KeyboardInterrupt

    monkeypatch.setattr(common, "fit", stop)
    assert run(command, QUICK, RUN, *arguments) == 75
    return loops[0]


def test_training_starts_with_the_supernets_logits(searched, monkeypatch):
    start = bindings(f"run_training.start_from = '{searched}'")
    arguments = [f"--architecture={searched}", *start]
    model = stopped_at_the_fit(monkeypatch, "train", *arguments).model
    net, architecture = restored_supernet(searched), read(searched / "architecture.json")
    x = images()
    expected = net(x, net.fixed_draw(architecture), mode=Mode.INFERENCE).numpy()
    received = model(x, training=False).numpy()
    assert np.abs(received - expected).max() < 1e-4 * np.abs(expected).max()
    # Not by being constant: random weights are far away.
    scratch = build_model(architecture, TRAINING_LAYERS)(x, training=False).numpy()
    assert np.abs(scratch - expected).max() > 0.1 * np.abs(expected).max()


def test_offsets_of_projections_without_normalization_are_kept():
    net, random = supernet.Supernet(SPACE, aggregation="pad"), np.random.default_rng(0)
    for unit in net.units + net.projections:
        mask = unit.channel_mask
        for variable in (unit.scale, unit.offset, unit.moving_mean):
            variable.assign(mask * random.uniform(0.1, 0.5, mask.shape))
        unit.moving_variance.assign(random.uniform(0.5, 1.5, mask.shape))
    architecture = SPACE.architecture([2] * len(SPACE.choices), [0] * 3)
    model = build_model(architecture)
    inheritance.inherit_weights(model, architecture, net)
    x = images()
    expected = net(x, net.fixed_draw(architecture), mode=Mode.INFERENCE).numpy()
    np.testing.assert_allclose(model(x, training=False), expected, rtol=1e-4, atol=1e-5)


def test_start_from_another_architecture_is_refused(searched, capsys):
    start = bindings(f"run_training.start_from = '{searched}'", "DEPTH = 8")
    expected = "start_from: its network is of another architecture"
    check_refused(capsys, "train", QUICK, RUN, *start, expected=[expected])


def save_teacher() -> tf.Tensor:
    """Makes an unpruned network with scales of all sizes; returns its logits of some images."""
    architecture, random = SPACE.unpruned(), np.random.default_rng(0)
    model = build_model(architecture)
    model.set_weights([w + random.uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
    pathlib.Path("teacher").mkdir()
    network_files.save_model(model, architecture, run_directory.RunDirectory("teacher"))
    pathlib.Path("teacher/architecture.json").write_text(architecture.to_json())
    return model(images(), training=False)


@pytest.mark.parametrize("ordered", [True, False])
def test_order_by_importance(monkeypatch, ordered):
    logits, models = save_teacher(), []

    def stop(self, model, images):
        models.append(model)
        raise KeyboardInterrupt

    monkeypatch.setattr(supernet.Supernet, "start_from", stop)
    settings = ["run_search.start_from = 'teacher'", f"run_search.order_by_importance = {ordered}"]
    assert run("search", QUICK, RUN, *TINY, *bindings(*settings)) == 75
    (model,) = models
    np.testing.assert_allclose(model(images(), training=False), logits, rtol=1e-3)
    for stage in (1, 2, 3):
        scales = model.get_layer(f"stage{stage}_block1_conv1_bn").gamma.numpy()
        assert np.array_equal(scales, np.sort(scales)[::-1]) == ordered


def test_published_cost_formula():
    loop, built = small_runs.search(cost_formula="published"), small_runs.search()
    logits = [np.random.default_rng(0).normal(size=v.shape) for v in loop.logits()]
    for search in (loop, built):
        for variable, values in zip(search.supernet.architecture_variables, logits, strict=True):
            variable.assign(values)
    probabilities = [p.numpy() for p in loop.supernet.probabilities()]
    one_hot = [np.eye(p.shape[1])[p.argmax(axis=1)] for p in probabilities]
    expected, current = (
        CostModel(loop.supernet.space, "macs", formula).expected(*p)
        for formula, p in (("published_expected", probabilities), ("published_estimate", one_hot))
    )
    costs = tf.constant(expected), tf.constant(current)
    term = losses.cost_loss(*costs, loop.budgets[0], band="published")
    assert float(term) != 0
    assert cost_loss(loop) == pytest.approx(float(term), rel=1e-9)
    assert cost_loss(built) != pytest.approx(float(term), rel=1e-6)


def cost_loss(loop) -> float:
    """The cost loss of a step, which is that of the logits before they move."""
    loop.begin_epoch(0, 2)
    batch = next(iter(paired(small_runs.digits(), 8, 0).batches(0, 1)))
    return float(loop.train_step(batch, tf.constant(0, tf.int64))["cost_loss"])


def test_published_cost_formula_from_a_spec(capsys, monkeypatch):
    published = bindings("DEPTH = 8", "run_search.cost_formula = 'published'")
    loop = stopped_at_the_fit(monkeypatch, "search", *published)
    space = tas_tf.SearchSpace.resnet(8, 10, (8, 8, 1))
    probabilities = [p.numpy() for p in loop.supernet.probabilities()]
    received = loop.readings()["expected_macs_ratio"] * loop.budgets[0].unpruned
    expected = CostModel(space, "macs", "published_expected").expected(*probabilities)
    assert received == pytest.approx(expected, rel=1e-12)
    assert CostModel(space).expected(*probabilities) != pytest.approx(expected, rel=1e-3)
    capsys.readouterr()
    other = bindings("run_search.cost_formula = 'x'")
    expected = "cost_formula .*'built', 'published'.*Received: 'x'"
    check_refused(capsys, "search", QUICK, "--run_dir=other", *other, expected=[expected])


@pytest.mark.parametrize("preset", ["quickstart", "resnet56"])
def test_published_code_after_a_preset(preset, data_dir):
    lines = [f"include 'specs/{preset}.gin'", "include 'specs/base/published_code.gin'"]
    pathlib.Path("a.gin").write_text("\n".join(lines))
    arguments = ["--gin_file=a.gin", "--dry_run", f"--data_dir={data_dir}"]
    assert run("search", *arguments) == 0
    assert gin.query_parameter("run_search.cost_formula") == "published"
    schedule = gin.query_parameter("run_search.temperature").scoped_configurable_fn()
    assert [schedule(0, 101), schedule(100, 101)] == pytest.approx([5.0, 0.1])
