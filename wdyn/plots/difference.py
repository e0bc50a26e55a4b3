"""Where do two models differ? The change of each role in each layer, relative to its norm."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from wdyn import schema
from wdyn.analysis.difference import everything, summed
from wdyn.plots.canvas import new_figure, say, style, titled
from wdyn.plots.role_map import MOST_BARS, bars, grid, logarithmic, role_map

_WHAT = "change / norm of a"


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw the relative change as a map of role and layer; without blocks, of the parameters that changed most.

    Parameters
    ----------
    result
        What `wdyn.diff` measured, over ``parameter``.
    ax
        Where to draw; by default in a figure of its own.
    """
    counted = result.isel({schema.PARAMETER: np.flatnonzero(result["counted"].values)})
    inside = counted.isel({schema.PARAMETER: np.flatnonzero(counted["layer"].values != schema.NO_LAYER)})
    with style():
        if inside.sizes[schema.PARAMETER]:
            target = ax or new_figure(1.2 + 0.3 * max(4, len(grid(inside).roles))).subplots()
            _map(target, inside)
        else:
            target = ax or new_figure(1.2 + 0.3 * min(MOST_BARS, max(4, counted.sizes[schema.PARAMETER]))).subplots()
            bars(target, counted["relative"], what=_WHAT)
        return titled(target, _answer(result), own=ax is None)


def _answer(result: xr.Dataset) -> str:
    sums = everything(result)
    if not sums["changed"]:
        return "Nothing changed"
    struck = int((result["counted"] & result["change"].isnull()).sum())
    whole = (
        f"NaN in {struck} parameter{'s' * (struck > 1)}" if struck else f"Changed by {sums['relative']:.2g} of its norm"
    )
    by_role = summed(result, by="role")
    finite = np.where(np.isfinite(by_role["relative"].values), by_role["relative"].values, -1.0)
    if finite.max() <= 0:
        return whole
    most = str(by_role["role"].values[finite.argmax()])
    return f"{whole}; the most by role: {most}, by {float(finite.max()):.2g}"


def _map(ax: Axes, inside: xr.Dataset) -> None:
    where = grid(inside)
    there = where.total(np.ones(inside.sizes[schema.PARAMETER])).values > 0
    change, norm = (where.total(inside[name].values ** 2) for name in ("change", "norm_a"))
    values = ((change / norm) ** 0.5).where(change != 0, 0.0).where(there)
    scale = logarithmic(values.values)
    looks = {
        "grey: unchanged": there & (values.values == 0),
        "hatched: nothing there": ~there,
        "red: NaN": there & np.isnan(values.values),
        "dotted: was zero": there & np.isinf(values.values),
    }
    if scale is None and not np.isnan(values.values[there]).any():
        say(ax, "No weight in a block changed.")
        return
    role_map(ax, values, scale=scale or LogNorm(1e-3, 1e-2), what=_WHAT, looks=looks)
