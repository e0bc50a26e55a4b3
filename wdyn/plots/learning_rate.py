"""What did the learning rate do? The rates, the way against their sum, clipping, and owners of the gradient norm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wdyn import schema
from wdyn.analysis.gradient_norm_check import owners
from wdyn.analysis.learning_rate_check import alike
from wdyn.analysis.learning_rate_words import said, which
from wdyn.analysis.schedule_shapes import OTHER
from wdyn.plots.canvas import new_figure, plain, say, short, style, title, titled
from wdyn.plots.palette import BAD, GOOD, GREY, INK, SERIES, layer_colours

_MOST = 8  # owners of the norm that fit


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw the rates above what came of them: path against the sum of rates, clipped steps, owners of the norm.

    With `ax` the rates alone. Panels whose numbers were not recorded are left out.
    """
    with style():
        if ax is not None:
            _rates(ax, result)
            return titled(ax, answer(result), own=False)
        panels = [(2.3, _rates), *_told(result)]
        figure = new_figure(0.7 + sum(height for height, _ in panels))
        grid = figure.add_gridspec(len(panels), 1, height_ratios=[height for height, _ in panels])
        for row, (_, draw) in enumerate(panels):
            draw(figure.add_subplot(grid[row]), result)
        title(figure, answer(result))
        return figure


def answer(result: xr.Dataset) -> str:
    """Say in words which schedule it was, and how often gradients were clipped."""
    groups = alike(result)
    first = result.sel({schema.GROUP: groups[0][0]})
    others = len(groups) - 1
    words = f"The {which(result, groups[0])} is {said(first)}"
    words += f"; {others} other schedule{'s' if others > 1 else ''} beside it" if others else ""
    clipped = float(result["clipped_share"])
    return words if np.isnan(clipped) else f"{words}; {clipped:.0%} of the steps were clipped"


def _told(result: xr.Dataset) -> list[tuple[float, Callable[[Axes, xr.Dataset], None]]]:
    """List the panels, with their heights, for which there are numbers."""
    found: list[tuple[float, Callable[[Axes, xr.Dataset], None]]] = []
    if result["path_off"].notnull().any():
        found.append((1.9, _path))
    if result["grad_norm"].notnull().any():
        found.append((1.9, _norms))
    shown = min(_MOST, owners(result).dropna("owner").sizes["owner"])
    if shown > 1:
        found.append((0.8 + 0.24 * shown, _owners))
    return found


def _rates(ax: Axes, result: xr.Dataset) -> None:
    """Draw one line for each schedule, over what was fitted to it."""
    for groups, colour in zip(alike(result), SERIES * result.sizes[schema.GROUP], strict=False):
        one = result.sel({schema.GROUP: groups[0]}).dropna(schema.STEP, subset=["lr"])
        label = which(result, groups).removeprefix("learning rate of ")
        ax.plot(one[schema.STEP], one["lr"], color=colour, linewidth=3, alpha=0.35, label=label)
        if one["schedule"].item() != OTHER:
            ax.plot(one[schema.STEP], one["fitted"], color=colour, linewidth=1, linestyle="--", label="as recognised")
    handles, labels = ax.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    if len(by_label) <= 2 * len(SERIES):
        ax.legend(list(by_label.values()), list(by_label), fontsize=8, frameon=False)
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    _steps(ax, "learning rate")


def _path(ax: Axes, result: xr.Dataset) -> None:
    """Draw which share of the way, and of the sum of rates, lies behind each step."""
    group = int(result[schema.GROUP].values[result["path_off"].fillna(-1).values.argmax()])
    one = result[["path_length", "lr_sum"]].sel({schema.GROUP: group}).dropna(schema.STEP)
    lines = (("lr_sum", "sum of rates", GREY, 3.0), ("path_length", "path: sum of update norms", GOOD, 1.4))
    for name, label, colour, width in lines:
        ax.plot(one[schema.STEP], one[name] / one[name][-1], color=colour, linewidth=width, label=label)
    ax.legend(fontsize=8, frameon=False, loc="lower right")
    of_group = f" of group {group}" if result.sizes[schema.GROUP] > 1 else ""
    _steps(ax, f"share{of_group}, 0 to 1")
    end, last = int(one[schema.STEP][-1]), int(result[schema.STEP][-1])
    if end < last:
        ax.set_xlim(right=last)
        ax.set_xlabel(f"step; after {end} an update was not finite, or not recorded")


def _norms(ax: Axes, result: xr.Dataset) -> None:
    """Draw the norm before clipping, with a mark where it was clipped."""
    norm = result["grad_norm"].dropna(schema.STEP)
    finite = norm[np.isfinite(norm.values)]
    if not finite.size:
        say(ax, "No logged gradient norm is finite.")
        return
    ax.plot(finite[schema.STEP], finite, color=GREY, linewidth=1, label="gradient norm")
    clipped = finite[result["clip_coefficient"].sel({schema.STEP: finite[schema.STEP]}).values < 1]
    if clipped.size:
        ax.plot(clipped[schema.STEP], clipped, ".", color=BAD, markersize=3, label="clipped")
    broken = result[schema.STEP].values[result["norm_nonfinite"].values]
    if broken.size:
        top = np.ones(broken.size)
        ax.plot(broken, top, "x", color=INK, transform=ax.get_xaxis_transform(), clip_on=False, label="not finite")
    if 0 < 10 * float(finite.min()) < float(finite.max()):
        ax.set_yscale("log")
    ax.legend(fontsize=8, frameon=False)
    _steps(ax, "gradient norm")


def _owners(ax: Axes, result: xr.Dataset) -> None:
    """Draw the largest shares of the squared norm, layers in the colours of their depth."""
    known = owners(result).dropna("owner")
    share = known[:_MOST]
    colours = layer_colours(sorted(set(result["layer"].values.tolist())))
    numbers = [label.rpartition("layer ")[2] for label in share["owner"].values.tolist()]
    shades = [colours[int(one)] if one.isdigit() and int(one) in colours else INK for one in numbers]
    ax.barh(range(share.size), share.values, color=shades, height=0.65)
    ax.set_yticks(range(share.size), [plain(short(str(label))) for label in share["owner"].values])
    ax.invert_yaxis()
    largest = f", {share.size} largest of {known.size}" if known.size > share.size else ""
    ax.set_xlabel(f"share of the squared gradient norm{largest}")
    ax.grid(visible=False, axis="y")
    sns.despine(ax=ax)


def _steps(ax: Axes, label: str) -> None:
    ax.set_xlabel("step")
    ax.set_ylabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    sns.despine(ax=ax)
