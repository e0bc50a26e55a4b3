"""How far does each step move the weights? A map of layer and step for each role, and where the updates go."""

from __future__ import annotations

import math
import textwrap

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from wdyn import schema
from wdyn.analysis.skipping import REMEDY, SKIPPED
from wdyn.analysis.update_sizes_check import GUIDE, check
from wdyn.plots.canvas import new_figure, plain, style, thinned, title, titled
from wdyn.plots.cells import narrowed
from wdyn.plots.palette import INK, depth_map, depth_scale, layer_colours
from wdyn.plots.update_maps import height_of, one_map, small_maps

_MAPPED = ("update_ratio", "nonfinite")
_LINES = {
    "update_cosine": ("cosine with the update before", 0.0),
    "efficiency": ("displacement / path length", None),
    "decay_share": ("decay / whole update", None),
    "rotation_ratio": ("rotation / balance of AdamW", 1.0),
}
"""What is drawn over time, how its axis is called, and where a line stands for comparison."""


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw update ratios, a map of layer and step for each role, above where the updates of each layer go.

    With `ax` one map of all matrices. What was not recorded is named below, with the reason.
    """
    shown = result[[*_MAPPED, *_LINES]].isel({schema.PARAMETER: np.flatnonzero(_shown(result))})
    mapped, together = narrowed(shown[list(_MAPPED)])
    with style():
        if ax is not None:
            one_map(ax, mapped)
            return titled(ax, answer(result), own=False)
        drawn = [name for name in _LINES if (np.abs(shown[name]) > 0).any()]
        missing = _looks(mapped, together) + _missing(result)
        heights = [height_of(mapped), 1.7 * math.ceil(len(drawn) / 2), 0.2 * len(missing)]
        used = [height for height in heights if height]
        figure = new_figure(0.7 + sum(used))
        rows = iter(np.asarray(figure.subfigures(len(used), 1, squeeze=False, height_ratios=used)).flat)
        small_maps(next(rows), mapped)
        if drawn:
            _over_time(next(rows), shown, drawn)
        if missing:
            text = "\n".join(missing)
            next(rows).text(0.01, 0.5, plain(text), fontsize=8, color="0.35", va="center")
        title(figure, answer(result))
        return figure


def answer(result: xr.Dataset) -> str:
    """Say in words what is wrong with the updates, as the findings have it, or else how large they are."""
    found = {one.code: one.evidence for one in check(result)}
    if "UPD006" in found:
        bad = (result["nonfinite"] > 0).any(schema.PARAMETER).values
        return f"Updates hold NaN or infinity from step {result[schema.STEP].values[bad][0]}"
    if "UPD005" in found:
        return f"{_count(found['UPD005'], 'trainable weight')} got no update"
    if "UPD003" in found:
        most = float(found["UPD003"]["late_undone"].max())
        return f"Updates of {_count(found['UPD003'], 'weight')} take back up to {most:.0%} of the one before"
    return _of_sound_runs(result)


def _of_sound_runs(result: xr.Dataset) -> str:
    late = result["late_ratio"].where(result["matrix"] & (result["late_ratio"] > 0)).values
    late = late[np.isfinite(late)]
    if not late.size:
        return "How far a step moves the matrices cannot be told"
    low, high = f"{late.min():.2g}", f"{late.max():.2g}"
    reach = low if low == high else f"{low} to {high}"
    return f"Each step moves the matrices by {reach} of their norm (usual is about {GUIDE:g})"


def _count(evidence: xr.Dataset, noun: str) -> str:
    number = evidence.sizes[schema.PARAMETER]
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _shown(result: xr.Dataset) -> np.ndarray:
    """Choose the matrices; everything, where there is none."""
    matrix = result["matrix"].values
    return np.asarray(matrix if matrix.any() else np.ones_like(matrix))


def _over_time(figure: SubFigure, shown: xr.Dataset, drawn: list[str]) -> None:
    columns = min(2, len(drawn))
    axes = figure.subplots(math.ceil(len(drawn) / columns), columns, squeeze=False)
    for number, ax in enumerate(axes.flat):
        if number >= len(drawn):
            ax.set_axis_off()
            continue
        label, guide = _LINES[drawn[number]]
        if guide is not None:
            ax.axhline(guide, color="0.6", linewidth=1, linestyle="--")
        _lines(ax, shown[drawn[number]])
        _reach_of(ax, drawn[number])
        ax.set_title(label, loc="left", pad=4)
        ax.set_xlabel("step")
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        sns.despine(ax=ax)
    if (shown["layer"] >= 0).any():
        layers = shown["layer"].values.tolist()
        scale = ScalarMappable(depth_scale(layers), depth_map())
        bar = figure.colorbar(scale, ax=axes.ravel().tolist(), aspect=25, pad=0.01)
        bar.set_label("layer")
        bar.locator = MaxNLocator(4, integer=True)
        bar.update_ticks()


def _reach_of(ax: Axes, name: str) -> None:
    """Begin shares at 0; a ratio that falls through decades, as at first steps, has an axis of decades."""
    low, high = ax.dataLim.intervaly
    if name in ("efficiency", "decay_share"):
        ax.set_ylim(0, 1.08 * high)
    if name == "rotation_ratio" and 0 < 10 * low < high:
        ax.set_yscale("log")
    else:
        ax.yaxis.set_major_locator(MaxNLocator(4))


def _lines(ax: Axes, values: xr.DataArray) -> None:
    """Draw the median of the matrices of each layer, and of those outside blocks."""
    layers = values["layer"].values
    colours = {-1: INK, **layer_colours(sorted(set(layers.tolist())))}
    for layer, colour in colours.items():
        of_layer = values.isel({schema.PARAMETER: np.flatnonzero(layers == layer)})
        line = thinned(of_layer.median(schema.PARAMETER).dropna(schema.STEP))
        if line.size:
            marker = "." if line.size < 12 else ""
            ax.plot(line[schema.STEP], line, color=colour, linewidth=1.1, marker=marker, markersize=4)


def _looks(shown: xr.Dataset, together: int) -> list[str]:
    """Say what grey and red stand for, where they are, and of how many rows a cell shows the largest update."""
    bad = (shown["nonfinite"] > 0).any()
    nothing = ((shown["update_ratio"] == 0) | shown["update_ratio"].isnull()) & ~(shown["nonfinite"] > 0)
    outside = bool((shown["layer"] < 0).any())
    looks = (
        ("Colourless lines: outside blocks.", outside and bool((shown["layer"] >= 0).any())),
        ("Grey: did not move, or was not recorded.", bool(nothing.any())),
        ("Red: NaN or infinite.", bool(bad)),
        (f"Each cell: the largest of {together} rows.", together > 1),
    )
    text = " ".join(text for text, seen in looks if seen)
    return [text] if text else []


def _missing(result: xr.Dataset) -> list[str]:
    """Say what is not drawn, and why."""
    lines = []
    for name, (label, _) in _LINES.items():
        about = result[name].attrs
        if SKIPPED in about:
            lines += textwrap.wrap(f"Not drawn, {label}: {about[SKIPPED]} ({about[REMEDY]})", 95)
    return lines
