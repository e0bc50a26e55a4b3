"""How much does each adapter change its weight, by layer and step?"""

from __future__ import annotations

import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wdyn import schema
from wdyn.plots.canvas import new_figure, say, short, style, titled
from wdyn.plots.palette import INK, layer_colours


def plot(result: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Draw the change of each adapter, as a share of the norm of its weight, over the steps."""
    with style():
        target = ax or new_figure(3.4).subplots()
        if result["ratio"].notnull().any():
            _lines(target, result)
        else:
            say(target, "The size of no change is known: of its weight, or of alpha / r, nothing was recorded.")
        return titled(target, answer(result), own=ax is None)


def answer(result: xr.Dataset) -> str:
    """Say in words how much the adapters changed."""
    last = result.isel({schema.STEP: -1})
    ratio = last["ratio"].dropna("adapter")
    if not ratio.size:
        return "How much the adapters change is not known"
    if not ratio.any():
        return "The adapters have changed nothing"
    most = ratio.isel(adapter=int(ratio.argmax("adapter")))
    name = short(str(most["adapter"].item()).removeprefix("base_model.model."), 40)
    if ratio.size == 1:
        return f"The adapter {name} changes its weight by {float(most):.2g} of its norm"
    middle = float(np.median(ratio))
    return f"Adapters change weights by {middle:.2g} of their norm (median), most: {name}, {float(most):.2g}"


def _lines(ax: Axes, result: xr.Dataset) -> None:
    steps, colours = result[schema.STEP].values, layer_colours(result["layer"].values.tolist())
    for at in range(result.sizes["adapter"]):
        one = result.isel(adapter=at)
        ax.plot(
            steps,
            one["ratio"].values,
            color=colours.get(int(one["layer"]), INK),
            linewidth=1.4,
            marker="o",
            markersize=3,
        )
    ax.set_xlabel("step")
    ax.set_ylabel("change / norm of the weight")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for layer in sorted({min(colours), max(colours)}) if colours else []:
        ax.plot([], [], color=colours[layer], label=f"layer {layer}")
    if colours:
        ax.legend(frameon=False, fontsize=9, loc="upper left")
    sns.despine(ax=ax)
