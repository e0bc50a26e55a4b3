"""Where do two models differ? The change of each role in each layer, relative to its norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from wdyn import schema
from wdyn.analysis.difference import everything, summed
from wdyn.plots.canvas import new_figure, plain, say, short, style, title
from wdyn.plots.palette import BAD, GOOD

_ANNOTATED = 12  # layers up to which the numbers fit in the cells
_MOST = 12  # parameters outside blocks that fit


def plot(result: xr.Dataset) -> Figure:
    """Draw the relative change as a map of role and layer; without blocks, of the parameters that changed most.

    Parameters
    ----------
    result
        What `wdyn.diff` measured, over ``parameter``.
    """
    counted = result.isel({schema.PARAMETER: np.flatnonzero(result["counted"].values)})
    inside = counted.isel({schema.PARAMETER: np.flatnonzero(counted["layer"].values != schema.NO_LAYER)})
    with style():
        if inside.sizes[schema.PARAMETER]:
            rows = list(dict.fromkeys(_rows(inside)))
            figure = new_figure(1.2 + 0.3 * max(4, len(rows)))
            _map(figure.subplots(), inside, rows)
        else:
            figure = new_figure(1.2 + 0.3 * min(_MOST, max(4, counted.sizes[schema.PARAMETER])))
            _bars(figure.subplots(), counted)
        title(figure, _answer(result))
        return figure


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


def _rows(inside: xr.Dataset) -> list[str]:
    several = len(set(inside["stack"].values.tolist())) > 1
    pairs = zip(inside["stack"].values.tolist(), inside["role"].values.tolist(), strict=True)
    return [f"{stack} {role}" if several else str(role) for stack, role in pairs]


def _map(ax: Axes, inside: xr.Dataset, rows: list[str]) -> None:
    layers = sorted(set(inside["layer"].values.tolist()))
    values, there = _cells(inside, rows, layers)
    moved = values[np.isfinite(values) & (values > 0)]
    if not (moved.size or np.isnan(values[there]).any()):
        say(ax, "No weight in a block changed.")
        return
    low, high = (float(moved.min()), float(moved.max())) if moved.size else (1e-3, 1e-2)
    few = len(layers) <= _ANNOTATED
    sns.heatmap(
        np.where(np.isfinite(values) & (values > 0), values, np.nan),
        ax=ax,
        norm=LogNorm(low, max(high, 1.05 * low)),
        cmap="crest",
        annot=values if few else False,
        fmt=".2g",
        annot_kws={"size": 8},
        cbar_kws={"label": "change / norm of a", "pad": 0.01},
        xticklabels=False,
        yticklabels=[plain(row) for row in rows],
        linewidths=0.5 if few else 0,
    )
    every = max(1, math.ceil(len(layers) / _ANNOTATED))
    ax.set_xticks([at + 0.5 for at in range(0, len(layers), every)], [str(one) for one in layers[::every]], rotation=0)
    ax.tick_params(axis="y", rotation=0, length=0)
    told = _mark(ax, values, there)
    ax.set_xlabel("layer" + (f" ({', '.join(told)})" if told else ""))


def _cells(
    inside: xr.Dataset, rows: list[str], layers: list[int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Relative change (row, layer) of all that is there together, and whether anything is."""
    at = (np.array([rows.index(row) for row in _rows(inside)]), np.searchsorted(layers, inside["layer"].values))
    change, norm = np.zeros((len(rows), len(layers))), np.zeros((len(rows), len(layers)))
    there = np.zeros(change.shape, dtype=bool)
    np.add.at(change, at, inside["change"].values ** 2)
    np.add.at(norm, at, inside["norm_a"].values ** 2)
    there[at] = True
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(change == 0, 0.0, np.sqrt(change / norm)), there


def _mark(ax: Axes, values: npt.NDArray[np.float64], there: npt.NDArray[np.bool_]) -> list[str]:
    """Give cells without a finite change a look by what they are; say which looks there are."""
    looks: tuple[tuple[str, npt.NDArray[np.bool_], dict[str, Any]], ...] = (
        ("grey: unchanged", there & (values == 0), {"facecolor": "0.75"}),
        ("hatched: nothing there", ~there, {"facecolor": "white", "edgecolor": "0.85", "hatch": "////"}),
        ("red: NaN", there & np.isnan(values), {"facecolor": BAD}),
        ("dotted: was zero", there & np.isinf(values), {"facecolor": "white", "hatch": ".."}),
    )
    for _, cells, look in looks:
        for row, column in np.argwhere(cells):
            ax.add_patch(Rectangle((column, row), 1, 1, linewidth=0, zorder=1.5, **look))
    return [words for words, cells, _ in looks if cells.any()]


def _bars(ax: Axes, counted: xr.Dataset) -> None:
    shown = counted.sortby(counted["relative"].fillna(np.inf), ascending=False).isel({schema.PARAMETER: slice(_MOST)})
    values = shown["relative"].values
    names = [plain(short(str(name))) for name in shown[schema.PARAMETER].values]
    labels = [f"{name} (NaN)" if np.isnan(one) else name for name, one in zip(names, values, strict=True)]
    ax.barh(range(len(labels)), np.where(np.isfinite(values), values, 0.0), color=GOOD, height=0.6)
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.set_xlabel("change / norm of a")
    sns.despine(ax=ax)
