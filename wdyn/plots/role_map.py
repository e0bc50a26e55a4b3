"""How is a number of each role in each layer drawn? As a map; where nothing stands in a layer, as a bar a parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle

from wdyn import schema
from wdyn.plots.canvas import figure_of, plain, resting, short
from wdyn.plots.cells import tell_roles
from wdyn.plots.palette import BAD, GOOD, GREY

MOST_BARS = 12

_NAMED = 12  # layers, and no more, whose numbers stand below the map
_CHARACTER = 0.075  # inches of one in a cell, and what is left free around it
_TICKS = 6
_LOOKS: dict[str, dict[str, Any]] = {
    "grey": {"facecolor": GREY},
    "hatched": {"facecolor": "white", "edgecolor": "0.85", "hatch": "////"},
    "red": {"facecolor": BAD},
    "dotted": {"facecolor": "white", "edgecolor": "0.4", "hatch": ".."},
}


@dataclass(frozen=True)
class Grid:
    """The cells in which the parameters of a table stand.

    Attributes
    ----------
    roles, layers
        Rows and columns; of several towers a row is called "encoder q".
    at
        Row and column of each parameter.
    """

    roles: tuple[str, ...]
    layers: tuple[int, ...]
    at: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

    def total(self, values: npt.NDArray[Any]) -> xr.DataArray:
        """Add values (parameter,) up by cell: (role, layer), 0 where nothing stands, NaN where one is."""
        total = np.zeros((len(self.roles), len(self.layers)))
        np.add.at(total, self.at, values)
        return xr.DataArray(total, {"role": list(self.roles), schema.LAYER: list(self.layers)})


def grid(table: xr.Dataset | xr.DataArray) -> Grid:
    """Find the cell of each parameter by its ``stack role layer``."""
    stacks, roles, layers = (table[name].values.tolist() for name in ("stack", "role", "layer"))
    several = len(set(stacks)) > 1
    labels = [f"{stack} {role}" if several else str(role) for stack, role in zip(stacks, roles, strict=True)]
    rows, columns = tuple(dict.fromkeys(labels)), tuple(sorted(set(layers)))
    at = np.array([rows.index(label) for label in labels], dtype=np.int64), np.searchsorted(columns, layers)
    return Grid(rows, columns, at)


def logarithmic(values: npt.NDArray[Any], *, least: float = 1.05) -> LogNorm | None:
    """Give a scale of colours over what is positive and finite, its ends at a ratio of `least` or more; else None."""
    known = values[np.isfinite(values) & (values > 0)]
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    more = max(1.0, math.sqrt(least * low / high))
    return LogNorm(low / more, high * more)


def role_map(
    ax: Axes,
    values: xr.DataArray,
    *,
    scale: Normalize,
    what: str,
    colours: str = "crest",
    number: str = ".2g",
    looks: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    when: str = "",
) -> Colorbar:
    """Draw a map whose cells say their number where there is room.

    Parameters
    ----------
    values
        (role, layer). A cell that is zero, NaN or infinite has no colour.
    scale, colours, number
        From values to colours, the map of colours, and how a number is written.
    what
        What the values are.
    looks
        Cells (role, layer) without a number, by what they are, which begins with their look: ``"grey: did not move"``.
    when
        Of which moment they are: ``", at step 3"``.
    """
    cells = values.transpose("role", schema.LAYER).values
    drawn = np.where(np.isfinite(cells) & (cells > 0), cells, np.nan)
    roomy = _has_room(ax, drawn, number)
    with resting(figure_of(ax)):
        sns.heatmap(
            drawn,
            ax=ax,
            norm=scale,
            cmap=colours,
            annot=drawn if roomy else False,
            fmt=number,
            annot_kws={"size": 8},
            cbar_kws={"label": what, "pad": 0.01},
            xticklabels=False,
            yticklabels=[plain(str(role)) for role in values["role"].values],
            linewidths=0.5 if roomy else 0,
            linecolor="white" if roomy else "none",  # else a line without width would still be seen
            rasterized=not roomy,  # and so would the seams between the cells of an SVG
        )
    tell_roles(ax, values, what=what)
    layers = values[schema.LAYER].values.tolist()
    named = range(0, len(layers), max(1, math.ceil(len(layers) / _NAMED)))
    ax.set_xticks([at + 0.5 for at in named], [str(layers[at]) for at in named], rotation=0)
    ax.tick_params(axis="y", rotation=0, length=0)
    told = _mark(ax, looks or {})
    ax.set_xlabel(f"layer{when}" + (f" ({', '.join(told)})" if told else ""))
    bar = ax.collections[0].colorbar
    assert bar is not None
    if isinstance(scale, LogNorm):
        name_ticks(bar, _round_ticks(float(scale.vmin or 0), float(scale.vmax or 0)), "{:g}")
    return bar


def name_ticks(bar: Colorbar, ticks: list[float], form: str) -> None:
    """Write these numbers, and no others, beside the colours."""
    bar.set_ticks(ticks, labels=[form.format(tick) for tick in ticks])
    bar.minorticks_off()


def bars(ax: Axes, values: xr.DataArray, *, what: str) -> None:
    """Draw the largest values (parameter,) as bars; NaN before all others, for it is the first thing to see."""
    shown = values.sortby(values.fillna(np.inf), ascending=False).isel({schema.PARAMETER: slice(MOST_BARS)})
    names = [plain(short(str(name))) for name in shown[schema.PARAMETER].values]
    struck = np.isnan(shown.values)
    labels = [f"{name} (NaN)" if nan else name for name, nan in zip(names, struck.tolist(), strict=True)]
    ax.barh(range(len(labels)), np.where(np.isfinite(shown.values), shown.values, 0.0), color=GOOD, height=0.6)
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.set_xlabel(what)
    ax.grid(visible=False, axis="y")
    sns.despine(ax=ax)


def _has_room(ax: Axes, drawn: npt.NDArray[np.float64], number: str) -> bool:
    known = drawn[~np.isnan(drawn)]
    longest = max((len(format(value, number)) for value in known.tolist()), default=0)
    inches = ax.get_position().width * figure_of(ax).get_figwidth()
    return bool(longest * _CHARACTER <= inches / drawn.shape[1])


def _round_ticks(low: float, high: float) -> list[float]:
    """Choose 1, 2 and 5 times powers of ten, as many as can be read; where these are too few, the ends and the middle.

    >>> _round_ticks(0.05, 2), _round_ticks(0.0021, 0.0029)
    ([0.05, 0.1, 0.2, 0.5, 1.0, 2.0], [0.0021, 0.0025, 0.0029])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= _TICKS:
            break
    return ticks if len(ticks) > 1 else [float(f"{tick:.2g}") for tick in np.geomspace(low, high, 3)]


def _mark(ax: Axes, looks: Mapping[str, npt.NDArray[np.bool_]]) -> list[str]:
    """Give cells without a number a look by what they are; say which looks there are."""
    for words, cells in looks.items():
        for row, column in np.argwhere(cells):
            look = _LOOKS[words.partition(":")[0]]
            ax.add_patch(Rectangle((column, row), 1, 1, linewidth=0, label=words, zorder=1.5, **look))
    return [words for words, cells in looks.items() if np.any(cells)]
