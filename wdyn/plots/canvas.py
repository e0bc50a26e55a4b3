"""What is a figure drawn on? One of its own, known to no window system, with words that fit."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

WIDTH = 6.4
"""Inches. Read at 360 px on a telephone, 11 points are still 6 there."""

_PIECES = 400  # more than a panel has pixels
_ABOVE_LEGEND = 24  # points
_CHARACTERS = 9.2  # of a bold title of 12 points in one inch


@contextmanager
def style() -> Iterator[None]:
    """Use the project's look for what is drawn inside, and nothing outside."""
    look: dict[Any, Any] = sns.axes_style("ticks", {"axes.grid": True, "grid.color": "0.92"}) | sns.plotting_context(
        "notebook"
    )
    small: dict[Any, Any] = {
        "font.size": 10,
        "axes.labelsize": 10,
        "axes.titlesize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
    }
    with rc_context(look | small):
        yield


def new_figure(height: float) -> Figure:
    """Make a figure that pyplot does not know of, so that nothing has to close it."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)  # seaborn draws to measure labels; without a canvas it would ask pyplot for one
    return figure


@contextmanager
def resting(figure: Figure) -> Iterator[None]:
    """Draw nothing meanwhile: seaborn draws a whole figure to measure the labels of one of its axes."""
    figure.set_visible(False)
    try:
        yield
    finally:
        figure.set_visible(True)


def figure_of(ax: Axes) -> Figure:
    """Give the figure that an axes stands in, below any subfigures."""
    held = ax.get_figure()
    while isinstance(held, SubFigure):
        held = held.figure
    assert isinstance(held, Figure)
    return held


def title(figure: Figure, text: str) -> None:
    """Say the answer above the figure, wrapped to its width."""
    lines = textwrap.wrap(plain(text), int(figure.get_figwidth() * _CHARACTERS))
    figure.suptitle("\n".join(lines), fontsize=12, fontweight="bold", x=0.01, ha="left")


def axes_title(ax: Axes, text: str) -> None:
    """Say the answer above an axes that somebody else laid out."""
    figure = figure_of(ax)
    inches = ax.get_position().width * figure.get_figwidth()
    legend = ax.get_legend()
    stands_above = legend is not None and legend.get_bbox_to_anchor().y0 >= ax.bbox.y1 - 1
    lines = textwrap.wrap(plain(text), max(20, int(inches * _CHARACTERS)))
    ax.set_title("\n".join(lines), loc="left", pad=_ABOVE_LEGEND if stands_above else None)


def titled(target: Axes, text: str, *, own: bool) -> Figure:
    """Say the answer above one axes: above its whole figure where that is our `own`; give the figure."""
    figure = figure_of(target)
    if own:
        title(figure, text)
    else:
        axes_title(target, text)
    return figure


def plain(text: str) -> str:
    """Keep a dollar in a name from being read as the beginning of a formula."""
    return text.replace("$", r"\$")


def short(name: str, length: int = 30) -> str:
    """Cut the middle out of a long name: its ends tell most."""
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f"{name[:head]}…{name[head + 1 - length :]}"


def thinned(line: xr.DataArray) -> xr.DataArray:
    """Keep of a long line (step,) the lowest and the highest point of each piece: to the eye it is the same line."""
    width = math.ceil(line.size / _PIECES)
    if width < 4:
        return line
    values = np.pad(line.values, (0, -line.size % width), mode="edge").reshape(-1, width)
    starts = np.arange(len(values)) * width
    kept = np.concatenate([[0, line.size - 1], starts + values.argmin(axis=1), starts + values.argmax(axis=1)])
    return line[np.unique(np.minimum(kept, line.size - 1))]


def say(ax: Axes, text: str) -> None:
    """Write a sentence where there is nothing to draw."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, "\n".join(textwrap.wrap(plain(text), 50)), ha="center", va="center", transform=ax.transAxes)
