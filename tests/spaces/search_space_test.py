"""Which widths and depths a search chooses among."""

import dataclasses
import itertools

import pytest
import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import absolute, check, fixtures, space_of

from tas_tf.errors import ArchitectureError, SpecError
from tas_tf.spaces.choices import candidate_widths
from tas_tf.spaces.search_space import SearchSpace

CIFAR_DEPTHS = {20: (1, 2, 3), 32: (1, 3, 5), 110: (*range(1, 18, 2), 18)}


def test_default_candidates():
    assert candidate_widths(16, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)) == (
        *(4, 6, 8, 9),
        *(11, 12, 14, 16),
    )


@settings(deadline=None)
@given(
    st.integers(1, 600),
    st.lists(st.floats(0.01, 1.0), min_size=1, max_size=9),
    st.sampled_from([1, 2, 8, 16]),
)
def test_candidates(width, ratios, divisor):
    candidates = candidate_widths(width, ratios, divisor)
    assert list(candidates) == sorted(set(candidates))
    assert 1 <= candidates[0] and candidates[-1] <= width
    if divisor == 1:
        assert set(candidates) == {max(1, int(width * ratio)) for ratio in ratios}
    else:
        assert all(c % divisor == 0 or c == width for c in candidates)


def test_divisor_rounds_to_the_nearest():
    ratios = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert candidate_widths(64, ratios, 16) == (16, 32, 48, 64)
    assert candidate_widths(16, ratios, 8) == (8, 16)
    assert candidate_widths(16, ratios, 100) == (16,)


@pytest.mark.parametrize("depth", sorted(CIFAR_DEPTHS))
def test_cifar_depths(depth):
    assert SearchSpace.resnet(depth).depths == (CIFAR_DEPTHS[depth],) * 3


def test_two_blocks_have_two_depths():
    assert SearchSpace.resnet(14).depths == ((1, 2),) * 3


def test_imagenet_depths():
    depths = SearchSpace.resnet(50, family="imagenet_resnet").depths
    assert depths == ((1, 2, 3), (1, 2, 4), (2, 4, 6), (1, 2, 3))
    assert SearchSpace.resnet(18, family="imagenet_resnet").depths == ((1, 2),) * 4


def test_units_stand_stem_first_then_block_by_block():
    space = SearchSpace.resnet(164)
    assert space.block == "bottleneck" and space.blocks_per_stage == (18, 18, 18)
    assert len(space.unit_choices) == 1 + 54 * 3
    assert space.unit_choices == tuple(range(163))
    assert space.block_units[0][1] == (4, 5, 6)
    assert space.choices[6].name == "stage1_block2_conv3"
    assert space.unit_candidates(6) == candidate_widths(
        64, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    )


def test_reference_candidates(reference_dir):
    for file, data in fixtures(reference_dir, "supernet_*.npz").items():
        space = space_of(data)
        for unit, row in zip(range(len(space.unit_choices)), data["width_candidates"], strict=True):
            error = absolute(space.unit_candidates(unit), row[row > 0])
            check(file, "candidate widths", error, 0)
        for depths in space.depths:
            check(file, "candidate depths", absolute(depths, data["depth_candidates"]), 0)


@pytest.mark.parametrize("search", ["width", "depth", "shape"])
def test_modes(search):
    space = SearchSpace.resnet(20, search=search)
    assert (max(len(c.candidates) for c in space.choices) > 1) == (search != "depth")
    assert (max(map(len, space.depths)) > 1) == (search != "width")
    assert space.unpruned() == SearchSpace.resnet(20).unpruned()


def test_frozen_parts_stay_whole():
    frozen = ["stem", "stage2", "stage1_block2", "stage3_block1_conv1"]
    space = SearchSpace.resnet(20, frozen=frozen)
    still = [choice.name for choice in space.choices if len(choice.candidates) == 1]
    assert still == [
        "stem",
        "stage1_block2_conv1",
        "stage1_block2_conv2",
        *(f"stage2_block{b}_conv{c}" for b in (1, 2, 3) for c in (1, 2)),
        "stage3_block1_conv1",
    ]
    assert space.depths == ((1, 2, 3), (3,), (1, 2, 3))
    assert space.choices[0].candidates == (16,)


def test_tied_streams():
    space = SearchSpace.resnet(20, tie_streams=True)
    outputs = [[space.unit_choices[units[-1]] for units in stage] for stage in space.block_units]
    assert [set(stage) for stage in outputs] == [{0}, {outputs[1][0]}, {outputs[2][0]}]
    assert len(space.choices) == 1 + 9 + 2
    # A bottleneck's stem is narrower than its first stream.
    outputs = SearchSpace.resnet(29, block="bottleneck", tie_streams=True)
    assert outputs.unit_choices[3] != 0 and outputs.unit_choices[3] == outputs.unit_choices[6]


@pytest.mark.parametrize("part", ["stage1", "stage1_block3", "stage1_block3_conv2", "stem"])
def test_what_is_shared_is_frozen_with_any_of_its_units(part):
    space = SearchSpace.resnet(20, tie_streams=True, frozen=[part])
    assert space.choices[0].candidates == (16,)
    assert len(space.unit_candidates(space.block_units[1][0][-1])) == 8


