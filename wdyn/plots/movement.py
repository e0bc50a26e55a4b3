"""How far did each weight move? Relative change by role and layer at the end, and by cohort over time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from wdyn import schema
from wdyn.analysis.movement_check import at_snapshots, first_nonfinite
from wdyn.plots.canvas import new_figure, plain, say, short, style, title, titled
from wdyn.plots.cells import tell_roles
from wdyn.plots.palette import BAD, ODD, SERIES

_ANNOTATED = 12  # layers up to which the numbers fit in the cells
_MOST = 12  # parameters outside blocks that fit


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw the relative change of each weight at the last snapshot, above that of each cohort over time.

    With `ax` the upper panel alone: a map of role and layer, or bars where no weight stands in a block. Where weights
    turn NaN, the last snapshot is the last one that still tells of some.
    """
    shown = _telling(result)
    with style():
        if ax is not None or shown is None:
            target = ax or new_figure(2.0).subplots()
            if shown is None:
                say(target, "No two snapshots of finite weights: how far they moved cannot be told.")
            else:
                _upper(target, shown, _by_layer(shown))
            return titled(target, answer(result), own=ax is None)
        table = _by_layer(shown)
        high = 0.9 + 0.3 * max(4, min(_MOST, table.sizes["role"]))
        figure = new_figure(0.7 + high + 2.1)
        upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[high, 2.0]))
        _upper(upper.subplots(), shown, table)
        _cohorts(lower.subplots(), result)
        title(figure, answer(result))
        return figure


def _telling(result: xr.Dataset) -> xr.Dataset | None:
    """Keep the snapshots up to the last one that tells a change; ``None`` where fewer than two do."""
    taken = at_snapshots(result)
    told = np.flatnonzero(taken["relative"].notnull().any(schema.PARAMETER).values)
    return taken.isel({schema.STEP: slice(told[-1] + 1)}) if told.size > 1 else None


def answer(result: xr.Dataset) -> str:
    """Say in words whether weights are NaN, frozen ones stayed, and tuned ones moved."""
    words = []
    struck = int((result["nonfinite"] > 0).any(schema.STEP).sum())
    if struck:
        verb = "holds" if struck == 1 else "hold"
        words.append(f"{_count(struck, 'weight')} {verb} NaN or infinity from step {first_nonfinite(result)[0]}")
    moved = int(result["frozen_moved"].any(schema.STEP).sum())
    if moved:
        words.append(f"{_count(moved, 'frozen weight')} moved")
    text = ", ".join(words or _of_sound_runs(result)) or "Nothing can be said of the change"
    return text[0].upper() + text[1:]


def _of_sound_runs(result: xr.Dataset) -> list[str]:
    frozen = int((result["of_cohort"] == "frozen").sum())
    words = [f"{_count(frozen, 'frozen weight')} stayed"] if frozen else []
    taken = at_snapshots(result)
    if taken.sizes[schema.STEP] < 2:
        return words
    moves = taken["cohort_relative"].isel({schema.STEP: -1}).drop_sel(cohort="frozen").dropna("cohort")  # empty ones
    if moves.size:
        first = str(moves["cohort"].values[0])
        moved = "tuned weights" if first == "tuned" else first
        words.append(f"{moved} moved by {float(moves[0]):.2g} of their norm")
    tuned = (taken["of_cohort"] != "frozen") & (taken["numel"] > 0)
    still = int(((taken["change"] == 0).all(schema.STEP) & tuned).sum())
    if still:
        words.append(f"{still} trainable {'one' if still == 1 else 'ones'} did not move")
    return words


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _by_layer(shown: xr.Dataset) -> xr.Dataset:
    """Relative change at the last snapshot, the root mean square over the weights of a role in a layer: (role, layer).

    ``there`` and ``struck`` tell which cells have a weight, and which have one that is NaN or infinite. Without
    blocks: (role, 1), one row a parameter.
    """
    last = shown[["relative", "nonfinite"]].isel({schema.STEP: -1})
    inside = (last["layer"] >= 0).values & (last["kind"] == schema.Kind.WEIGHT).values
    if not inside.any():
        size = last["relative"].fillna(-1)
        last = last.sortby(size, ascending=False).isel({schema.PARAMETER: slice(_MOST)})
        labels, layers = last[schema.PARAMETER].values, np.full(last.sizes[schema.PARAMETER], -1)
    else:
        last = last.isel({schema.PARAMETER: inside})
        several = len(set(last["stack"].values.tolist())) > 1
        both = zip(last["stack"].values, last["role"].values, strict=True)
        labels = np.array([f"{stack} {role}" if several else str(role) for stack, role in both])
        layers = last["layer"].values
    rows, columns = list(dict.fromkeys(labels.tolist())), sorted(set(layers.tolist()))
    at = (np.array([rows.index(label) for label in labels]), np.searchsorted(columns, layers))
    shape = (len(rows), len(columns))
    squares, count, struck = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    np.add.at(squares, at, last["relative"].values ** 2)
    np.add.at(count, at, 1)
    np.add.at(struck, at, last["nonfinite"].values > 0)
    relative = np.sqrt(squares / np.where(count > 0, count, np.nan))
    cells = {"relative": relative, "there": count > 0, "struck": struck > 0}
    dims = ("role", schema.LAYER)
    return xr.Dataset({name: (dims, values) for name, values in cells.items()}, {"role": rows, schema.LAYER: columns})


