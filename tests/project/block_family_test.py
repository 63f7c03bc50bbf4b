"""The page "Add a block family", carried out: its code, its preset and its commands."""

import pathlib
import re
import shlex

import numpy as np
import pytest
import tensorflow as tf
from command_line import PROJECT, bindings, run
from documents import blocks, commands
from networks import counted

from tas_tf.layers.aggregation import AGGREGATIONS
from tas_tf.layers.searchable_unit import Mode
from tas_tf.models.inheritance import inherit_weights
from tas_tf.models.spec_compiler import build_model
from tas_tf.models.supernet import Supernet
from tas_tf.spaces import families
from tas_tf.spaces.cost import cost
from tas_tf.spaces.expected_cost import CostModel
from tas_tf.spaces.search_space import SearchSpace

PAGE = "docs/add_a_block_family.md"
# Images and a schedule that need seconds, and no data set of TFDS.
SMALL = ["DATASET = 'digits'", "AUGMENTATION = 'crop'", "BATCH_SIZE = 16"]
COMMANDS = [command for command in commands(PAGE) if command.startswith("python -m tas_tf.")]


@pytest.fixture(scope="module", autouse=True)
def added():
    """Names of the family and the block that the page's Python block adds; both are registered."""
    (code,) = blocks(PAGE, "python")
    names = dict(vars(families))
    exec(code, names)
    new = {}
    with pytest.MonkeyPatch.context() as patch:
        for registry in ("FAMILIES", "BLOCKS"):
            known = getattr(families, registry)
            assert known.items() <= names[registry].items()
            (new[registry],) = names[registry].keys() - known.keys()
            patch.setitem(known, new[registry], names[registry][new[registry]])
        yield new["FAMILIES"], new["BLOCKS"]


def space(added, **options):
    family, block = added
    return SearchSpace.resnet(
        14, 5, (9, 8, 2), family=family, block=block, ratios=(0.3, 0.6, 1.0), **options
    )


def draws(searched, count):
    """Random candidates of every width choice and every stage."""
    random = np.random.default_rng(0)
    sizes = [len(choice.candidates) for choice in searched.choices], [*map(len, searched.depths)]
    for _ in range(count):
        yield tuple([int(random.integers(size)) for size in of_kind] for of_kind in sizes)


def test_candidate_widths_are_those_of_the_page(added):
    family, block = added
    searched = SearchSpace.resnet(14, family=family, block=block)
    widths = ", ".join(map(str, searched.unit_candidates(1)))
    assert f"the candidates {widths}." in " ".join((PROJECT / PAGE).read_text().split())


@pytest.mark.parametrize("kind", ["macs", "parameters"])
def test_cost_is_that_of_the_built_model(added, kind):
    searched = space(added)
    expected = CostModel(searched, kind)
    for widths, depths in draws(searched, 4):
        architecture = searched.architecture(widths, depths)
        macs, parameters = counted(build_model(architecture))
        exact = cost(architecture, kind)
        assert exact == {"macs": macs, "parameters": parameters}[kind]
        one_hot = [
            np.eye(max(sizes))[picks]
            for sizes, picks in (
                ([len(choice.candidates) for choice in searched.choices], widths),
                ([len(stage) for stage in searched.depths], depths),
            )
        ]
        assert expected.expected(*one_hot) == exact


# With tied streams every projection of a derived network is one that the supernet has.
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_supernet_at_a_draw_is_the_compiled_model(added, aggregation):
    searched = space(added, tie_streams=True)
    random = np.random.default_rng(1)
    net = Supernet(searched, aggregation)
    for unit in net.units + net.projections:
        mask = unit.channel_mask
        for variable in (unit.scale, unit.offset, unit.moving_mean):
            variable.assign(mask * random.uniform(-0.5, 1, mask.shape))
        unit.moving_variance.assign(random.uniform(0.5, 1.5, mask.shape))
    images = tf.constant(random.normal(size=(4, *searched.input_shape)), tf.float32)
    for widths, depths in draws(searched, 3):
        architecture = searched.architecture(widths, depths)
        model = build_model(architecture)
        inherit_weights(model, architecture, net)
        expected = model(images, training=False).numpy()
        received = net(images, net.fixed_draw(architecture), mode=Mode.INFERENCE)
        np.testing.assert_allclose(received, expected, atol=1e-4 * np.abs(expected).max())


def test_what_the_page_changes_is_there():
    """Every line that a diff of the page keeps or removes is in the file named above it."""
    text = (PROJECT / PAGE).read_text()
    found = re.findall(
        r"`(tests/[\w/]+\.py)`[^`]*(?:`\w+`[^`]*)*```diff\n(.*?)```", text, re.DOTALL
    )
    assert len(found) == len(blocks(PAGE, "diff")) == 4
    for path, diff in found:
        text = (PROJECT / path).read_text()
        for part in re.findall(r"^@@ (\w+) @@$", diff, re.MULTILINE):
            assert part in text, (path, part)
        kept = [line[1:] for line in diff.splitlines() if not line.startswith(("+", "@@"))]
        assert kept
        for line in kept:
            assert line in text.splitlines(), (path, line)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A directory with the page's preset, as the checkout would have it."""
    (spec,) = blocks(PAGE, "gin")
    (name,) = set(re.findall(r"new file `(specs/\w+\.gin)`", (PROJECT / PAGE).read_text()))
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text(spec)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[:60])
def test_commands_can_be_run(command, added, workplace, capsys):
    family, block = added
    _, _, name, *words = shlex.split(command)
    assert run(name.removeprefix("tas_tf."), *words, *bindings(*SMALL), "--dry_run") == 0
    depth = 14 if "specs/wide14.gin" in command else 8
    searched = SearchSpace.resnet(depth, 10, (8, 8, 1), family=family, block=block)
    assert f"unpruned {cost(searched.unpruned()):,} MACs" in capsys.readouterr().out


def test_all_other_commands_are_of_the_tests():
    others = [command for command in commands(PAGE) if command not in COMMANDS]
    assert others
    for command in others:
        script, *folders = shlex.split(command)
        assert script == "tools/test" and all((PROJECT / folder).is_dir() for folder in folders)


@pytest.mark.slow  # a pipeline: a minute or two
def test_the_family_is_searched_trained_and_exported(workplace):
    (command,) = [command for command in COMMANDS if " tas_tf.pipeline " in command]
    _, _, name, *words = shlex.split(command)
    assert run(name.removeprefix("tas_tf."), *words) in (0, 3)
    assert pathlib.Path("runs/wide8/export/saved_model/saved_model.pb").exists()
