"""What did clipping do, and which parameters own the gradient norm?"""

from __future__ import annotations

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.inputs import statistics_or_none
from wdyn.analysis.skipping import REMEDY, SKIPPED
from wdyn.schema import Quantity

NORM, COEFFICIENT = "grad_norm", "clip_coefficient"


def gradient_norms(run: xr.DataTree, scalars: xr.Dataset, table: xr.Dataset) -> xr.Dataset:
    """Give the clip ledger (step), and the share of the squared norm that each row of `table` owns (parameter)."""
    steps = scalars[schema.STEP]
    nothing = xr.DataArray(np.full(steps.size, np.nan), {schema.STEP: steps}, (schema.STEP,))
    norm, coefficient = (scalars.get(name, nothing).rename(name) for name in (NORM, COEFFICIENT))
    if coefficient.isnull().all():
        coefficient.attrs = {SKIPPED: "no clipping was logged", REMEDY: "with ..., wdyn.watch_clipping(w): ..."}
    clipped = coefficient.values < 1
    known = int(coefficient.notnull().sum())
    gradients = statistics_or_none(run, Quantity.GRADIENTS)
    share, strange = _shares(gradients, table)
    infinite = np.isinf(norm.values) | np.isin(steps.values, strange)
    return xr.Dataset(
        {
            NORM: norm,
            COEFFICIENT: coefficient,
            "norm_nonfinite": (schema.STEP, infinite),
            "clipped_share": clipped.sum() / known if known else np.nan,
            "coefficient": np.median(coefficient.values[clipped]) if clipped.any() else np.nan,
            "norm_share": share,
        }
    )


def _shares(gradients: xr.Dataset | None, table: xr.Dataset) -> tuple[xr.DataArray, np.ndarray]:
    """Give the mean share of each parameter over the rows, and the steps of rows that hold NaN or infinity."""
    names = {schema.PARAMETER: table[schema.PARAMETER].values}
    if gradients is None:
        why = {SKIPPED: "gradients were not recorded", REMEDY: "wdyn.watch(..., what=('weights', 'gradients'))"}
        return xr.DataArray(np.full(len(names[schema.PARAMETER]), np.nan), names, attrs=why), np.array([])
    rows = gradients[["l2", "nonfinite"]].load().reindex(names)
    odd = (rows["nonfinite"] > 0).any(schema.PARAMETER).values
    squares = rows["l2"].values[~odd] ** 2
    squares = np.where(np.isnan(squares), 0.0, squares)  # no gradient came: it owns nothing of the norm
    total = squares.sum(axis=1)
    share = squares[total > 0] / total[total > 0, None]
    mean = share.mean(axis=0) if len(share) else np.full(squares.shape[1], np.nan)
    return xr.DataArray(mean, names), rows[schema.STEP].values[odd]
