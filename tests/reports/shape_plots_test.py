"""Pictures of shapes: what they say is what the architecture and the distributions say."""

import collections

import pytest
import spaces
from hypothesis import given, settings
from pictures import some_architecture, texts, uniform

from tas_tf.reports import canvas, shape_plots
from tas_tf.spaces.search_space import SearchSpace

NETWORKS = [(20, "cifar_resnet"), (110, "cifar_resnet"), (164, "cifar_resnet")]
NETWORKS += [(18, "imagenet_resnet"), (50, "imagenet_resnet")]


@pytest.mark.parametrize(("depth", "family"), NETWORKS)
def test_architecture_names_depths_and_numbers_widths_where_there_is_room(depth, family):
    space = SearchSpace.resnet(depth, family=family)
    found = some_architecture(space)
    shown = texts(shape_plots.draw_architecture(found, space.unpruned()))
    for stage, whole in zip(found.stages, space.blocks_per_stage, strict=True):
        assert f"{len(stage)}/{whole} blocks" in shown
    if depth in (18, 20):
        widths = [
            found.stem_width,
            *(w for stage in found.stages for block in stage for w in block),
        ]
        assert not collections.Counter(map(str, widths)) - collections.Counter(shown)


def test_bars_are_as_high_as_layers_are_wide():
    space = SearchSpace.resnet(20)
    found = some_architecture(space)
    figure = shape_plots.draw_architecture(found, space.unpruned())
    for s, (ax, stage) in enumerate(zip(figure.axes, found.stages, strict=True)):
        kept = [p for p in ax.patches if canvas.BLUE == _hex(p.get_facecolor())]
        (bars,) = [p.get_data().values for p in kept]
        widths = [width for block in stage for width in block]
        assert list(bars[bars > 0]) == [found.stem_width] * (s == 0) + widths


def _hex(colour):
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])


@settings(max_examples=15, deadline=None)
@given(space=spaces.small_spaces())
def test_every_space_can_be_drawn(space):
    unpruned, found = space.unpruned(), some_architecture(space)
    for one, other in ((found, unpruned), (unpruned, found)):
        axes = shape_plots.draw_architecture(one, other).axes
        for ax, stage, most in zip(axes, one.stages, space.blocks_per_stage, strict=True):
            assert ax.get_title().endswith(f"\n{len(stage)}/{most} blocks")
    widths, stages, _ = shape_plots.draw_distributions(space, *uniform(space), found).axes
    assert len(widths.images[0].get_array()) == len(space.choices)
    columns, rows = stages.lines[0].get_data()  # dots at the depths that were taken
    assert list(rows) == list(range(len(found.stages)))
    taken = [depths[k] for depths, k in zip(space.depths, columns, strict=True)]
    assert taken == [len(stage) for stage in found.stages]
    shape = {
        "epoch": 1,
        "argmax_widths": [choice.candidates[0] for choice in space.choices],
        "argmax_depths": [stage[0] for stage in space.depths],
    }
    widths, stages, _ = shape_plots.draw_movement(space, [shape]).axes
    assert len(widths.images[0].get_array()) == len(space.choices)
    assert len(stages.images[0].get_array()) == len(space.depths)
