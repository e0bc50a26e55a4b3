"""Since when, and where, do copies differ between processes? Shares of parameters over steps, by role and by layer."""

from __future__ import annotations

import math

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wdyn import schema
from wdyn.plots.canvas import figure_of, new_figure, plain, say, style, title, titled
from wdyn.plots.cells import Row, edges_between, narrowed, tell_steps
from wdyn.schema import Kind

_WHAT = "share that differs"
_AGREE = "0.93"
_SCALE = Normalize(1e-9, 1)  # what is 0 lies below: it has a colour of its own
_LINE, _LEAST, _MOST = 0.24, 0.7, 2.6  # inches, of a row and of all rows of a map
_NAMED = 12  # layers, and no more, whose numbers stand beside the map


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw which share of the parameters of each role differs at each row, above that of each layer.

    With `ax` the map of roles alone. Of layers nothing is drawn where buffers alone differ, or nothing stands in one.
    """
    roles, layers = result["by_role"], result["by_layer"].sortby("layers")
    both = bool((layers > 0).any()) and layers.sizes["layers"] > 1
    heights = [_height(roles), _height(layers)] if both else [_height(roles)]
    with style():
        if not (roles > 0).any():
            target = ax or new_figure(1.6).subplots()
            say(target, _agreement(result))
            return titled(target, answer(result), own=ax is None)
        if ax is not None:
            _roles(ax, roles)
            _bar([ax], shares=roles)
            return titled(ax, answer(result), own=False)
        figure = new_figure(sum(heights) + 1.2)
        axes = figure.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0].tolist()
        _roles(axes[0], roles)
        if both:
            _layers(axes[1], layers)
            axes[0].set_xlabel("")
        _bar(axes, shares=roles)
        title(figure, answer(result))
        return figure


def answer(result: xr.Dataset) -> str:
    """Say in words whether copies differ, of what, and since when."""
    buffer = result["kind"] == Kind.BUFFER
    first, since = result["first_at"], result["since"]
    weights = int((~buffer).sum())
    apart = since.where(~buffer).dropna(schema.PARAMETER)
    if apart.size:
        return f"Copies of {apart.size} of {weights} parameters differ since step {float(apart.min()):.0f}"
    parted = first.where(~buffer).dropna(schema.PARAMETER)
    if parted.size:
        until = float(result["last_at"].sel({schema.PARAMETER: parted[schema.PARAMETER]}).max())
        span = f"between steps {float(parted.min()):.0f} and {until:.0f}"
        return f"Copies of {parted.size} of {weights} parameters differed {span}, and agree again"
    if first.notnull().any():
        return f"Copies of {int(first.notnull().sum())} buffers differ, and of no other parameter"
    return "All processes hold the same bits"


def _agreement(result: xr.Dataset) -> str:
    rows, steps = result.sizes[schema.STEP], result[schema.STEP].values
    at = f"at all {rows} rows, steps {steps[0]} to {steps[-1]}" if rows > 1 else f"at step {steps[0]}"
    return f"{result.sizes[schema.PARAMETER]} parameters and buffers were compared, and agreed {at}."


def _height(shares: xr.DataArray) -> float:
    return min(_MOST, max(_LEAST, _LINE * shares.shape[1]))


def _roles(ax: Axes, shares: xr.DataArray) -> None:
    labels = [str(label) for label in shares["roles"].values]
    # Of several towers a role is called "encoder q"; no role has a blank in its name.
    parts = [label.rpartition(" ") for label in labels]
    _map(ax, shares, [Row(label, role, stack) for label, (stack, _, role) in zip(labels, parts, strict=True)])
    ax.set_yticks(np.arange(len(labels)) + 0.5, [plain(label) for label in labels])


def _layers(ax: Axes, shares: xr.DataArray) -> None:
    numbers = shares["layers"].values.tolist()
    labels = ["outside" if layer == schema.NO_LAYER else str(layer) for layer in numbers]
    _map(ax, shares, [Row(label, layer=layer) for label, layer in zip(labels, numbers, strict=True)])
    every = math.ceil(len(labels) / _NAMED)
    named = [at for at, layer in enumerate(numbers) if at == 0 or (layer % every == 0 and at >= every)]
    ax.set_yticks([at + 0.5 for at in named], [labels[at] for at in named])
    ax.set_ylabel("layer")


def _map(ax: Axes, shares: xr.DataArray, rows: list[Row]) -> None:
    """Draw shares (step, what): white where nothing was compared."""
    shown = narrowed(shares.to_dataset(name=_WHAT))[0]
    values, steps = shown[_WHAT].transpose(..., schema.STEP).values, shown[schema.STEP].values
    edges = edges_between(steps), np.arange(len(values) + 1)
    ax.pcolormesh(*edges, values, cmap=_colours(), norm=_SCALE, rasterized=True)
    tell_steps(ax, values, rows=rows, steps=steps, what=_WHAT)
    ax.grid(visible=False)
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _bar(axes: list[Axes], *, shares: xr.DataArray) -> None:
    bar = figure_of(axes[0]).colorbar(ScalarMappable(_SCALE, _colours()), ax=axes, pad=0.01, aspect=25)
    bar.set_ticks([1e-9, 0.5, 1], labels=["> 0", "50 %", "100 %"])
    absent = ", white: not compared" if shares.isnull().any() else ""
    bar.set_label(f"parameters that differ\n(grey: none{absent})")


def _colours() -> Colormap:
    shades: Colormap = sns.color_palette("flare", as_cmap=True)
    return shades.with_extremes(under=_AGREE, bad="white")
