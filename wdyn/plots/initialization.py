"""Did the initialization do what was meant? Observed std against the std of the rule, by role."""

from __future__ import annotations

import math

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from wdyn import schema
from wdyn.analysis.initialization_check import wide_heads
from wdyn.analysis.verdicts import NOT_AS_MEANT, NOT_FINITE, OVERRIDDEN, UNKNOWN
from wdyn.naming import examples
from wdyn.plots.canvas import figure_of, new_figure, plain, say, style, titled
from wdyn.plots.palette import BAD, INK, depth_map, depth_scale, layer_colours

_SPREAD = 0.6  # of a row, over which the layers of a role are spread from top to bottom
_MANY = 16  # layers from which dots must be small to stay apart
_ERRORS = 4  # standard errors that the whiskers reach, as the verdict allows


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw each parameter's std at step 0 as a dot over the std that its rule gives, one row a role."""
    shown = result.isel({schema.PARAMETER: (result["std"] > 0).values})
    with style():
        groups = _groups(shown)
        target = ax or new_figure(1.6 + 0.36 * max(3, len(groups))).subplots()
        if groups:
            _dots(target, shown, groups)
        else:
            say(target, "All recorded parameters are constant.")
        return titled(target, answer(result), own=ax is None)


def answer(result: xr.Dataset) -> str:
    """Say in words whether a head is too wide, and how many parameters follow a rule."""
    wide = wide_heads(result)
    if not wide or (result["verdict"].values == NOT_FINITE).any():
        return _rules_followed(result)
    spread = float(result["logit_scale"].sel({schema.PARAMETER: wide}).max())
    rules = _rules_followed(result)
    return (
        f"{examples(wide, 1)} is so wide that logits start with a spread of {spread:.1f}; {rules[0].lower()}{rules[1:]}"
    )


def _rules_followed(result: xr.Dataset) -> str:
    verdicts = result["verdict"].values
    count, odd = len(verdicts), int(np.isin(verdicts, (UNKNOWN, NOT_AS_MEANT)).sum())
    constant = int((result["std"].values == 0).sum())
    rest = f" ({constant} constant ones not drawn)" if constant else ""
    if (verdicts == NOT_FINITE).any():
        return f"{int((verdicts == NOT_FINITE).sum())} of {count} parameters hold NaN or infinity before training"
    if odd:
        return f"{odd} of {count} parameters do not follow a known or expected rule{rest}"
    tied = result[schema.PARAMETER].values[verdicts == OVERRIDDEN].tolist()
    of_head = f"; {examples(tied, 1)} by the head that it is tied to" if tied else ""
    return f"All {count} parameters follow a known rule{rest}{of_head}"


def _groups(shown: xr.Dataset) -> dict[str, np.ndarray]:
    """Rows of the figure, in the order of the model: positions of the parameters of each role and kind."""
    labels = [
        str(role) if kind == schema.Kind.WEIGHT else f"{role} {kind}"
        for role, kind in zip(shown["role"].values, shown["kind"].values, strict=True)
    ]
    return {label: np.flatnonzero(np.array(labels) == label) for label in dict.fromkeys(labels)}


def _dots(ax: Axes, shown: xr.Dataset, groups: dict[str, np.ndarray]) -> None:
    layers = shown["layer"].values
    colours = layer_colours(layers.tolist())
    deepest = max(1, int(layers.max()))
    size = 16 if deepest < _MANY else 6
    for row, members in enumerate(groups.values()):
        one = shown.isel({schema.PARAMETER: members})
        at = row + np.where(one["layer"] < 0, 0, (one["layer"] / deepest - 0.5) * _SPREAD)
        reach = np.minimum(_ERRORS * one["standard_error"], 0.9 * one["expected_std"])
        ax.errorbar(
            one["expected_std"], at, xerr=reach, fmt="|", color="0.55", markersize=size / 2, elinewidth=1.2, zorder=2
        )
        shades = [colours.get(int(layer), INK) for layer in one["layer"].values]
        ax.scatter(one["std"], at, c=shades, s=size, zorder=3, linewidth=0)
        wide = np.isin(one[schema.PARAMETER].values, wide_heads(shown))
        ax.scatter(one["std"][wide], at[wide], s=90, zorder=4, facecolors="none", edgecolors=BAD, linewidth=1.8)
    _rules(ax, shown, groups)
    _axes(ax, shown, list(groups))
    if colours:
        _layer_bar(ax, list(colours))


def _rules(ax: Axes, shown: xr.Dataset, groups: dict[str, np.ndarray]) -> None:
    """Name each row's rule at its right."""
    for row, members in enumerate(groups.values()):
        rules = dict.fromkeys(str(rule) for rule in shown["rule"].values[members])
        text = next(iter(rules)) or "no known rule" if len(rules) == 1 else f"{len(rules)} rules"
        if (shown["verdict"].values[members] == OVERRIDDEN).any():
            text += ", of its head"
        ax.annotate(
            plain(text.replace("; ", "\n")), (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=8
        )


def _axes(ax: Axes, shown: xr.Dataset, labels: list[str]) -> None:
    ax.set_xscale("log")
    both = np.concatenate([shown["std"].values, shown["expected_std"].values])
    low, high = np.nanmin(both[both > 0]) / 1.4, np.nanmax(both) * 1.4
    ax.set_xlim(low, high)
    # A narrow range has no power of ten in it: name 2 and 5 as well.
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 300 else (1.0,)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_yticks(range(len(labels)), [plain(label) for label in labels])
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set_xlabel("std at step 0")
    keys = [
        Line2D([], [], marker="o", linestyle="", color=INK, markersize=4, label="observed"),
        Line2D([], [], marker="|", color="0.55", markersize=8, label=f"rule ± {_ERRORS} standard errors"),
    ]
    if wide_heads(shown):
        ring = Line2D(
            [], [], marker="o", linestyle="", color=BAD, markersize=8, markerfacecolor="none", label="too wide"
        )
        keys.append(ring)
    ax.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, frameon=False, borderpad=0)
    sns.despine(ax=ax)


def _layer_bar(ax: Axes, layers: list[int]) -> None:
    scale = ScalarMappable(depth_scale(layers), depth_map())
    bar = figure_of(ax).colorbar(scale, ax=ax, orientation="horizontal", aspect=40, fraction=0.04, pad=0.02)
    bar.set_label("layer (colourless: outside blocks)", fontsize=8)
    bar.locator = MaxNLocator(min(8, math.ceil(max(layers)) + 1), integer=True)
    bar.update_ticks()
