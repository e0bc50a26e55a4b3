"""While was each weight frozen, and what do its statistics say of that time?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema

Steps = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

_OF_VALUES = ("mean", "std", "min", "max")
_OF_SUMS = ("l1", "l2")
_NOISE = 1e-9  # relative: the order in which float64 sums are taken may change, as when another machine goes on
READ = (*_OF_VALUES, *_OF_SUMS, "nonfinite")
"""The statistics that `strayed` needs."""


def frozen_at(steps: Steps, table: xr.Dataset, states: xr.Dataset | None) -> Mask:
    """Whether each parameter of the table was frozen at each step: (step, parameter).

    Between two rows nobody looked: a weight was frozen there if both rows say so. Before the first row, and where
    nothing was recorded, the table tells.
    """
    at_start = ~table["trainable"].values.astype(bool)
    if states is None:
        return np.tile(at_start, (len(steps), 1))
    told = states[schema.TRAINABLE].reindex({schema.PARAMETER: table[schema.PARAMETER].values})
    told = told.transpose(schema.STEP, schema.PARAMETER)
    still = np.where(told.isnull(), at_start, told == 0)
    rows = states[schema.STEP].values
    before = np.searchsorted(rows, steps, side="right") - 1
    after = np.minimum(np.searchsorted(rows, steps), len(rows) - 1)
    frozen: Mask = np.where(before[:, None] < 0, at_start, still[before]) & still[after]
    return frozen


def anchors(frozen: Mask, have: Mask) -> Rows:
    """Give for each cell that was seen the first one that was seen since it froze: (step, parameter) -> rows.

    -1 where a weight was not frozen, or not seen.
    """
    found = np.full(frozen.shape, -1)
    current = np.full(frozen.shape[1], -1)
    for row in range(len(frozen)):
        current = np.where(have[row] & (current < 0), row, current)
        current[~frozen[row]] = -1
        found[row] = np.where(have[row], current, -1)
    return found


def strayed(rows: xr.Dataset, updates: xr.DataArray | None, frozen: Mask) -> Mask:
    """Whether statistics or updates tell that a weight left the values at which it froze: (step, parameter).

    Parameters
    ----------
    rows
        The statistics in `READ`, each (step, parameter), NaN where not recorded.
    updates
        l2 norm of each update (step, parameter), or None.
    frozen
        (step, parameter).
    """
    values = {name: rows[name].transpose(schema.STEP, schema.PARAMETER).values for name in READ}
    known = np.isfinite(values["std"]) & (values["nonfinite"] == 0)
    anchor = anchors(frozen, known)
    first = {name: np.take_along_axis(one, np.maximum(anchor, 0), axis=0) for name, one in values.items()}
    reach = np.maximum(np.abs(first["min"]), np.abs(first["max"]))
    moved = np.zeros(frozen.shape, dtype=bool)
    for name in (*_OF_VALUES, *_OF_SUMS):
        scale = reach if name in _OF_VALUES else np.abs(first[name])
        moved |= np.abs(values[name] - first[name]) > _NOISE * scale
    moved &= anchor >= 0
    if updates is not None:
        since = frozen & np.vstack([np.zeros_like(frozen[:1]), frozen[:-1]])  # the freeze may follow the first update
        moved |= since & (updates.transpose(schema.STEP, schema.PARAMETER).values > 0)
    return moved
