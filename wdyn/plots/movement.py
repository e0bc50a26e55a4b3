"""How far did each weight move? Relative change by role and layer at the end, and by cohort over time."""

from __future__ import annotations

import math

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wdyn import schema
from wdyn.analysis.movement_check import at_snapshots, first_nonfinite
from wdyn.plots.canvas import new_figure, say, style, title, titled
from wdyn.plots.palette import BAD, ODD, SERIES
from wdyn.plots.role_map import MOST_BARS, bars, grid, logarithmic, role_map

_WHAT = "change / first norm"
_APART = 0.12  # of the height, between two names


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
                _upper(target, shown)
            return titled(target, answer(result), own=ax is None)
        inside = _inside(shown)
        rows = len(grid(inside).roles) or min(MOST_BARS, shown.sizes[schema.PARAMETER])
        high = 0.9 + 0.3 * max(4, rows)
        figure = new_figure(0.7 + high + 2.1)
        upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[high, 2.0]))
        _upper(upper.subplots(), shown)
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


def _inside(shown: xr.Dataset) -> xr.Dataset:
    """Keep the matrices that stand in a block, as they were at the last snapshot."""
    last = shown[["relative", "nonfinite"]].isel({schema.STEP: -1})
    inside = (last["layer"] >= 0).values & (last["kind"] == schema.Kind.WEIGHT).values
    return last.isel({schema.PARAMETER: inside})


def _upper(ax: Axes, shown: xr.Dataset) -> None:
    step, inside = int(shown[schema.STEP].values[-1]), _inside(shown)
    if inside.sizes[schema.PARAMETER]:
        _map(ax, inside, step)
    else:
        bars(ax, shown["relative"].isel({schema.STEP: -1}), what=f"{_WHAT}, step {step}")


def _map(ax: Axes, inside: xr.Dataset, step: int) -> None:
    """Draw the root mean square of the relative changes of the weights of a role in a layer."""
    where = grid(inside)
    count = where.total(np.ones(inside.sizes[schema.PARAMETER]))
    values = (where.total(inside["relative"].values ** 2) / count.where(count > 0)) ** 0.5
    there, struck = count.values > 0, where.total(inside["nonfinite"].values > 0).values > 0
    scale = logarithmic(values.values)
    if scale is None:
        say(ax, f"No weight in a block had moved at step {step}.")
        return
    looks = {
        "grey: did not move": there & (values.values == 0),
        "hatched: nothing there": ~there,
        "red: NaN": struck,
        "dotted: began at zero": there & ~struck & np.isnan(values.values),
    }
    role_map(ax, values, scale=scale, what=_WHAT, looks=looks, when=f", at step {step}")


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
    if (result["nonfinite"] > 0).any():
        begun = first_nonfinite(result)[0]
        ax.axvline(begun, color=BAD, linestyle="--", linewidth=1.2)
        ax.set_title(f"NaN from step {begun}", loc="right", color=BAD, fontsize=9, pad=4)
    ax.set_xlabel("step")
    ax.set_ylabel(_WHAT)
    ax.set_ylim(bottom=-0.06 * ax.get_ylim()[1])  # so that what did not move stands clear of the axis
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    _name_ends(ax, sorted(ends))
    sns.despine(ax=ax)


def _name_ends(ax: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write each name beside the axes, at the height at which its line ends, pushed apart where lines end together."""
    low, high = ax.get_ylim()
    lowest = -math.inf
    for value, cohort, colour in ends:
        lowest = max(value, lowest + _APART * (high - low))
        at = (1.01, (lowest - low) / (high - low))
        ax.text(*at, cohort, transform=ax.transAxes, color=colour, va="center", fontsize=9)
