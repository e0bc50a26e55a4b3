"""How far did the updates move each layer, over time, in one line of characters a layer?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.reading.tables import dataset, parameters
from wdyn.reports.logged import LEVELS
from wdyn.schema import Kind, Role

UNKNOWN, INFINITE = "·", "!"

_MOST_CELLS = 48
_MOST_STRIPS = 12

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Strip:
    """Some neighbouring layers over time.

    Attributes
    ----------
    label
        Which: ``decoder 0–3``.
    cells
        One character for each of the rows that stand for the time: a height of `LEVELS`, `UNKNOWN` where the value is
        not recorded or NaN, `INFINITE` where it is infinite.
    last
        The newest value that is known; NaN where there is none.
    """

    label: str
    cells: str
    last: float


def strips(ratios: xr.DataArray) -> tuple[Strip, ...]:
    """Tell the update ratio of each layer over time: the median of its weights, norms left out.

    Heights go with the logarithm, on one scale for all strips.

    Parameters
    ----------
    ratios
        (step, parameter), with coordinates ``role kind stack layer``.
    """
    if not ratios.size:
        return ()
    formed = (ratios["layer"] != schema.NO_LAYER) & (ratios["kind"] == Kind.WEIGHT) & (ratios["role"] != Role.NORM)
    first = int(ratios[0].isnull().all())  # before the first step there is no update
    rows = np.unique(np.linspace(first, ratios.sizes[schema.STEP] - 1, _MOST_CELLS).round().astype(np.int64))
    shown = ratios.isel({schema.STEP: rows, schema.PARAMETER: np.flatnonzero(formed.values)})
    if not shown.size:
        return ()
    values = shown.transpose(schema.STEP, schema.PARAMETER).values
    groups = _groups(shown["stack"].values.tolist(), shown["layer"].values.tolist())
    lines = np.stack([_medians(values[:, at]) for at in groups.values()])
    return tuple(map(Strip, groups, _cells(lines), map(_last, lines)))


def recorded(run: xr.DataTree) -> xr.DataArray:
    """Find the update ratios of an opened run, without reading them; empty where updates were not recorded."""
    stored = dataset(run, schema.RELATIONS) if schema.RELATIONS in run.children else xr.Dataset()
    if schema.UPDATE_RATIO not in stored or stored.sizes[schema.STEP] < 2:
        return xr.DataArray(np.empty((0, 0)))
    ratios = stored[schema.UPDATE_RATIO].transpose(schema.STEP, schema.PARAMETER)
    table = parameters(run).sel({schema.PARAMETER: ratios[schema.PARAMETER].values})
    return ratios.assign_coords({name: table[name].variable for name in ("role", "kind", "stack", "layer")})


def _groups(stacks: list[str], layers: list[int]) -> dict[str, list[int]]:
    """Give the columns of each strip: one a layer, or one for several neighbours where there are many."""
    places = list(zip(stacks, layers, strict=True))
    found: dict[str, list[int]] = {}
    for stack in dict.fromkeys(stacks):
        known = np.unique([layer for own, layer in places if own == stack])
        most = max(_MOST_STRIPS // len(set(stacks)), 1)
        for some in np.array_split(known, min(most, known.size)):
            label = "–".join(dict.fromkeys((str(some[0]), str(some[-1]))))
            found[f"{stack} {label}"] = [at for at, (own, layer) in enumerate(places) if own == stack and layer in some]
    return found


def _medians(values: _Floats) -> _Floats:
    # A weight whose updates are not recorded at a row says nothing of its layer: the others do.
    known = [row[~np.isnan(row)] for row in values]
    return np.array([np.median(row) if row.size else np.nan for row in known])


def _last(row: _Floats) -> float:
    known = row[~np.isnan(row)]
    return float(known[-1]) if known.size else float("nan")


def _cells(rows: _Floats) -> list[str]:
    finite = np.isfinite(rows) & (rows > 0)
    logs = np.log10(np.where(finite, rows, 1.0))
    low, high = (logs[finite].min(), logs[finite].max()) if finite.any() else (0.0, 0.0)
    heights = ((logs - low) / max(high - low, 1e-9) * (len(LEVELS) - 1)).round().clip(0, len(LEVELS) - 1)
    return ["".join(map(_cell, row, height)) for row, height in zip(rows, heights.astype(int), strict=True)]


def _cell(value: float, height: int) -> str:
    if np.isnan(value):
        return UNKNOWN
    if np.isinf(value):
        return INFINITE
    return LEVELS[height] if value > 0 else LEVELS[0]
