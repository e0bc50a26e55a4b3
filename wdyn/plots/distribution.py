"""How has the distribution of each role changed? Its shape over time, and how far each layer's has moved."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from wdyn import bins, schema
from wdyn.analysis.binned import quantile, rebin
from wdyn.plots.canvas import new_figure, plain, say, style, title, titled
from wdyn.plots.cells import Row, edges_between, tell_steps
from wdyn.schema import Role

_COLUMNS = 3
_RIDGES = 7
_HEIGHT = 2.2  # of a ridge, in distances between two
_REACH = (0.0005, 0.9995)
_MIDDLE = 13  # equal bins around 0
_LAYERS = 6  # labels beside a map

Floats = npt.NDArray[np.float64]


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw each role's distribution at several steps as ridges, above maps of the distance by layer and step.

    With `ax` the ridges of the role that moved most alone. Norms are left out: their gains lie in one or two bins.
    """
    shown = _flat(result)
    words = answer(result)
    with style():
        if ax is not None:
            if shown.sizes["role"]:
                _ridges(ax, shown.sel(role=_farthest(shown)), named=False)
            else:
                say(ax, words)
            return titled(ax, words, own=False)
        moved = shown.isel(role=_inside(shown).notnull().any([schema.STEP, schema.LAYER]).values)
        rows, low = (math.ceil(one.sizes["role"] / _COLUMNS) for one in (shown, moved))
        heights = [1.9 * max(1, rows)] + [1.5 * low] * bool(low)
        figure = new_figure(0.7 + sum(heights))
        panels = np.asarray(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False))[:, 0]
        _all_ridges(panels[0], shown, words)
        if low:
            _maps(panels[1], moved)
        title(figure, words)
        return figure


def answer(result: xr.Dataset) -> str:
    """Say in words how much wider, and how much longer in its tails, the role has become that moved most."""
    sick = int(((result["nans"] > 0) & ~result["fused"].astype(bool)).any(schema.STEP).sum())
    left_out = f"; NaN in {sick} weight{'' if sick == 1 else 's'} left out" if sick else ""
    return _of_what_is_left(result) + left_out


def _of_what_is_left(result: xr.Dataset) -> str:
    shown = _flat(result)
    moved = _last(shown).fillna(0)
    if not moved.size or not float(moved.max()):
        return "No distribution has changed"
    role = _farthest(shown)
    at = {schema.LAYER: int(moved.sel(role=role).idxmax())}
    one = shown.sel({"role": role, schema.STEP: slice(None, int(moved[schema.STEP]))}).sel(at)
    ratio = float(one["std_ratio"][-1])
    first, last = one["kurtosis"].isel({schema.STEP: [0, -1]}).values
    where = f"{role}, layer {at[schema.LAYER]}" if at[schema.LAYER] >= 0 else str(role)
    verb = "widened" if ratio >= 1 else "narrowed"
    return f"Distributions {verb}, most in {where}: std ×{ratio:.2f}, kurtosis {first:.1f} to {last:.1f}"


def _flat(result: xr.Dataset) -> xr.Dataset:
    """Make towers part of the role's name; leave out norms, wholes whose parts are there, and layers of by_layer."""
    kept = (result["role"] != Role.NORM) & ~result["fused"].astype(bool)
    shown = result.isel(role=np.flatnonzero(kept.values)).drop_vars("fused")
    if schema.LAYER in shown["histogram"].dims:
        shown = shown.assign(histogram=shown["histogram"].sum(schema.LAYER))
    if "stack" not in shown.dims:
        return shown
    flat = shown.stack(both=("stack", "role"), create_index=False)
    names = [f"{stack} {role}" for stack, role in zip(flat["stack"].values, flat["role"].values, strict=True)]
    flat = flat.drop_vars(["stack", "role"]).rename(both="role").assign_coords(role=names)
    return flat.isel(role=np.flatnonzero((flat["count"] > 0).any(schema.LAYER).values))


