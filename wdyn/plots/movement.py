"""How far did each weight move? Relative change by role and layer at the end, and by cohort over time."""

from __future__ import annotations

import math

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wdyn import schema
from wdyn.plots.canvas import new_figure, plain, say, short, style, title, titled
from wdyn.plots.palette import SERIES

_ANNOTATED = 12  # layers up to which the numbers fit in the cells
_MOST = 12  # parameters outside blocks that fit


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw the relative change of each weight at the last snapshot, above that of each cohort over time.

    With `ax` the upper panel alone: a map of role and layer, or bars where no weight stands in a block.
    """
    table = _by_layer(result)
    with style():
        if ax is not None:
            _upper(ax, result, table)
            return titled(ax, answer(result), own=False)
        high = 0.9 + 0.3 * max(4, min(_MOST, table.shape[0]))
        figure = new_figure(0.7 + high + 2.1)
        upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[high, 2.0]))
        _upper(upper.subplots(), result, table)
        _cohorts(lower.subplots(), result)
        title(figure, answer(result))
        return figure


def answer(result: xr.Dataset) -> str:
    """Say in words whether frozen weights stayed and tuned ones moved."""
    last = result.isel({schema.STEP: -1})
    moved = ((result["change"] > 0) & result["frozen"]).any(schema.STEP)
    frozen = int((last["of_cohort"] == "frozen").sum())
    if moved.any():
        return f"{_count(int(moved.sum()), 'frozen weight')} moved"
    tuned = last["of_cohort"] != "frozen"
    still = int(((result["change"] == 0).all(schema.STEP) & (last["numel"] > 0) & tuned).sum())
    moves = last["cohort_relative"].drop_sel(cohort="frozen").dropna("cohort")  # cohorts that are empty
    words = [f"{_count(frozen, 'frozen weight')} stayed" if frozen else ""]
    words += [f"{moves['cohort'].values[0]} weights moved by {float(moves[0]):.2g} of their norm" if moves.size else ""]
    words += [f"{still} trainable {'one' if still == 1 else 'ones'} did not move" if still else ""]
    text = ", ".join(word for word in words if word) or "Nothing can be said of the change"
    return text[0].upper() + text[1:]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _by_layer(result: xr.Dataset) -> xr.DataArray:
    """Relative change at the last snapshot, the root mean square over the weights of a role in a layer: (role, layer).

    Without blocks: (role, 1), one row a parameter.
    """
    last = result["relative"].isel({schema.STEP: -1})
    inside = (last["layer"] >= 0).values & (last["kind"] == schema.Kind.WEIGHT).values
    if not inside.any():
        largest = last.sortby(last.fillna(-1), ascending=False).isel({schema.PARAMETER: slice(_MOST)})
        names = [short(str(name)) for name in largest[schema.PARAMETER].values]
        return xr.DataArray(largest.values[:, None], {"role": names, schema.LAYER: [-1]}, dims=("role", schema.LAYER))
    one = last.isel({schema.PARAMETER: inside})
    stacks = dict.fromkeys(one["stack"].values.tolist())
    labels = [
        f"{stack} {role}" if len(stacks) > 1 else str(role)
        for stack, role in zip(one["stack"].values, one["role"].values, strict=True)
    ]
    roles, layers = list(dict.fromkeys(labels)), sorted(set(one["layer"].values.tolist()))
    values = np.full((len(roles), len(layers)), np.nan)
    for row, role in enumerate(roles):
        for column, layer in enumerate(layers):
            cell = one.values[(np.array(labels) == role) & (one["layer"].values == layer)]
            if cell.size:
                values[row, column] = np.sqrt(np.mean(cell**2))
    return xr.DataArray(values, {"role": roles, schema.LAYER: layers}, dims=("role", schema.LAYER))


def _upper(ax: Axes, result: xr.Dataset, table: xr.DataArray) -> None:
    step = int(result[schema.STEP].values[-1])
    if table.sizes[schema.LAYER] == 1 and table[schema.LAYER].item() == -1:
        ax.barh(range(table.shape[0]), np.nan_to_num(table.values[:, 0]), color=SERIES[1], height=0.6)
        ax.set_yticks(range(table.shape[0]), [plain(name) for name in table["role"].values.tolist()])
        ax.invert_yaxis()
        ax.set_xlabel(f"change / first norm, step {step}")
        sns.despine(ax=ax)
        return
    _map(ax, table, step)


def _map(ax: Axes, table: xr.DataArray, step: int) -> None:
    values = table.values
    moved = values[values > 0]
    if not moved.size:
        say(ax, f"No weight in a block had moved at step {step}.")
        return
    low, high = moved.min(), moved.max()
    few = table.sizes[schema.LAYER] <= _ANNOTATED
    sns.heatmap(
        np.where(values > 0, values, np.nan),
        ax=ax,
        norm=LogNorm(low, max(high, 1.05 * low)),
        cmap="crest",
        annot=values if few else False,
        fmt=".2g",
        annot_kws={"size": 8},
        cbar_kws={"label": "change / first norm", "pad": 0.01},
        xticklabels=False,
        yticklabels=[plain(str(role)) for role in table["role"].values],
        linewidths=0.5 if few else 0,
    )
    ax.set_facecolor("0.85")
    every = max(1, math.ceil(table.sizes[schema.LAYER] / _ANNOTATED))
    at = list(range(0, table.sizes[schema.LAYER], every))
    ax.set_xticks([position + 0.5 for position in at], [str(table[schema.LAYER].values[p]) for p in at], rotation=0)
    ax.set_xlabel(f"layer, at step {step} (grey: did not move, or nothing there)")
    ax.tick_params(axis="y", rotation=0, length=0)


def _cohorts(ax: Axes, result: xr.Dataset) -> None:
    """Draw a line for each cohort, named at its end."""
    relative = result["cohort_relative"]
    ends = []
    for colour, cohort in zip(SERIES, relative["cohort"].values.tolist(), strict=True):
        line = relative.sel(cohort=cohort).dropna(schema.STEP)  # cohorts that are empty
        if line.size:
            ax.plot(line[schema.STEP], line, color=colour, marker=".", linewidth=1.5)
            ends.append((float(line[-1]), cohort, colour))
    if not ends:
        say(ax, "Every cohort holds a weight that is NaN or infinite, or began at zero.")
        return
    _name_ends(ax, sorted(ends), float(result[schema.STEP].values[-1]))
    ax.set_xlabel("step")
    ax.set_ylabel("change / first norm")
    ax.set_ylim(bottom=-0.06 * ax.get_ylim()[1])  # so that what did not move stands clear of the axis
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    sns.despine(ax=ax)


def _name_ends(ax: Axes, ends: list[tuple[float, str, str]], at: float) -> None:
    """Write each name beside the end of its line, pushed apart where lines end together."""
    apart = 0.13 * max([1e-12, *(value for value, _, _ in ends)])
    lowest = -math.inf
    for value, cohort, colour in ends:
        lowest = max(value, lowest + apart)
        ax.annotate(
            cohort, (at, lowest), xytext=(6, 0), textcoords="offset points", color=colour, va="center", fontsize=9
        )
