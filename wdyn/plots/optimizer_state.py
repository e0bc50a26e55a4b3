"""How far does the optimizer step? By role and layer at the end, and over time beside learning rate and gradient."""

from __future__ import annotations

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

from wdyn import schema
from wdyn.analysis.optimizer_state_check import find_pile, is_pile
from wdyn.analysis.optimizer_state_rules import correction_ends
from wdyn.plots.canvas import figure_of, new_figure, plain, say, short, style, thinned, title, titled
from wdyn.plots.palette import BAD, GREY, INK, SERIES, depth_map, depth_scale, layer_colours
from wdyn.plots.role_map import grid, logarithmic, role_map

_FEW = 4  # parameters that can be told apart without depth
_LEAST_REACH = 1.5  # from one end of the colours to the other: smaller differences are none to look at
_EARLY = 2.0  # correction up to which the phase is shaded, as the check has it


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw the step at the last row by role and layer, above steps over time, above the norm of the gradient.

    With `ax` the steps over time alone. Where nothing stands in a block, or no rule is known, panels are left out.
    """
    with style():
        if ax is not None:
            _over_time(ax, result)
            return titled(ax, answer(result), own=False)
        inside, norms = _inside(result), result["gradient_norm"].dropna(schema.STEP)
        rows = len(grid(inside).roles)
        heights = [0.9 + 0.28 * max(3, rows)] * bool(inside.size) + [2.3] + [1.3] * bool(norms.size)
        figure = new_figure(0.7 + sum(heights))
        axes = list(np.atleast_1d(figure.subplots(len(heights), 1, height_ratios=heights)))
        if inside.size:
            _map(axes.pop(0), inside, result)
        _over_time(axes.pop(0), result)
        if norms.size:
            _gradient(axes.pop(0), result, norms)
        title(figure, answer(result))
        return figure


def answer(result: xr.Dataset) -> str:
    """Say in words what is wrong with the optimizer's state, or else how far it steps."""
    broken = int((result["nonfinite"] > 0).any(schema.STEP).sum())
    if broken:
        return f"The moments of {_count(broken, 'parameter')} hold NaN or infinity"
    found = find_pile(result)
    if is_pile(found):
        return f"Gradients pile up: their norm grew ×{found.growth:.3g} in a line up to step {found.last}"
    loose = int((result["trainable"] & (result["of_group"] < 0)).sum())
    if loose:
        return f"No optimizer holds {_count(loose, 'trainable parameter')}"
    return _of_sound_runs(result)


def _of_sound_runs(result: xr.Dataset) -> str:
    steps, measured = _steps(result)
    last = steps.isel({schema.STEP: -1}).values
    last = last[np.isfinite(last) & (last > 0)]
    if not last.size:
        return "How far the optimizer steps cannot be told"
    low, high = f"{last.min():.2g}", f"{last.max():.2g}"
    verb = "moved" if measured else "steps"
    reach = high if low == high else f"{low} to {high}"
    return f"The optimizer {verb} by {reach} (rms of a weight) at step {int(steps[schema.STEP].values[-1])}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _steps(result: xr.Dataset) -> tuple[xr.DataArray, bool]:
    """Give the steps to draw, those that the rule tells or else the measured ones, and whether they are measured."""
    for name in ("effective_step", "update"):
        told = result[name].dropna(schema.STEP, how="all")
        if told.size:
            return told, name == "update"
    return result["update"], True


def _label(result: xr.Dataset) -> str:
    return "rms of the update" if _steps(result)[1] else "effective step"


def _inside(result: xr.Dataset) -> xr.DataArray:
    """Keep the steps of the matrices that stand in a block, at the last row; may be empty."""
    told = _steps(result)[0]
    inside = (result["layer"] >= 0).values & (result["kind"] == schema.Kind.WEIGHT).values
    return told.isel({schema.PARAMETER: np.flatnonzero(inside), schema.STEP: slice(-1, None)})


def _map(ax: Axes, inside: xr.DataArray, result: xr.Dataset) -> None:
    """Draw the root mean square of the steps of the weights of a role in a layer."""
    where, squares = grid(inside), inside.values[0] ** 2
    known = where.total(~np.isnan(squares))
    values = (where.total(np.nan_to_num(squares)) / known.where(known > 0)) ** 0.5
    scale = logarithmic(values.values, least=_LEAST_REACH)
    if scale is None:
        say(ax, "No step of a weight in a block can be told.")
        return
    there = where.total(np.ones(squares.size)).values > 0
    looks = {
        "grey: no step": there & (values.values == 0),
        "hatched: nothing there": ~there,
        "dotted: not told": there & np.isnan(values.values),
    }
    when = f", at step {int(inside[schema.STEP].values[0])}"
    role_map(ax, values, scale=scale, what=_label(result), looks=looks, when=when)


