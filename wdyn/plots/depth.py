"""Do the layers widen alike? std over time by role, and growth at the end by role and layer."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from wdyn import schema
from wdyn.analysis.depth_check import unequal
from wdyn.analysis.profiles import profiles_of, without_fused
from wdyn.plots.canvas import new_figure, plain, say, style, thinned, title, titled
from wdyn.plots.palette import depth_map, depth_scale, layer_colours
from wdyn.plots.role_map import name_ticks, role_map

_COLUMNS = 3
_TICKS = 7  # beside a colour bar


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw std over step for each role, a line a layer, above a map of growth by role and layer.

    With `ax` the map alone. Where several towers were measured, each role of each tower stands apart.
    """
    shown = _flat(result)
    growth = _last_growth(shown)
    words = answer(result)
    with style():
        if ax is not None:
            _growth_map(ax, growth)
            return titled(ax, words, own=False)
        rows = math.ceil(shown.sizes["role"] / _COLUMNS)
        low = 0.9 + 0.3 * max(1, growth.sizes["role"])
        figure = new_figure(0.8 + 1.75 * rows + low)
        upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[1.75 * rows, low]))
        _small_multiples(upper, shown, rows)
        _growth_map(lower.subplots(), growth)
        title(figure, words)
        return figure


def answer(result: xr.Dataset) -> str:
    """Say in words how growth differs between layers; unequal is what the findings call unequal."""
    profiles = [one for one in profiles_of(result) if one.role != schema.Role.NORM]
    if not profiles:
        return "No trainable layer has a first spread to grow from"
    growth = np.concatenate([one.growth.values for one in profiles])
    if (growth == 1).all():
        return "No layer has widened or narrowed"
    verb = "widen" if np.median(growth) >= 1 else "narrow"
    ordered, apart = unequal(profiles)
    if ordered or apart:
        one = max(ordered + apart, key=lambda one: one.ratio)
        high, low = int(one.growth.idxmax()), int(one.growth.idxmin())
        return (
            f"Layers {verb} unequally, most in {one.label}: ×{float(one.growth.max()):.2f} in layer {high}, "
            f"×{float(one.growth.min()):.2f} in layer {low}"
        )
    least, most = f"×{growth.min():.2f}", f"×{growth.max():.2f}"
    if least == most:
        return f"Layers {verb} about alike: std went {least}"
    return f"Layers of one role {verb} about alike: std went {least} to {most} between roles"


def _flat(result: xr.Dataset) -> xr.Dataset:
    """Make towers part of the role's name; leave out norms, and fused weights whose parts are there."""
    result = without_fused(result)
    roles = result["role"].values
    if (roles != schema.Role.NORM).any():  # norms start without spread, and would fill a row of their own
        result = result.isel(role=roles != schema.Role.NORM)
    result = result[["std", "growth", "trainable"]]
    if "stack" not in result.dims:
        return result
    flat = result.stack(both=("stack", "role"), create_index=False)
    names = [f"{stack} {role}" for stack, role in zip(flat["stack"].values, flat["role"].values, strict=True)]
    flat = flat.drop_vars(["stack", "role"]).rename(both="role").assign_coords(role=names)
    return flat.dropna("role", how="all", subset=["std"]).transpose(schema.STEP, "role", schema.LAYER)


def _last_growth(shown: xr.Dataset) -> xr.DataArray:
    """Give growth (role, layer) at the last step at which each role was recorded."""
    rows = []
    for role in shown["role"].values:
        known = shown["growth"].sel(role=role).dropna(schema.STEP, how="all")
        if known.sizes[schema.STEP]:
            rows.append(known.isel({schema.STEP: -1}).drop_vars(schema.STEP))
    if rows:
        return xr.concat(rows, "role", coords="different", compat="equals")
    return shown["growth"].isel({schema.STEP: 0, "role": slice(0)}, drop=True)


def _small_multiples(figure: SubFigure, shown: xr.Dataset, rows: int) -> None:
    axes = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True)
    colours = layer_colours(shown[schema.LAYER].values.tolist())
    roles = shown["role"].values.tolist()
    for number, ax in enumerate(axes.flat):
        if number >= len(roles):
            ax.set_axis_off()
            continue
        for layer, colour in colours.items():
            # Steps at which this role was not recorded would tear the line.
            line = thinned(shown["std"].sel({"role": roles[number], schema.LAYER: layer}).dropna(schema.STEP))
            marker = "." if line.size < 12 else ""
            ax.plot(line[schema.STEP], line, color=colour, linewidth=1.1, marker=marker, markersize=4)
        ax.set_title(plain(roles[number]), loc="left", pad=5)
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(3))
        if number + _COLUMNS >= len(roles):
            ax.set_xlabel("step")
            ax.tick_params(labelbottom=True)
        if number % _COLUMNS == 0:
            ax.set_ylabel("std")
    _layer_bar(figure, axes, shown)


def _layer_bar(figure: SubFigure, axes: np.ndarray, shown: xr.Dataset) -> None:
    layers = shown[schema.LAYER].values.tolist()
    scale = ScalarMappable(depth_scale(layers), depth_map())
    bar = figure.colorbar(scale, ax=axes.ravel().tolist(), aspect=30, pad=0.01)
    bar.set_label("layer")
    bar.locator = MaxNLocator(5, integer=True)
    bar.update_ticks()


def _growth_map(ax: Axes, growth: xr.DataArray) -> None:
    if not growth.notnull().any():
        say(ax, "No first spread to grow from: see the absolute change above.")
        return
    values = growth.transpose("role", schema.LAYER).values
    reach = max(0.01, float(np.nanmax(np.abs(np.log2(np.where(values > 0, values, np.nan))))))
    scale = LogNorm(2**-reach, 2**reach)  # no growth in its middle
    looks = {"hatched: no growth to tell": ~(values > 0)}
    bar = role_map(ax, growth, scale=scale, what="growth of std", colours="PuOr_r", number=".2f", looks=looks)
    name_ticks(bar, round_factors(reach), "×{:g}")


def round_factors(reach: float) -> list[float]:
    """Choose round factors around 1, none farther from it than 2 ** reach; at least three.

    >>> round_factors(1.2), round_factors(0.4)
    ([0.5, 1.0, 2.0], [0.8, 1.0, 1.2])
    """
    low, high = 2**-reach, 2**reach
    if high >= 2:
        round_ones = [digit * 10.0**power for power in range(-9, 10) for digit in (1, 2, 5)]
        found = [float(f"{one:.3g}") for one in round_ones if low <= one <= high]
        return found if len(found) <= _TICKS else [one for one in found if f"{one:e}"[0] == "1"]
    for width in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002):
        found = [round(1 + width * at, 4) for at in range(-5, 6) if low <= 1 + width * at <= high]
        if len(found) > 2:
            break
    return found
