"""Curves of a run and comparisons of networks: what they say is what the records say."""

import re

import pytest
from pictures import RECORDS, texts

from tas_tf.reports import canvas, curve_plots
from tas_tf.spaces.cost import parse_targets
from tas_tf.spaces.search_space import SearchSpace


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
    assert len({line.get_marker() for line in figure.axes[0].lines}) == 5
    dashes = set(re.findall(r"stroke-dasharray: ([^;]+)", canvas.svg(figure, "trainings")))
    assert len(dashes) == 4  # and the first line has none


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
