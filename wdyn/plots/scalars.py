"""How did training go? The loss above the learning rate, and what else was logged in small panels."""

from __future__ import annotations

import math

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wdyn import schema
from wdyn.plots.canvas import new_figure, plain, say, short, style, title, titled
from wdyn.plots.palette import BAD, GREY, INK, SERIES
from wdyn.reading.curves import curves, is_loss, is_rate, silent_after

_MOST = 6  # small panels
_COLUMNS = 2
_ENDED = "silent_after"

Curves = dict[str, xr.DataArray]


def plot(scalars: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw what was logged over steps; a thin line marks each step at which a later attempt went on.

    Parameters
    ----------
    scalars
        The group ``scalars`` of one run.
    ax
        Where to draw: the upper panel alone, the loss or what was logged first.

    Returns
    -------
    Figure
        The figure that was drawn, or the one that `ax` stands in.
    """
    found, resumed = _numbers(scalars), resume_points(scalars)
    main, rates, others = _sorted(found)
    with style():
        if ax is not None:
            _panel(ax, main, resumed, named=True)
            return titled(ax, answer(scalars), own=False)
        heights = [2.4] * bool(main) + [1.3] * bool(rates) + [1.5] * math.ceil(len(others) / _COLUMNS)
        figure = new_figure(0.6 + sum(heights or [1.5]))
        _draw(figure, [main, rates], others, heights or [1.5], resumed)
        title(figure, answer(scalars))
        return figure


def answer(scalars: xr.Dataset) -> str:
    """Say in words how the loss, or what was logged first, went."""
    found = _numbers(scalars)
    if not found:
        return "Nothing was logged"
    name, curve = next(iter(found.items()))
    first, last = float(curve[0]), float(curve[-1])
    if f"{first:.3g}" == f"{last:.3g}":
        return f"{name} began and ended at {first:.3g}"
    ended = curve.attrs[_ENDED]
    tail = f", and is NaN or not logged after step {ended}" if ended >= 0 else ""
    return f"{name} {'fell' if last < first else 'rose'} from {first:.3g} to {last:.3g}{tail}"


def resume_points(scalars: xr.Dataset) -> dict[int, int]:
    """Give the first step of every attempt but the first, by the number of the attempt."""
    if schema.ATTEMPT not in scalars.coords:
        return {}
    numbers, steps = scalars[schema.ATTEMPT].values, scalars[schema.STEP].values
    begins = np.flatnonzero(np.diff(numbers)) + 1
    return {int(numbers[at]): int(steps[at]) for at in begins}


def _numbers(scalars: xr.Dataset) -> Curves:
    """Drop the steps at which a curve has no value: not all are logged at every one."""
    told = curves(scalars).items()
    known = {name: curve.dropna(schema.STEP).assign_attrs({_ENDED: silent_after(curve)}) for name, curve in told}
    return {name: curve for name, curve in known.items() if curve.size}


def _sorted(found: Curves) -> tuple[Curves, Curves, Curves]:
    """Split into the main panel, the learning rates, and the small panels."""
    rates = {name: curve for name, curve in found.items() if is_rate(name)}
    losses = {name: curve for name, curve in found.items() if is_loss(name)}
    others = {name: curve for name, curve in found.items() if name not in rates | losses}
    if losses:
        return losses, rates, dict(list(others.items())[:_MOST])
    first = dict(list((others or rates).items())[: 1 if others else None])
    rates = {name: curve for name, curve in rates.items() if name not in first}
    return first, rates, dict([item for item in others.items() if item[0] not in first][:_MOST])


def _draw(figure: Figure, wide: list[Curves], others: Curves, heights: list[float], resumed: dict[int, int]) -> None:
    grid = figure.add_gridspec(len(heights), _COLUMNS, height_ratios=heights)
    shared: Axes | None = None
    shown = [found for found in wide if found]
    for row, found in enumerate(shown):
        panel = figure.add_subplot(grid[row, :], sharex=shared)
        _panel(panel, found, resumed, named=row == 0)
        shared = shared or panel
    for at, (name, curve) in enumerate(others.items()):
        row, column = divmod(at, _COLUMNS)
        across = slice(None) if len(others) == 1 else column
        panel = figure.add_subplot(grid[len(shown) + row, across], sharex=shared)
        _panel(panel, {name: curve}, resumed, named=False)
    if not shown:
        say(figure.add_subplot(grid[0, :]), "No scalars were logged: w.log(loss=loss) keeps them.")


def _panel(ax: Axes, found: Curves, resumed: dict[int, int], *, named: bool) -> None:
    """Draw curves of one kind; the attempts are `named` where there is room."""
    for (name, curve), colour in zip(found.items(), (SERIES * len(found))[: len(found)], strict=True):
        label = plain(short(name)) if 1 < len(found) <= len(SERIES) else None
        sns.lineplot(
            x=curve[schema.STEP].values, y=curve.values, ax=ax, color=colour, linewidth=1.2, estimator=None, label=label
        )
        if curve.attrs[_ENDED] >= 0:
            said = "NaN or not logged from here on" if named else None
            ax.plot(curve[schema.STEP][-1], curve[-1], "x", color=BAD, markersize=7, markeredgewidth=2, label=said)
    for number, step in resumed.items():
        ax.axvline(step, color=GREY, linewidth=0.8, zorder=0)
        if named:
            ax.annotate(
                f"attempt {number}", (step, 1), xycoords=("data", "axes fraction"), xytext=(3, -3),
                textcoords="offset points", va="top", fontsize=8, color=INK,
            )  # fmt: skip
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize=8, frameon=False)
    ax.set_xlabel("step")
    ax.set_ylabel(plain(_label(list(found))))
    if all(map(is_rate, found)):
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))  # a constant one is no wave of its last digits
    ax.xaxis.set_major_locator(MaxNLocator(6 if named else 5, integer=True))
    sns.despine(ax=ax)


def _label(names: list[str]) -> str:
    if all(map(is_rate, names)):
        return "learning rate" if len(names) <= len(SERIES) else f"lr of {len(names)} groups"
    return short(names[0], 20)