def _distance(shown: xr.Dataset) -> xr.DataArray:
    """W1 to the reference in stds of the reference, which compares between roles: (step, role, layer)."""
    first = shown["std"].sel({schema.STEP: shown.attrs["reference"]}, drop=True)
    return shown["wasserstein"] / first.where(first > 0)


def _last(shown: xr.Dataset) -> xr.DataArray:
    """Give the distance (role, layer) at the last step at which any can be told: NaN ends some runs."""
    distance = _distance(shown)
    known = np.flatnonzero(distance.notnull().any(["role", schema.LAYER]).values)
    return distance.isel({schema.STEP: known[-1] if known.size else -1})


def _farthest(shown: xr.Dataset) -> str:
    last = _last(shown).max(schema.LAYER).fillna(0)
    return str(last["role"].values[int(last.values.argmax())])


def _all_ridges(figure: SubFigure, shown: xr.Dataset, words: str) -> None:
    roles = shown["role"].values.tolist()
    if not roles:
        say(figure.subplots(), words)
        return
    axes = figure.subplots(math.ceil(len(roles) / _COLUMNS), _COLUMNS, squeeze=False)
    for ax in axes.flat[len(roles) :]:
        ax.set_axis_off()
    for at, (ax, role) in enumerate(zip(axes.flat, roles, strict=False)):
        _ridges(ax, shown.sel(role=role), named=True)
        if at + _COLUMNS >= len(roles):
            ax.set_xlabel("value")
    steps = shown[schema.STEP].values
    bar = figure.colorbar(
        ScalarMappable(Normalize(int(steps[0]), int(steps[-1])), _times()),
        ax=axes.ravel().tolist(),
        aspect=30,
        pad=0.01,
    )
    bar.set_label("step")
    bar.locator = MaxNLocator(5, integer=True)
    bar.update_ticks()


def _ridges(ax: Axes, one: xr.Dataset, *, named: bool) -> None:
    """Draw densities at several steps of one role, the first on top, each as high as the others."""
    counted, reach = _counted(one, most=_RIDGES)
    if not 0 < reach < np.inf:
        say(ax, f"{one['role'].item()}: nothing but zeros")
        return
    middles, densities = density(counted, reach)
    shades = _times()
    scale = Normalize(int(one[schema.STEP].values[0]), max(int(one[schema.STEP].values[-1]), 1))
    for at, heights in enumerate(densities):
        base = float(len(densities) - 1 - at)
        curve = base + _HEIGHT * heights / max(heights.max(), np.finfo(float).tiny)
        colour = shades(float(scale(int(counted[schema.STEP].values[at]))))
        ax.fill_between(middles, base, curve, color=colour, alpha=0.75, linewidth=0, zorder=at + 2)
        ax.plot(middles, curve, color="white", linewidth=0.8, zorder=at + 2)
    named_steps = [] if named else counted[schema.STEP].values.tolist()
    ax.set_yticks(range(len(named_steps))[::-1], [str(step) for step in named_steps])
    ax.set_xlim(-reach, reach)
    ax.xaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    ax.grid(False)
    sns.despine(ax=ax, left=True)
    if named:
        ax.set_title(plain(str(one["role"].item())), loc="left", pad=3)
    else:
        ax.set_xlabel(f"value, in {plain(str(one['role'].item()))}")
        ax.set_ylabel("step")


def shapes(result: xr.Dataset, *, most: int) -> list[dict[str, Any]]:
    """Give the density of each role at up to `most` steps, for one to go through them.

    Returns
    -------
    list
        For each role ``label role stack``, ``x`` (point,), ``steps`` and, for each of these, ``y`` (point,) in shares
        by unit of value.
    """
    shown, told = _flat(result), []
    for label in shown["role"].values.tolist():
        counted, reach = _counted(shown.sel(role=label), most=most)
        if 0 < reach < np.inf:
            x, heights = density(counted, reach)
            whose = {"label": label, "role": _row(label, -1).role, "stack": _row(label, -1).stack}
            told.append(whose | {"x": x, "steps": counted[schema.STEP].values, "y": heights})
    return told


