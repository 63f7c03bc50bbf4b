"""Pictures of a measured search: they say what the terms and the scores say."""

import numpy as np
import pytest
import spaces
from hypothesis import given, settings
from pictures import some_architecture, texts

from tas_tf.reports import canvas, measurement_plots
from tas_tf.reports.shape_plots import taken_widths
from tas_tf.spaces import expected_cost
from tas_tf.spaces.cost import parse_targets
from tas_tf.spaces.search_space import SearchSpace


def terms_of(space, seed=0):
    """Terms and errors of widths and of depths, as a model of random numbers has them."""
    random = np.random.default_rng(seed)
    found = []
    for shape in expected_cost.table_shapes(space):
        found.append((random.normal(size=shape), random.uniform(0.1, 1, shape)))
    return found


def curves(figure):
    """Losses of every curve, in order."""
    lines = [line for ax in figure.axes for line in ax.lines]
    return [
        line.get_ydata() for line in lines if line.get_marker() != "o" and len(line.get_xdata()) > 1
    ]


def dots(figure):
    """Heights of the marks of what was chosen."""
    lines = [line for ax in figure.axes for line in ax.lines if line.get_marker() == "o"]
    return [float(line.get_ydata()[0]) for line in lines]


@settings(max_examples=15, deadline=None)
@given(space=spaces.small_spaces())
def test_every_searched_width_and_depth_has_its_curve_and_its_mark(space):
    widths, depths = terms_of(space)
    network = some_architecture(space)
    figures = measurement_plots.draw_worth(space, widths, depths, network)
    searched = [c for c, choice in enumerate(space.choices) if len(choice.candidates) > 1]
    stages = [s for s, candidates in enumerate(space.depths) if len(candidates) > 1]
    assert ("widths" in figures) == bool(searched)
    assert ("depths" in figures) == bool(stages)
    if searched:
        expected = [-widths[0][c, : len(space.choices[c].candidates)] for c in searched]
        received = curves(figures["widths"])
        assert sorted(map(tuple, received)) == sorted(map(tuple, expected))
        taken = taken_widths(space, network)
        marked = {
            -widths[0][c, space.choices[c].candidates.index(taken[c])]
            for c in searched
            if taken[c] is not None
        }
        assert set(dots(figures["widths"])) == marked
    if stages:
        expected = [-depths[0][s, : len(space.depths[s])] for s in stages]
        assert all(map(np.array_equal, curves(figures["depths"]), expected))
        kept = [space.depths[s].index(len(network.stages[s])) for s in stages]
        assert dots(figures["depths"]) == [
            -depths[0][s, k] for s, k in zip(stages, kept, strict=True)
        ]


def test_bands_have_two_standard_errors():
    space = SearchSpace.resnet(8, search="width")
    widths, depths = terms_of(space)
    figure = measurement_plots.draw_worth(space, widths, depths, space.unpruned())["widths"]
    (band, *_) = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    count = len(space.choices[0].candidates)
    losses, errors = -widths[0][0, :count], widths[1][0, :count]
    assert {*np.round([*(losses - 2 * errors), *(losses + 2 * errors)], 9)} == {
        *np.round(heights, 9)
    }


@pytest.mark.parametrize(
    ("depth", "family"), [(20, "cifar_resnet"), (110, "cifar_resnet"), (50, "imagenet_resnet")]
)
def test_layers_and_chosen_widths_can_be_read(depth, family):
    space = SearchSpace.resnet(depth, family=family)
    network = some_architecture(space)
    figure = measurement_plots.draw_worth(space, *terms_of(space), network)["widths"]
    shown = texts(figure)
    assert {"stem", "1.1", "stage 1", f"stage {len(space.depths)}", "chosen", "cut"} <= set(shown)
    assert {str(width) for width in taken_widths(space, network) if width} <= set(shown)
    assert figure.get_figheight() <= 9


def test_tied_and_frozen_widths_have_one_curve_or_none():
    space = SearchSpace.resnet(20, tie_streams=True, frozen=("stage3",), search="width")
    figures = measurement_plots.draw_worth(space, *terms_of(space), space.unpruned())
    searched = [choice for choice in space.choices if len(choice.candidates) > 1]
    assert len(curves(figures["widths"])) == len(searched) < 19
    assert "stage 3" not in texts(figures["widths"])
    assert "depths" not in figures


@pytest.mark.parametrize("value", [0.0, 1e17, -1e17])
def test_terms_without_a_difference_can_be_drawn(value):
    space = SearchSpace.resnet(8)
    terms = [
        (np.full(shape, value), np.zeros(shape)) for shape in expected_cost.table_shapes(space)
    ]
    for figure in measurement_plots.draw_worth(space, *terms, space.unpruned()).values():
        assert canvas.image(figure).any()


def test_loss_against_cost_marks_what_was_measured():
    (budget,) = parse_targets(0.5, SearchSpace.resnet(20), 0.1)
    networks = {
        "chosen": [(0.48, 1.0)],
        "other finalists": [(0.47, 1.1), (0.49, 1.2)],
        "uniform": [(0.5, 1.3)],
    }
    figure = measurement_plots.draw_loss_against_cost([(0.2, 2.0), (1.0, 0.9)], networks, budget)
    (ax,) = figure.axes
    drawn = {line.get_label(): list(map(tuple, line.get_xydata())) for line in ax.lines}
    assert drawn.pop("least expected") == [(0.2, 2.0), (1.0, 0.9)]
    assert drawn == {f"{name}, measured": points for name, points in networks.items()}
    assert len({line.get_marker() for line in ax.lines}) == 3
