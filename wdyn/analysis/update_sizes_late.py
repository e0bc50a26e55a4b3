"""What is usual of each parameter's updates once training is on its way? Over the later half of the rows."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema

_MEDIANS = {
    "late_ratio": "update_ratio",
    "late_decay_share": "decay_share",
    "late_rotation_ratio": "rotation_ratio",
    "late_norm_ratio": "norm_ratio",
    "late_undone": "undone",
}


def late(result: xr.Dataset, trains: npt.NDArray[np.bool_]) -> dict[str, xr.DataArray]:
    """Sum up the later half of the rows, as far as a parameter was trainable and its learning rate above 0.

    Parameters
    ----------
    result
        What was measured over (step, parameter).
    trains
        (step, parameter): trainable.

    Returns
    -------
    dict
        By name, (parameter,): medians, ``late_cosine`` with ``late_cosine_error``, ``late_still`` and ``late_rows``.
    """
    half = result.sizes[schema.STEP] // 2
    ended = result.isel({schema.STEP: slice(half, None)})
    counted = ended["still"].copy(data=trains[half:]) & ~(ended["lr"] <= 0)
    rows = ended[[*_MEDIANS.values(), "update_cosine"]].where(counted)  # what is not counted is NaN, skipped below
    cosine, known = rows["update_cosine"], rows["update_cosine"].notnull().sum(schema.STEP)
    count = counted.sum(schema.STEP)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice|Mean of empty slice|Degrees of freedom", RuntimeWarning)
        found = {name: rows[source].median(schema.STEP) for name, source in _MEDIANS.items()}
        return found | {
            "late_cosine": cosine.mean(schema.STEP),
            "late_cosine_error": cosine.std(schema.STEP) / np.sqrt(known.where(known > 0)),
            "late_still": (ended["still"] & counted).sum(schema.STEP) / count.where(count > 0),
            "late_rows": count,
        }