def _over_time(ax: Axes, result: xr.Dataset) -> None:
    """Draw a line for each layer, the median of its weights; without layers, one for each of a few parameters."""
    steps, _ = _steps(result)
    drawn = steps.where(steps > 0)
    if not drawn.notnull().any():
        say(ax, "No step can be told: record updates, or moments.")
        return
    _shade_early(ax, result)
    _rates(ax, result)
    layers = drawn["layer"].values
    if (layers >= 0).any():
        _layer_lines(ax, drawn)
    elif drawn.sizes[schema.PARAMETER] <= _FEW:
        for colour, name in zip((*SERIES[1:], SERIES[0]), drawn[schema.PARAMETER].values.tolist(), strict=False):
            _line(ax, drawn.sel({schema.PARAMETER: name}), colour, label=plain(short(name)))
    else:
        _band(ax, drawn)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8, frameon=False)
    ax.set_yscale("log")
    _log_ticks(ax)
    ax.set_xlabel("step")
    ax.set_ylabel(_label(result))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _whole_time(ax, result)
    sns.despine(ax=ax)


def _layer_lines(ax: Axes, drawn: xr.DataArray) -> None:
    layers = drawn["layer"].values
    for layer, colour in layer_colours(sorted(set(layers.tolist()))).items():
        members = drawn.isel({schema.PARAMETER: np.flatnonzero(layers == layer)})
        _line(ax, members.median(schema.PARAMETER), colour)
    bar = figure_of(ax).colorbar(ScalarMappable(depth_scale(layers.tolist()), depth_map()), ax=ax, pad=0.01)
    bar.set_label("layer")
    bar.locator = MaxNLocator(4, integer=True)
    bar.update_ticks()


def _band(ax: Axes, drawn: xr.DataArray) -> None:
    told = drawn.dropna(schema.STEP, how="all")
    low, middle, high = np.nanquantile(told.values, [0.1, 0.5, 0.9], axis=1)  # NaN: parameters without an update
    ax.fill_between(told[schema.STEP], low, high, color=GREY, alpha=0.5, linewidth=0, label="10 to 90 % of weights")
    ax.plot(told[schema.STEP], middle, color=INK, linewidth=1.2, label="median")


def _line(ax: Axes, line: xr.DataArray, colour: object, *, label: str | None = None) -> None:
    told = thinned(line.dropna(schema.STEP))
    marker = "." if told.size < 12 else ""
    ax.plot(told[schema.STEP], told, color=colour, linewidth=1.1, marker=marker, markersize=4, label=label)


def _rates(ax: Axes, result: xr.Dataset) -> None:
    rate = result["lr"].max(schema.GROUP).dropna(schema.STEP)
    rate = rate.where(rate > 0, drop=True)
    if rate.size:
        ax.plot(rate[schema.STEP], rate, color=INK, linewidth=1.0, linestyle="--", label="learning rate")


def _shade_early(ax: Axes, result: xr.Dataset) -> None:
    """Shade the steps whose second moment rests on few gradients."""
    betas = result["beta2"].values[(result["correction"] > _EARLY).any(schema.STEP).values]
    steps = result[schema.STEP].values
    if betas.size:
        end = min(correction_ends(float(betas.max()), _EARLY), int(steps[-1]))
        label = "second moment of few gradients"
        ax.axvspan(min(1, int(steps[0])), end, color=GREY, alpha=0.3, linewidth=0, label=label)


def _gradient(ax: Axes, result: xr.Dataset, norms: xr.DataArray) -> None:
    marker = "." if norms.size < 12 else ""
    ax.plot(norms[schema.STEP], norms, color=INK, linewidth=1.1, marker=marker)
    found = find_pile(result)
    if is_pile(found):
        piled = norms.sel({schema.STEP: slice(None, found.last)})
        ax.plot(piled[schema.STEP], piled, color=BAD, linewidth=2.0, label="piles up")
        ax.legend(fontsize=8, frameon=False)
    ax.set_xlabel("step")
    ax.set_ylabel("gradient norm,\nas used")  # which is after clipping
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(3))
    _whole_time(ax, result)
    sns.despine(ax=ax)


def _whole_time(ax: Axes, result: xr.Dataset) -> None:
    """Let panels be read one below the other, also where one has no numbers any more."""
    first, last = result[schema.STEP].values[[0, -1]].tolist()
    more = 0.02 * max(1, last - first)
    ax.set_xlim(first - more, last + more)


def _log_ticks(ax: Axes) -> None:
    low, high = ax.get_ylim()
    more = max(1.0, np.sqrt(10 * low / high))  # a decade at least
    low, high = low / more, high * more
    ax.set_ylim(low, high)
    subs = (1.0,) if high / low > 100 else (1.0, 2.0, 5.0)
    ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
    ax.yaxis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(9, 9)))
    ax.yaxis.set_minor_formatter(NullFormatter())
