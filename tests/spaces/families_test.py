"""Block families as data: descriptions that make no block are refused."""

import pytest

from tas_tf.spaces.families import BLOCKS, Block, Unit

FIRST, LAST = Unit("conv1", (3, 3), strided=True), Unit("conv2", (3, 3), relu=False)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ((Unit("conv1", (4, 3), strided=True), LAST), r"conv1: .* odd .*Received: \(4, 3\)"),
        ((Unit("conv1", (3, 2), strided=True), LAST), r"conv1: .* odd .*Received: \(3, 2\)"),
        ((FIRST, Unit("conv2", (3, 3))), "conv2: expected no ReLU in the last unit"),
        ((Unit("conv1", (3, 3), relu=False, strided=True), LAST), "conv1: expected a ReLU after"),
        ((Unit("conv1", (3, 3)), LAST), r"wide: expected one strided unit\. Received: \[\]"),
        (
            (FIRST, Unit("conv2", (3, 3), strided=True), LAST),
            r"expected one strided unit\. Received: \['conv1', 'conv2'\]",
        ),
    ],
)
def test_what_makes_no_block_is_refused(units, message):
    with pytest.raises(ValueError, match=message):
        Block("wide", units)


def test_blocks_of_the_families_are_blocks():
    assert Block("wide", (FIRST, LAST)).units == (FIRST, LAST)
    assert {name: block.name for name, block in BLOCKS.items()} == {name: name for name in BLOCKS}
