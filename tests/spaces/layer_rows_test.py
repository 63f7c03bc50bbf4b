"""Rows of layers: they are the network's, and two networks' stand beside each other in order."""

from tas_tf.spaces.architecture import Architecture
from tas_tf.spaces.cost import cost
from tas_tf.spaces.layer_rows import layer_rows, side_by_side

OUTER = {"family": "cifar_resnet", "block": "basic", "input_shape": (8, 8, 3), "num_classes": 10}
WHOLE = Architecture(
    **OUTER, stem_width=16, stages=(((16, 16), (16, 16)), ((32, 32),) * 2, ((64, 64),) * 2)
)
CUT = Architecture(
    **OUTER, stem_width=10, stages=(((4, 7),), ((32, 20), (9, 30)), ((64, 64), (8, 64)))
)


def test_rows_add_up_to_the_network():
    rows = layer_rows(CUT)
    assert list(rows) == [layer.name for layer, *_ in CUT.layers()]
    assert sum(row.macs for row in rows.values()) == cost(CUT)
    assert sum(row.parameters for row in rows.values()) == cost(CUT, "parameters")
    row = rows["stage2_block2_conv1"]
    assert (row.in_channels, row.out_channels, row.height, row.width) == (20, 9, 4, 4)


def test_what_only_one_has_stands_in_its_block():
    beside = side_by_side(WHOLE, CUT)
    names = list(beside)
    # Widths of the first stage differ from the stem's in the one, not in the other.
    assert names[:5] == [
        "stem", "stage1_block1_conv1", "stage1_block1_conv2", "stage1_block1_projection",
        "stage1_block2_conv1",
    ]  # fmt: skip
    assert beside["stage1_block1_projection"][0] is None
    assert beside["stage1_block2_conv1"][1] is None
    for network, side in ((WHOLE, 0), (CUT, 1)):
        own = {name: rows[side] for name, rows in beside.items() if rows[side]}
        assert own == layer_rows(network) and list(own) == list(layer_rows(network))
    assert {*side_by_side(CUT, WHOLE)} == {*names}
