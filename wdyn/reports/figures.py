"""How does a figure travel inside a page?

As an image in a data address: no script runs there, no name in it can become markup of the page, and the identifiers
of two drawings never meet.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text

from wdyn import schema
from wdyn.analysis.analyzer import TOGETHER
from wdyn.plots.dispatch import plot
from wdyn.reports.escaping import visible
from wdyn.reports.pointing import Map, maps

SVG_LIMIT = 200_000
"""Bytes beyond which points drawn one by one cost more than a picture of them."""

_POINTS = 12_000
"""Points beyond which it is not tried: they would be written, and thrown away."""

_CORNERS = 4
"""Of a cell of a map."""

_DPI = 160
_CSS_PIXELS = 120
"""In one inch, so that words of 10 points are as large as those around the figure."""

_TITLE_LINE = 0.2  # inches


@dataclass(frozen=True)
class Picture:
    """An image, and what it says.

    Attributes
    ----------
    address
        The whole image as a ``data:`` address.
    title
        What it shows, in words, for those who do not see it.
    width, height
        How large it wants to be, in CSS pixels.
    answer
        What stood above it: the page says it in its own words, not in the picture.
    maps
        What stands in the cells of its maps.
    """

    address: str
    title: str
    width: int
    height: int
    answer: str = ""
    maps: tuple[Map, ...] = ()


def pictures(result: xr.Dataset) -> tuple[Picture, ...]:
    """Draw a result; of several joined runs each on its own."""
    if schema.RUN not in result.dims or TOGETHER in result.attrs:
        return (picture(result),)
    return tuple(picture(result.sel({schema.RUN: label})) for label in result[schema.RUN].values)


def picture(result: xr.Dataset) -> Picture:
    """Draw a result."""
    return framed(plot(result))


def framed(figure: Figure) -> Picture:
    """Make an image of a figure, small as SVG or dense as PNG; its title leaves it, for the page to say."""
    _make_visible(figure)
    said, answer = words(figure), " ".join(_distinct([figure.get_suptitle()]))
    if answer:
        _take_title(figure)
    _lay_out(figure)
    address = _address(figure)
    width, height = (round(inches * _CSS_PIXELS) for inches in figure.get_size_inches())
    return Picture(address, said, width, height, answer, maps(figure))


def words(figure: Figure) -> str:
    """Say what a figure shows, for those who do not see it: its titles, then its axes."""
    titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
    labels = [label for axes in figure.axes for label in (axes.get_xlabel(), axes.get_ylabel())]
    said = [". ".join(_distinct(titles)), ", ".join(_distinct(labels))]
    return " (axes: ".join(filter(None, said)) + (")" if said[1] and said[0] else "")


def _take_title(figure: Figure) -> None:
    """Remove the title, and the room that it took."""
    lines = figure.get_suptitle().count("\n") + 1
    figure.suptitle("")
    figure.set_figheight(figure.get_figheight() - _TITLE_LINE * lines)


def _lay_out(figure: Figure) -> None:
    """Give everything its place, once: each form of the image would otherwise do so anew, twice."""
    with _any_script():
        figure.draw_without_rendering()
    figure.set_layout_engine(None)


def _make_visible(figure: Figure) -> None:
    """Rid every word of characters that hide or turn text around."""
    for text in figure.findobj(Text):
        text.set_text(_lines(text.get_text()))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        # Written anew each time it is drawn, so that changing the words themselves would not last.
        if labels != (shown := [_lines(label) for label in labels]):
            axis.set_ticks(axis.get_ticklocs(), shown)


def _lines(text: str) -> str:
    return "\n".join(visible(line) for line in text.split("\n"))


def _distinct(texts: list[str]) -> list[str]:
    return [" ".join(text.replace(r"\$", "$").split()) for text in dict.fromkeys(texts) if text.strip()]


def _address(figure: Figure) -> str:
    if _points(figure) <= _POINTS:
        # A fixed salt and no date: the same run gives the same bytes.
        with rc_context({"svg.hashsalt": "wdyn"}):
            svg = _draw(figure, "svg", metadata={"Date": None})
        if len(svg) <= SVG_LIMIT:
            return _encode("image/svg+xml", svg)
    return _encode("image/png", _draw(figure, "png", dpi=_DPI))


def _points(figure: Figure) -> int:
    """Count what would be written one by one, before anything is."""
    count = sum(np.size(line.get_xdata()) for axes in figure.axes for line in axes.lines)
    for held in (held for axes in figure.axes for held in axes.collections):
        if isinstance(held, PathCollection):
            count += np.size(held.get_offsets()) // 2
        elif isinstance(held, PolyCollection):
            count += sum(np.size(path.vertices) // 2 for path in held.get_paths())
        elif isinstance(held, QuadMesh) and not held.get_rasterized():
            cells = held.get_array()
            count += 0 if cells is None else _CORNERS * cells.size
    return count


def _draw(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with _any_script():
        figure.savefig(buffer, format=kind, facecolor="white", **options)
    return buffer.getvalue()


@contextmanager
def _any_script() -> Iterator[None]:
    """Take a name in a script that the font lacks: it is boxes in a figure, and whole in the tables below it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _encode(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