@pytest.mark.parametrize("ratios", [(0.25, 0.5), (0.5,)])
def test_unpruned_network_is_whole_even_where_no_candidate_is(ratios):
    space = SearchSpace.resnet(20, ratios=ratios)
    assert space.unpruned() == SearchSpace.resnet(20).unpruned()
    assert space.unpruned().stages == (((16, 16),) * 3, ((32, 32),) * 3, ((64, 64),) * 3)


def test_architecture_takes_its_candidates():
    space = SearchSpace.resnet(14, ratios=(0.5, 1.0))
    widths = [i % 2 for i in range(len(space.choices))]
    architecture = space.architecture(widths, [0, 1, 0], name="some")
    assert architecture.name == "some"
    assert architecture.stem_width == 8
    # Choices: stem, then block by block; the second blocks of stages 1 and 3 are cut.
    assert architecture.stages == (((16, 8),), ((32, 16), (32, 16)), ((64, 32),))


def test_spaces_compare_and_keep_their_given_fields():
    space = SearchSpace.resnet(20, num_classes=7, input_shape=[11, 13, 1])
    assert space == SearchSpace.resnet(20, num_classes=7, input_shape=(11, 13, 1))
    assert dataclasses.replace(space, num_classes=8).unpruned().num_classes == 8
    sizes = [layer.size for layer in itertools.chain(*(b.units for b in space.outline.stages[2]))]
    assert set(sizes) == {(3, 4)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"depth": 21}, "depth: .*6n\\+2 .*20 or 26. Received: 21"),
        ({"depth": 0}, "depth: .* Received: 0"),
        ({"depth": -4}, "depth: .* Received: -4"),
        ({"depth": 6 * 10**12 + 2}, "depth: .*1000 blocks. Received: 6000000000002"),
        ({"depth": 21, "block": "bottleneck"}, "depth: .*9n\\+2 .*20 or 29. Received: 21"),
        ({"block": "vgg"}, "block: expected one of .*'basic', 'bottleneck'.* Received: 'vgg'"),
        ({"family": "vgg"}, "family: expected .* Received: vgg"),
        ({"family": "imagenet_resnet"}, "depth: .*18, 34, 50.* Received: 20"),
        (
            {"family": "imagenet_resnet", "depth": 18, "block": "bottleneck"},
            "block: .*'bottleneck'",
        ),
        ({"search": "all"}, "search: .* Received: 'all'"),
        ({"ratios": ()}, "ratios: .* Received: \\(\\)"),
        ({"ratios": (0.5, 1.5)}, "ratios: .* Received: \\(0.5, 1.5\\)"),
        ({"ratios": (0.0, 1.0)}, "ratios: "),
        ({"ratios": (float("nan"), 1.0)}, "ratios: "),
        ({"width_divisor": 0}, "width_divisor: .* Received: 0"),
        (
            {"depths": [[1, 3], [3]]},
            "depths: .*\\[3, 3, 3\\].* Received: \\[\\[1, 3\\], \\[3\\]\\]",
        ),
        ({"depths": [[1, 2], [3], [3]]}, "depths: "),
        ({"depths": [[0, 3], [3], [3]]}, "depths: "),
        ({"depths": [[], [3], [3]]}, "depths: "),
        ({"frozen": ["stage4"]}, "frozen: 'stage4' is no part"),
        ({"frozen": ["stage1_block9"]}, "frozen: 'stage1_block9' is no part"),
        ({"num_classes": 0}, "num_classes: .* Received: 0"),
        ({"input_shape": (32, 32)}, "input_shape: .* Received: \\(32, 32\\)"),
        ({"input_shape": (32, -1, 3)}, "input_shape\\[1\\]: .* Received: -1"),
    ],
)
def test_refuses_arguments(arguments, said):
    with pytest.raises(SpecError, match=said):
        SearchSpace.resnet(**{"depth": 20} | arguments)


def test_own_depths():
    space = SearchSpace.resnet(20, depths=[[3, 1, 1], [2, 3], [3]])
    assert space.depths == ((1, 3), (2, 3), (3,))


@pytest.mark.usefixtures("odd_blocks")
@settings(deadline=None)
@given(space=spaces.small_spaces(), data=st.data())
def test_indices_are_those_of_an_architecture(space, data):
    widths = [data.draw(st.integers(0, len(c.candidates) - 1)) for c in space.choices]
    depths = [data.draw(st.integers(0, len(d) - 1)) for d in space.depths]
    network = space.architecture(widths, depths)
    found = space.indices(network)
    assert space.architecture(*found) == network
    assert found[1] == tuple(depths)
    built = {
        space.unit_choices[unit]
        for units, stage in zip(space.block_units, network.stages, strict=True)
        for block_units in units[: len(stage)]
        for unit in block_units
    } | {space.unit_choices[0]}
    for choice, (index, drawn) in enumerate(zip(found[0], widths, strict=True)):
        assert index == (drawn if choice in built else 0)


def test_an_architecture_of_another_space_has_no_indices():
    space = SearchSpace.resnet(8)
    network = SearchSpace.resnet(8, ratios=(0.25, 1.0)).architecture([0] * 7, [0] * 3)
    with pytest.raises(ArchitectureError, match=r"stem: expected one of \[8, 16\]. Received: 4"):
        SearchSpace.resnet(8, ratios=(0.5, 1.0)).indices(network)
    deep = SearchSpace.resnet(14).unpruned()
    with pytest.raises(ArchitectureError, match=r"stage1: expected one of \[1\]\. Received: 2"):
        space.indices(deep)
