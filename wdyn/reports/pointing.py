"""What can one point at on a page: the cells of a map and where they are, and the shapes behind ridges."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from markupsafe import Markup
from matplotlib.figure import Figure

from wdyn import schema
from wdyn.analysis.analyzer import ANALYZER
from wdyn.plots.cells import Cells
from wdyn.plots.distribution import shapes
from wdyn.reports.escaping import visible

_MOST = 40_000
"""Cells of one figure that a page holds: of longer runs every so many steps."""

_FEWEST = 20  # steps, however many rows there are
_STEPS = 40  # of a distribution
_DIGITS = 3


@dataclass(frozen=True)
class Map:
    """The cells of one map, and where they stand in the image of its figure.

    Attributes
    ----------
    x, y
        Borders of the columns and of the rows, as shares of the width and of the height from the upper left.
    rows
        ``label role stack layer`` of each row; the layer is None where the columns are layers.
    columns, over
        The number of each column, and of what: ``step`` or ``layer``.
    values
        (row, column); None where it is NaN or infinite.
    what
        What the values are.
    """

    x: list[float]
    y: list[float]
    rows: list[dict[str, Any]]
    columns: list[int]
    over: str
    values: list[list[float | None]]
    what: str


def maps(figure: Figure) -> tuple[Map, ...]:
    """Tell of every map of a figure that was drawn: before, nothing has its place."""
    told = [one for one in figure.findobj(Cells) if isinstance(one, Cells) and one.values.size]
    rows = sum(len(one.rows) for one in told)
    return tuple(_map(figure, one, most=max(_FEWEST, _MOST // max(rows, 1))) for one in told)


def shapes_of(result: xr.Dataset) -> list[dict[str, Any]]:
    """Give the shapes of distributions for a slider over steps; none for any other result, or for several runs."""
    if result.attrs.get(ANALYZER) != "distribution" or schema.RUN in result.dims:
        return []
    return [
        one | {"label": visible(one["label"]), "steps": one["steps"].tolist()}
        | {"x": _short(one["x"]), "y": [_short(heights) for heights in one["y"]]}
        for one in shapes(result, most=_STEPS)
    ]  # fmt: skip


def embedded(content: Any) -> Markup:
    """Write data to stand in a page: no sign in it can end the element that it stands in."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    # The text is JSON as before: within its strings, the only place where it has them, these are escapes.
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def embedded_maps(told: tuple[Map, ...]) -> Markup:
    """Write the maps of a figure to stand beside it."""
    return embedded([asdict(one) for one in told])


def _map(figure: Figure, one: Cells, *, most: int) -> Map:
    kept = np.unique(np.linspace(0, len(one.columns) - 1, min(most, len(one.columns))).round().astype(int))
    x, y = one.edges
    # A column that is kept reaches to the middle of the gap to the next one.
    between = x[np.concatenate([[0], (kept[1:] + kept[:-1] + 1) // 2, [len(one.columns)]])]
    across, down = _placed(figure, one, between, y)
    rows = [asdict(row) | {"label": visible(row.label), "role": visible(row.role)} for row in one.rows]
    columns = [int(one.columns[at]) for at in kept]
    return Map(across, down, rows, columns, one.over, [_short(row) for row in one.values[:, kept]], one.what)


def _placed(figure: Figure, one: Cells, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> tuple[list[float], list[float]]:
    """Give borders as shares of the image."""
    assert one.axes is not None
    move = one.axes.transData + figure.transFigure.inverted()
    across = move.transform(np.column_stack([x, np.full(len(x), y[0])]))[:, 0]
    down = 1 - move.transform(np.column_stack([np.full(len(y), x[0]), y]))[:, 1]
    return across.round(5).tolist(), down.round(5).tolist()


def _short(values: npt.NDArray[Any]) -> list[float | None]:
    return [float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None for value in values.tolist()]
