"""Which run ends lowest, and how far did the weights of each go? Curves with bands, above dots by role."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wdyn import schema
from wdyn.plots.canvas import new_figure, plain, say, short, style, title, titled
from wdyn.plots.palette import GREY

_NAMED = 8  # groups that have a colour and a name of their own; others are grey
_ROLES = 8
_LONGEST = 24
_UNITS = {"step": "step", "lr": "sum of the learning rate up to here"}
_MANY = 200  # points beyond which single ones are pale behind a moving median
_WINDOWS = 40
_DASHES = ("-", "--", ":", "-.")


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw the metric of each run, repeats as a band around their mean, above how far each role moved in each.

    Of more than 200 points a moving median is drawn, and single ones pale behind it.

    With `ax` the curves alone.
    """
    with style():
        moved = "moved" in result and bool(result["moved"].notnull().any())
        if ax is not None or not moved:
            target = ax or new_figure(3.4).subplots()
            _curves(target, result)
            return titled(target, answer(result), own=ax is None)
        heights = [3.2, 0.8 + 0.32 * len(_roles(result))]
        figure = new_figure(0.6 + sum(heights))
        upper, lower = figure.subplots(2, 1, height_ratios=heights)
        _curves(upper, result)
        _dots(lower, result)
        title(figure, answer(result))
        return figure


def answer(result: xr.Dataset) -> str:
    """Say in words which run ends lowest, and by how much."""
    metric = result.attrs["metric"]
    ranked = result[["score", "rank"]].sortby("rank").dropna(schema.RUN, subset=["score"])  # those without come last
    if not ranked.sizes[schema.RUN]:
        return f"No run has a {metric} at its end to compare"
    names, scores = ranked[schema.RUN].values.tolist(), ranked["score"].values
    best = short(names[0], _LONGEST)
    if len(names) == 1:
        return f"{best} alone has a {metric} at its end: {scores[0]:.3g}"
    if scores[0] == scores[-1]:
        return f"{'Both' if len(names) == 2 else f'All {len(names)}'} runs end at a {metric} of {scores[0]:.3g}"
    if (lowest := int((ranked["rank"] == 1).sum())) > 1:
        return f"{best} and {lowest - 1} more end lowest: {metric} {scores[0]:.3g}, against up to {scores[-1]:.3g}"
    if len(names) == 2:
        return f"{best} ends lowest: {metric} {scores[0]:.3g}, against {scores[1]:.3g} of {short(names[1], _LONGEST)}"
    return f"{best} ends lowest: {metric} {scores[0]:.3g}, against {scores[1]:.3g} to {scores[-1]:.3g} of the others"


def _looks(result: xr.Dataset) -> dict[int, tuple[Any, str, str]]:
    """Give colour, dash and name of each group of repeats: beyond the first few they are all one grey."""
    colours = sns.color_palette("colorblind", _NAMED)
    looks: dict[int, tuple[Any, str, str]] = {}
    for number in result["repeats"].values.tolist():
        labels = result[schema.RUN].values[result["group"].values == number].tolist()
        name = plain(short(str(labels[0]), _LONGEST)) + (
            f", {len(labels)} runs of equal settings" if len(labels) > 1 else ""
        )
        colour = colours[number] if number < _NAMED else GREY
        looks[number] = (colour, _DASHES[number % len(_DASHES)], name if number < _NAMED else "")
    return looks


def _curves(ax: Axes, result: xr.Dataset) -> None:
    """Draw each group: its mean, and from its lowest to its highest run a band."""
    if not result["curve"].notnull().any():
        say(ax, f"No run logged {result.attrs['metric']}.")
        return
    at = result["at"].values
    for number, (colour, dash, name) in _looks(result).items():
        look = {"color": colour, "linestyle": dash, "linewidth": 1.6, "label": name}
        members = result["curve"].values[result["group"].values == number]
        if len(members) > 1:
            _band(ax, result.sel(repeats=number), members, look)
        else:
            _run(ax, at, members[0], look)
    if _has_decades(result["curve"].values):
        ax.set_yscale("log")
    on = result.attrs["on"]
    ax.set_xlabel(_UNITS.get(on, plain(on)))
    moving = f", moving median of {len(at) // _WINDOWS}" if len(at) > _MANY else ""
    ax.set_ylabel(plain(short(str(result.attrs["metric"]))) + moving)
    ax.legend(frameon=False, fontsize=9, title=_left_out(result))
    sns.despine(ax=ax)


