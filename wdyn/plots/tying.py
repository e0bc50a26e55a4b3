"""Which names share one weight, and when? A line of time for each pair."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from wdyn import schema
from wdyn.plots.canvas import new_figure, plain, say, short, style, titled
from wdyn.plots.palette import BAD, GOOD, ODD

_MOST = 16  # pairs that fit one figure
_SQUARES = 200
_STATES = {"shared": ("one weight", GOOD), "equal": ("equal values only", ODD), "apart": ("apart", BAD)}


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw for each pair of names, step by step, whether they are one weight, equal, or apart."""
    with style():
        pairs = min(_MOST, result.sizes["pair"])
        target = ax or new_figure(1.5 + 0.5 * max(1, pairs)).subplots()
        if pairs:
            _lines(target, result.isel(pair=slice(_MOST)))
        else:
            say(target, "Every name has a weight of its own.")
        return titled(target, answer(result), own=ax is None)


def answer(result: xr.Dataset) -> str:
    """Say in words whether the ties held."""
    broke = result["broke_at"].notnull()
    tied = (result["shared"] == 1).any(schema.STEP)
    if broke.any():
        first = result.isel(pair=int(broke.argmax("pair")))
        step = int(first["broke_at"])
        return f"The tie of {short(first['name'].item())} to {short(first['partner'].item())} broke at step {step}"
    if not tied.any():
        return "No two names share one weight" + (", though some are equal" if result.sizes["pair"] else "")
    if result["appeared_at"].notnull().any():
        return "A tie appeared while training"
    if int(tied.sum()) == 1:
        first = result.isel(pair=int(tied.argmax("pair")))
        return f"{short(first['name'].item())} and {short(first['partner'].item())} stayed one weight"
    return f"{int(tied.sum())} pairs of names stayed one weight"


def _lines(ax: Axes, result: xr.Dataset) -> None:
    steps = result[schema.STEP].values
    for row in range(result.sizes["pair"]):
        states = _states(result.isel(pair=row))
        ends = [0, *(np.flatnonzero(states[1:] != states[:-1]) + 1).tolist(), len(states)]
        kept = _few(states, ends)
        for state, (_, colour) in _STATES.items():
            at = steps[kept & (states == state)]
            ax.scatter(at, np.full(at.size, row), color=colour, s=26, marker="s", zorder=3)
        for first, behind in pairwise(ends):
            if behind - first > 1 and (state := states[first]) in ("shared", "equal"):
                reach = steps[[first, behind - 1]]
                ax.plot(reach, [row, row], color=_STATES[state][1], linewidth=5, solid_capstyle="butt", zorder=2)
    labels = [
        plain(f"{short(n)}\n= {short(p)}") for n, p in zip(result["name"].values, result["partner"].values, strict=True)
    ]
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    keys = [Line2D([], [], color=colour, marker="s", linestyle="", label=text) for text, colour in _STATES.values()]
    ax.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, frameon=False, borderpad=0)
    sns.despine(ax=ax)


def _few(states: np.ndarray, ends: list[int]) -> np.ndarray:
    """Choose the rows that have a square of their own: at all of them, many would lie in one place."""
    kept: np.ndarray = np.arange(len(states)) % max(1, len(states) // _SQUARES) == 0
    kept[ends[:-1]] = kept[np.array(ends[1:]) - 1] = True
    return kept


def _states(one: xr.Dataset) -> np.ndarray:
    """Name the state of a pair at each step; "" where nothing was recorded."""
    shared, equal = one["shared"].values, one["equal"].values
    told = np.where(equal == 1, "equal", np.where((shared == 0) | (equal == 0), "apart", ""))
    return np.where(shared == 1, "shared", told)
