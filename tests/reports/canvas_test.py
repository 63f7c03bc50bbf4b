"""Figures as SVG and as pixels: they stand on a page of any colour, and are the same every time."""

import re
import xml.etree.ElementTree

import numpy as np
from pictures import RECORDS, some_architecture, uniform

from tas_tf.reports import canvas, curve_plots, shape_plots
from tas_tf.spaces.search_space import SearchSpace


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
