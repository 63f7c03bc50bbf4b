"""Pictures: what they say is what the data say, and they stand on a page of any colour."""

import collections
import re
import xml.etree.ElementTree

import numpy as np
import pytest
import spaces
from hypothesis import given, settings

from tas_tf.reports import canvas, curve_plots, shape_plots
from tas_tf.spaces.cost import parse_targets
from tas_tf.spaces.search_space import SearchSpace

NETWORKS = [(20, "cifar_resnet"), (110, "cifar_resnet"), (164, "cifar_resnet")]
NETWORKS += [(18, "imagenet_resnet"), (50, "imagenet_resnet")]
RECORDS = [
    {
        "epoch": epoch,
        "loss": 2 / epoch,
        "accuracy": 1 - 1 / epoch,
        "architecture_loss": 3 / epoch,
        "architecture_accuracy": 0.9 - 1 / epoch,
        "expected_macs_ratio": 0.7 - epoch / 100,
        "argmax_macs_ratio": 0.8 - epoch / 100,
        "temperature": 10 / epoch,
        "width_entropy": 1 - epoch / 50,
    }
    for epoch in range(1, 21)
]


def some_architecture(space, seed=0):
    random = np.random.default_rng(seed)
    return space.architecture(
        [random.integers(len(choice.candidates)) for choice in space.choices],
        [random.integers(len(stage)) for stage in space.depths],
    )


def uniform(space):
    sizes = [[len(choice.candidates) for choice in space.choices], [len(d) for d in space.depths]]
    return [
        np.array([[1 / n if k < n else 0 for k in range(max(counts))] for n in counts])
        for counts in sizes
    ]


def texts(figure) -> list[str]:
    """The texts of a picture, as a reader of its SVG finds them."""
    root = xml.etree.ElementTree.fromstring(canvas.svg(figure, "picture"))
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


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


def test_cost_is_drawn_against_the_band():
    (budget,) = parse_targets(0.5, SearchSpace.resnet(20), 0.1)
    (ax,) = curve_plots.draw_cost(RECORDS, budget).axes
    assert [*ax.patches[0].get_extents().transformed(ax.transData.inverted()).intervaly] == [
        pytest.approx(0.45),
        pytest.approx(0.55),
    ]
    drawn = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert drawn["expected"] == [record["expected_macs_ratio"] for record in RECORDS]
    assert drawn["most probable"] == [record["argmax_macs_ratio"] for record in RECORDS]


def test_lines_differ_in_more_than_colour():
    figure = curve_plots.draw_trainings({name: RECORDS for name in "abcde"})
    looks = {(line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines}
    dashes = {str(line._unscaled_dash_pattern) for line in figure.axes[0].lines}
    assert len({marker for _, marker in looks}) == len(dashes) == 5


def test_runs_without_any_record_of_a_kind_can_be_drawn():
    figures = [
        draw([{"epoch": 1}]) for draw in (curve_plots.draw_losses, curve_plots.draw_decision)
    ]
    figures.append(curve_plots.draw_trainings({"one": [{"epoch": 1}]}))
    assert [len(figure.axes) for figure in figures] == [2, 2, 1]
    for figure in figures:
        assert not any(ax.lines for ax in figure.axes)
        assert canvas.image(figure).any()


def test_comparison_holds_every_network():
    points = [("a", "unpruned", 4e7, 0.8), ("a", "derived", 2e7, 0.7), ("b$_{", "other", 2e6, 0.6)]
    shown = texts(curve_plots.draw_comparison(points, [("ResNet-20", 22.4e6, 0.93)]))
    for text in ("1  a", "2  b$_{", "unpruned", "derived", "other", "published", "ResNet-20"):
        assert any(text.split() == each.split() for each in shown), (text, shown)


def test_themed_picture_has_no_colour_or_size_of_its_own():
    space = SearchSpace.resnet(20)
    figure = shape_plots.draw_distributions(space, *uniform(space), some_architecture(space))
    themed, plain = canvas.svg(figure, "a", themed=True), canvas.svg(figure, "b")
    for colour, name in canvas.VARIABLES.items():
        assert colour not in themed
        assert f"var(--{name})" not in plain
    assert "var(--ink)" in themed
    assert "<style" not in themed
    assert not re.search(r"<svg[^>]* (width|height)=", themed)
    assert canvas.PAPER in plain
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (themed, plain)]
    assert not ids[0] & ids[1]
    xml.etree.ElementTree.fromstring(themed)


def test_picture_is_the_same_every_time():
    pictures = [canvas.svg(curve_plots.draw_losses(RECORDS), "losses") for _ in range(2)]
    assert pictures[0] == pictures[1]


def test_pixels():
    figure = curve_plots.draw_losses(RECORDS)
    pixels = canvas.image(figure)
    assert pixels.dtype == np.uint8 and pixels.shape[1:] == (720, 3)
    assert (pixels[0, 0] == 255).all() and pixels.min() < 50
    assert canvas.png(figure).startswith(b"\x89PNG")