def _band(ax: Axes, group: xr.Dataset, members: np.ndarray, look: dict[str, Any]) -> None:
    """Draw the mean of repeats in their band, and thin lines of those that go on when one has ended."""
    at, mean = group["at"].values, group["band_mean"].values
    ax.fill_between(at, group["band_min"], group["band_max"], color=look["color"], alpha=0.25, linewidth=0)
    ax.plot(at, smooth(mean), **look)
    for values in members:
        ax.plot(at, np.where(np.isnan(mean), values, np.nan), color=look["color"], linewidth=0.8)


def _run(ax: Axes, at: np.ndarray, values: np.ndarray, look: dict[str, Any]) -> None:
    """Draw one run; a cross marks its end where others go on."""
    if len(at) > _MANY:
        ax.plot(at, values, color=look["color"], linewidth=0.5, alpha=0.3)
    ax.plot(at, smooth(values), **look)
    known = np.flatnonzero(~np.isnan(values))
    if known.size and known[-1] < len(at) - 1:
        ax.plot(at[known[-1]], values[known[-1]], marker="x", color=look["color"], markersize=6)


def smooth(values: np.ndarray) -> np.ndarray:
    """Give the moving median of a long curve, a short one as it is; NaN where it is NaN."""
    if len(values) <= _MANY:
        return values
    median = pd.Series(values).rolling(len(values) // _WINDOWS, center=True, min_periods=1).median().to_numpy()
    return np.where(np.isnan(values), np.nan, median)


def _has_decades(values: np.ndarray) -> bool:
    """Say whether positive values reach over more than a decade: a logarithmic axis tells apart what is low."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() > 10 * finite.min())


def _left_out(result: xr.Dataset) -> str | None:
    more = result.sizes["repeats"] - _NAMED
    return f"{more} more in grey" if more > 0 else None


def _dots(ax: Axes, result: xr.Dataset) -> None:
    """Draw for each role one dot a group: the mean of how far its runs moved, and a line from least to most.

    No bars: on a logarithmic axis their lengths would mean nothing.
    """
    roles = _roles(result)
    moved = result["moved"].sel(role=roles)
    looks = {number: look for number, look in _looks(result).items() if number < _NAMED}
    apart = 0.7 / len(looks)
    for place, (number, (colour, _, _)) in enumerate(looks.items()):
        own = moved.isel({schema.RUN: np.flatnonzero(result["group"].values == number)})
        mean = own.mean(schema.RUN, skipna=False).values
        rows = np.arange(len(roles)) + (place - (len(looks) - 1) / 2) * apart
        ax.plot(mean, rows, "o", color=colour, markersize=5)
        unknown = rows[np.isnan(mean)]
        ax.plot(np.full(unknown.size, 0.02), unknown, "x", color=colour, transform=ax.get_yaxis_transform())
        if own.sizes[schema.RUN] > 1:
            ax.hlines(rows, own.min(schema.RUN), own.max(schema.RUN), color=colour, linewidth=1)
    if _has_decades(moved.where(moved > 0).values):
        ax.set_xscale("log")
    else:
        ax.set_xlim(left=min(0.0, ax.get_xlim()[0]))
    ax.set_yticks(range(len(roles)), [plain(role) for role in roles])
    ax.set_ylim(len(roles) - 0.5, -0.5)
    steps = sorted(set(result["compared_at"].values.tolist()))
    crosses = "; ×: NaN, or not recorded" if moved.isnull().any() else ""
    at = "–".join(map(str, dict.fromkeys((steps[0], steps[-1]))))
    ax.set_xlabel(f"change of the weights / first norm, at step {at}{crosses}")
    ax.tick_params(axis="y", length=0)
    sns.despine(ax=ax)


def _roles(result: xr.Dataset) -> list[str]:
    """Give the roles that moved most, the first the most."""
    most = result["moved"].max(schema.RUN).fillna(-1)
    roles: list[str] = most.sortby(most, ascending=False)["role"].values[:_ROLES].tolist()
    return roles