def _counted(one: xr.Dataset, *, most: int) -> tuple[xr.DataArray, float]:
    """Keep up to `most` steps of one role, evenly, at which any value was no NaN, and how far these reach from 0."""
    counted = one["histogram"]
    known = np.flatnonzero((counted.isel({schema.BIN: slice(None, bins.NAN)}).sum(schema.BIN) > 0).values)
    kept = np.unique(np.linspace(0, known.size - 1, min(most, known.size)).round().astype(int))
    counted = counted.isel({schema.STEP: known[kept]})
    return counted, float(np.abs(quantile(counted, _REACH)).max()) if kept.size else 0.0


def density(counted: xr.DataArray, reach: float) -> tuple[Floats, Floats]:
    """Give the share by unit of value within about +-reach: (point,), (step, point).

    Bins as they were counted on the outside; near 0, where those are too narrow to hold many values, equal ones.
    """
    size = bins.magnitudes()
    side = size[(size >= reach / 4) & (size < reach * 1.25)]
    edges = np.concatenate([-side[:0:-1], np.linspace(-side[0], side[0], _MIDDLE + 1), side[1:]])
    counts = rebin(counted, edges)
    heights = (counts / counts.sum(schema.BIN) / np.diff(edges)).transpose(schema.STEP, schema.BIN).values
    return (edges[1:] + edges[:-1]) / 2, np.nan_to_num(heights)


def _maps(figure: SubFigure, moved: xr.Dataset) -> None:
    """Draw the distance of every layer from the reference, a panel a role, in one scale of colours."""
    roles = moved["role"].values.tolist()
    axes = figure.subplots(math.ceil(len(roles) / _COLUMNS), _COLUMNS, squeeze=False, sharex=True)
    for ax in axes.flat[len(roles) :]:
        ax.set_axis_off()
    inside = _inside(moved)
    scale = Normalize(0, max(float(inside.max()), 1e-9))
    for at, (ax, role) in enumerate(zip(axes.flat, roles, strict=False)):
        known = inside.sel(role=role).dropna(schema.STEP, how="all")
        layers = known[schema.LAYER].values
        values = known.transpose(schema.LAYER, schema.STEP).values
        ax.pcolormesh(known[schema.STEP], layers, values, shading="nearest", cmap="crest", norm=scale)
        rows = [_row(role, layer) for layer in layers.tolist()]
        steps = known[schema.STEP].values
        tell_steps(ax, values, rows=rows, steps=steps, what="W1 / first std", borders=edges_between(layers))
        ax.set_title(plain(role), loc="left", pad=5)
        ax.set_yticks(layers[:: max(1, math.ceil(layers.size / _LAYERS))])
        ax.invert_yaxis()  # as the data flows: down
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.grid(False)
        if at % _COLUMNS == 0:
            ax.set_ylabel("layer")
        if at + _COLUMNS >= len(roles):
            ax.set_xlabel("step")
            ax.tick_params(labelbottom=True)
    bar = figure.colorbar(ScalarMappable(scale, "crest"), ax=axes.ravel().tolist(), aspect=30, pad=0.01)
    bar.set_label("W1 / first std")


def _row(label: str, layer: int) -> Row:
    stack, _, role = label.rpartition(" ")  # of several towers, "encoder q"
    return Row(f"{label}, layer {layer}", role, stack, layer)


def _inside(shown: xr.Dataset) -> xr.DataArray:
    """Keep the distances of what stands in a block."""
    return _distance(shown).isel({schema.LAYER: np.flatnonzero(shown[schema.LAYER].values >= 0)})


def _times() -> Colormap:
    """Give the colours of steps, which are none of the layers'."""
    return sns.color_palette("flare", as_cmap=True)
