"""What stands in each cell of a map? Kept beside the drawing, for a page on which one can point at it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from wdyn import schema

_PIXELS = 400
"""Columns of a map beyond which several would fall together."""


@dataclass(frozen=True)
class Row:
    """What a row of a map is of; `layer` is ``None`` where the columns are layers."""

    label: str
    role: str = ""
    stack: str = ""
    layer: int | None = None


class Cells(Artist):
    """Rows, columns and values of a map in an axes; draws nothing.

    Attributes
    ----------
    values
        (row, column), in the unit that `what` names.
    rows
        What each row is of, from the top.
    columns, over
        The number of each column, and of what: ``step`` or ``layer``.
    edges
        Borders of the columns and of the rows in the axes' own units: one more than there are of each.
    what
        What the values are.
    """

    def __init__(
        self,
        values: npt.NDArray[Any],
        *,
        rows: Sequence[Row],
        columns: Sequence[int],
        over: str,
        what: str,
        edges: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    ) -> None:
        super().__init__()
        self.values, self.rows, self.columns, self.over, self.what = values, tuple(rows), tuple(columns), over, what
        self.edges = edges
        self.set_in_layout(False)


def tell_roles(ax: Axes, table: xr.DataArray, *, what: str) -> None:
    """Say what the cells of a map (role, layer) hold whose cells are squares of length 1."""
    table = table.transpose("role", schema.LAYER)
    edges = np.arange(table.shape[1] + 1), np.arange(table.shape[0] + 1)
    rows = [_of_role(str(label)) for label in table["role"].values.tolist()]
    layers = table[schema.LAYER].values.tolist()
    ax.add_artist(Cells(table.values, rows=rows, columns=layers, over=schema.LAYER, what=what, edges=edges))


def tell_steps(
    ax: Axes,
    values: npt.NDArray[Any],
    *,
    rows: Iterable[Row],
    steps: npt.NDArray[Any],
    what: str,
    borders: npt.NDArray[Any] | None = None,
) -> None:
    """Say what the cells of a map (row, step) hold; without `borders`, rows have a height of 1 each from 0 on."""
    edges = edges_between(steps), np.arange(len(values) + 1) if borders is None else borders
    told = Cells(values, rows=list(rows), columns=steps.tolist(), over=schema.STEP, what=what, edges=edges)
    ax.add_artist(told)


def narrowed(shown: xr.Dataset) -> tuple[xr.Dataset, int]:
    """Keep as many columns (step) as a map has pixels: of rows that fall together the largest values, and how many."""
    rows = shown.sizes[schema.STEP]
    width = max(1, math.ceil(rows / _PIXELS))
    if width == 1:
        return shown, 1
    first = np.arange(0, rows, width)
    told = np.minimum(first + width // 2, rows - 1)
    told[0], told[-1] = 0, rows - 1  # the map still reaches from the first row to the last
    # fmax passes over NaN where a number stands beside it: these are maps of what was seen.
    largest = {
        name: (values.dims, np.fmax.reduceat(values.values, first, axis=values.get_axis_num(schema.STEP)))
        for name, values in shown.items()
    }
    return shown.isel({schema.STEP: told}).assign(largest), width


def edges_between(middles: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Give the borders of cells, one more than there are, whose middles need not be evenly spaced."""
    between = (middles[1:] + middles[:-1]) / 2
    first = middles[0] - (between[0] - middles[0] if between.size else 0.5)
    last = middles[-1] + (middles[-1] - between[-1] if between.size else 0.5)
    return np.concatenate([[first], between, [last]])


def _of_role(label: str) -> Row:
    # Of several towers a row is called "encoder q"; no role has a blank in its name.
    stack, _, role = label.rpartition(" ")
    return Row(label, role, stack)
