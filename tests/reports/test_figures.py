"""Do figures arrive whole, and in words too?"""

import base64
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from wdyn.reports.figures import SVG_LIMIT, picture, words


@pytest.fixture
def draw(monkeypatch):
    def with_points(count, labels=("a", "b")):
        figure = Figure(figsize=(5, 4))
        axes = figure.subplots()
        axes.scatter(np.linspace(0, 1, count), np.linspace(0, 1, count))
        axes.set_yticks([0, 1], labels)
        axes.set_title("One \u202ename\nand <script>")
        monkeypatch.setattr("wdyn.reports.figures.plot", lambda result: figure)
        return figure

    return with_points


def content(address, kind):
    head = f"data:{kind};base64,"
    assert address.startswith(head)
    return base64.b64decode(address.removeprefix(head), validate=True)


def test_picture__is_an_svg_that_parses_when_it_is_small(draw):
    draw(10)
    drawn = picture(xr.Dataset())
    svg = content(drawn.address, "image/svg+xml")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert b"<script" not in svg
    assert drawn.width == 600


def test_picture__is_a_png_when_it_is_dense(draw):
    draw(20_000)
    png = content(picture(xr.Dataset()).address, "image/png")
    assert png.startswith(b"\x89PNG")
    assert len(png) < SVG_LIMIT


def test_picture__turns_no_text_around(draw):
    figure = draw(2, labels=("\u202eevil", "b"))
    drawn = picture(xr.Dataset())
    assert drawn.title == r"One \u202ename and <script>"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [r"\u202eevil", "b"]


def test_picture__takes_a_name_that_the_font_lacks(draw):
    draw(2, labels=("层", "\U0001f600"))
    assert picture(xr.Dataset()).address.startswith("data:image/svg+xml")


def test_words__name_titles_and_axes_once():
    figure = Figure()
    for axes, title in zip(figure.subplots(1, 3), ("q", "k", "k"), strict=True):
        axes.set(title=title, xlabel="step", ylabel="std")
    figure.suptitle("Layers widen")
    assert words(figure) == "Layers widen. q. k (axes: step, std)"


def test_words__show_a_dollar_that_was_kept_from_being_a_formula():
    figure = Figure()
    figure.suptitle(r"a\$b")
    assert words(figure) == "a$b"


def test_words__do_without_titles_or_axes():
    figure = Figure()
    assert words(figure) == ""
    figure.suptitle("Alone")
    assert words(figure) == "Alone"