def _upper(ax: Axes, shown: xr.Dataset, table: xr.Dataset) -> None:
    step = int(shown[schema.STEP].values[-1])
    if table[schema.LAYER].values.tolist() == [-1]:
        names = [plain(short(name)) for name in table["role"].values.tolist()]
        ax.barh(range(len(names)), np.nan_to_num(table["relative"].values[:, 0]), color=SERIES[1], height=0.6)
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.set_xlabel(f"change / first norm, step {step}")
        sns.despine(ax=ax)
        return
    _map(ax, table, step)


def _map(ax: Axes, table: xr.Dataset, step: int) -> None:
    values = table["relative"].values
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
    every = max(1, math.ceil(table.sizes[schema.LAYER] / _ANNOTATED))
    at = list(range(0, table.sizes[schema.LAYER], every))
    ax.set_xticks([position + 0.5 for position in at], [str(table[schema.LAYER].values[p]) for p in at], rotation=0)
    tell_roles(ax, table["relative"], what="change / first norm")
    told = _mark_cells(ax, table)
    ax.set_xlabel(f"layer, at step {step}" + (f" ({', '.join(told)})" if told else ""))
    ax.tick_params(axis="y", rotation=0, length=0)


def _mark_cells(ax: Axes, table: xr.Dataset) -> list[str]:
    """Give cells without a change a look by what they are; say which looks there are."""
    there, struck, values = (table[name].values for name in ("there", "struck", "relative"))
    looks: tuple[tuple[str, np.ndarray, dict[str, Any]], ...] = (
        ("grey: did not move", there & (values == 0), {"facecolor": "0.75"}),
        ("hatched: nothing there", ~there, {"facecolor": "white", "edgecolor": "0.85", "hatch": "////"}),
        ("red: NaN", struck, {"facecolor": BAD}),
        ("dotted: began at zero", there & ~struck & np.isnan(values), {"facecolor": "white", "hatch": ".."}),
    )
    for text, cells, look in looks:
        for row, column in np.argwhere(cells):
            ax.add_patch(Rectangle((column, row), 1, 1, linewidth=0, label=text, zorder=1.5, **look))
    return [text for text, cells, _ in looks if cells.any()]


def _cohorts(ax: Axes, result: xr.Dataset) -> None:
    """Draw a line for each cohort, named at its end."""
    relative = result["cohort_relative"]
    ends = []
    for colour, cohort in zip((*SERIES, ODD), relative["cohort"].values.tolist(), strict=True):
        line = relative.sel(cohort=cohort).dropna(schema.STEP)  # empty cohorts, and NaN weights: marked below
        if line.size:
            ax.plot(line[schema.STEP], line, color=colour, marker=".", linewidth=1.5)
            ends.append((float(line[-1]), cohort, colour))
    if not ends:
        say(ax, "Every cohort holds a weight that is NaN or infinite, or began at zero.")
        return
    _name_ends(ax, sorted(ends), float(at_snapshots(result)[schema.STEP].values[-1]))
    if (result["nonfinite"] > 0).any():
        begun = first_nonfinite(result)[0]
        ax.axvline(begun, color=BAD, linestyle="--", linewidth=1.2)
        ax.annotate(
            f"NaN from step {begun}",
            (begun, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(-4, 0),
            textcoords="offset points",
            color=BAD,
            ha="right",
            va="top",
            fontsize=9,
        )
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
            cohort,
            (at, lowest),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
