"""How far does each step move each matrix? A map of layer and step for each role, all in one scale of colours."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from wdyn import schema
from wdyn.analysis.update_sizes_check import GUIDE
from wdyn.plots.canvas import figure_of, plain, short
from wdyn.plots.cells import Row, edges_between, tell_steps
from wdyn.plots.palette import BAD, GREY

_COLUMNS = 3
_MOST = 12  # matrices outside blocks that fit into one map
_LABELS, _NAMES = 6, 16  # beside a map: of layers, and of parameters
_REACH = 2.0  # decades to either side of the guide that have a colour of their own
_COLOURS = "PRGn_r"
"""White at the guide; its ends, and what is red, are told apart by every kind of eye."""


def one_map(ax: Axes, shown: xr.Dataset) -> None:
    """Draw the update ratio of all that is shown into one map."""
    _map(ax, shown)
    ax.set_xlabel("step")
    _bar(figure_of(ax), [ax])


def height_of(shown: xr.Dataset) -> float:
    """Tell how many inches `small_maps` needs."""
    return sum(_heights(shown))


def small_maps(figure: SubFigure, shown: xr.Dataset) -> None:
    """Draw a map for each role, above one of what stands outside blocks: its long names take room of its own."""
    roles, outside, heights = _by_role(shown), _outside(shown), _heights(shown)
    parts = iter(np.asarray(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)).flat)
    if roles:
        _of_roles(next(parts), roles)
    if outside.sizes[schema.PARAMETER]:
        part = next(parts)
        ax = part.subplots()
        _map(ax, outside)
        ax.set_title("outside blocks" if roles else "all", loc="left", pad=4)
        ax.set_xlabel("step")
        if not roles:
            _bar(part, [ax])


def _heights(shown: xr.Dataset) -> list[float]:
    roles, outside = _by_role(shown), _outside(shown).sizes[schema.PARAMETER]
    of_roles = [1.6 * math.ceil(len(roles) / _columns(len(roles))) + 0.3] * bool(roles)
    return of_roles + [0.75 + 0.22 * outside if roles else max(1.9, 0.75 + 0.22 * outside)] * bool(outside)


def _columns(count: int) -> int:
    """Lay 4 maps out as 2 rows of 2: no place is to stay empty where it need not."""
    return 2 if count == 4 else min(_COLUMNS, max(count, 1))


def _by_role(shown: xr.Dataset) -> dict[str, xr.Dataset]:
    """Part what stands in blocks by role, with the tower where there are several."""
    inside = shown.isel({schema.PARAMETER: np.flatnonzero(shown["layer"].values >= 0)})
    stacks, roles = inside["stack"].values.tolist(), inside["role"].values.tolist()
    labels = [f"{s} {r}" if len(set(stacks)) > 1 else str(r) for s, r in zip(stacks, roles, strict=True)]
    return {
        label: inside.isel({schema.PARAMETER: [at for at, one in enumerate(labels) if one == label]}).sortby("layer")
        for label in dict.fromkeys(labels)
    }


def _outside(shown: xr.Dataset) -> xr.Dataset:
    return shown.isel({schema.PARAMETER: np.flatnonzero(shown["layer"].values < 0)[:_MOST]})


def _of_roles(figure: SubFigure, maps: dict[str, xr.Dataset]) -> None:
    columns = _columns(len(maps))
    axes = figure.subplots(math.ceil(len(maps) / columns), columns, squeeze=False)
    for ax in axes.flat[len(maps) :]:
        ax.set_axis_off()
    for number, (ax, (label, one)) in enumerate(zip(axes.flat, maps.items(), strict=False)):
        _map(ax, one)
        ax.set_title(plain(label), loc="left", pad=4)
        if number + columns >= len(maps):
            ax.set_xlabel("step")
        if number % columns == 0:
            ax.set_ylabel("layer")
    _bar(figure, axes.ravel().tolist())


def _bar(figure: Figure | SubFigure, axes: list[Axes]) -> None:
    middle, reach = round(math.log10(GUIDE)), round(_REACH)
    ticks = range(middle - reach, middle + reach + 1)
    bar = figure.colorbar(ScalarMappable(_scale(), _COLOURS), ax=axes, aspect=25, pad=0.01, extend="both")
    bar.set_ticks(list(ticks), labels=[f"$10^{{{at}}}$" for at in ticks])
    bar.set_label("update / weights")


def _scale() -> Normalize:
    middle = math.log10(GUIDE)
    return Normalize(middle - _REACH, middle + _REACH)


def _map(ax: Axes, one: xr.Dataset) -> None:
    """Draw log10 of the update ratio by row and step; grey where nothing moved, red where updates are not finite."""
    ratio = one["update_ratio"].transpose(schema.PARAMETER, schema.STEP).values
    told = np.log10(np.where((ratio > 0) & np.isfinite(ratio), ratio, np.nan))
    steps = one[schema.STEP].values
    edges = edges_between(steps), np.arange(len(ratio) + 1)
    ax.set_facecolor(GREY)
    ax.pcolormesh(*edges, told, cmap=_COLOURS, norm=_scale(), rasterized=True)
    bad = (one["nonfinite"] > 0).transpose(schema.PARAMETER, schema.STEP).values
    if bad.any():
        ax.pcolormesh(*edges, np.where(bad, 1.0, np.nan), cmap=ListedColormap([BAD]), rasterized=True)
    tell_steps(ax, ratio, rows=_rows(one), steps=steps, what="update / weights")
    ax.grid(visible=False)
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    labels = _labels(one)
    at = np.arange(0, len(labels), max(1, math.ceil(len(labels) / (_LABELS if labels[0].isdigit() else _NAMES))))
    ax.set_yticks(at + 0.5, [labels[row] for row in at.tolist()])
    ax.tick_params(axis="y", length=0)


def _labels(one: xr.Dataset) -> list[str]:
    """Tell rows apart by layer; where that does not do, by name."""
    layers = one["layer"].values.tolist()
    if min(layers) >= 0 and len(set(layers)) == len(layers):
        return [str(layer) for layer in layers]
    return [plain(short(str(name))) for name in one[schema.PARAMETER].values.tolist()]


def _rows(one: xr.Dataset) -> list[Row]:
    names = (schema.PARAMETER, "role", "stack", "layer")
    return [Row(*row) for row in zip(*(one[name].values.tolist() for name in names), strict=True)]
