"""How far apart are two states of one weight? The kernel, which knows no names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_BLOCK = 2**20  # values compared at once, so that the float64 copies stay small


def compare(first: npt.NDArray[Any], later: npt.NDArray[Any]) -> tuple[float, ...]:
    """Give change, norm, relative change, scale, off_scale and nonfinite of two arrays of one shape."""
    changed = along = start = norm = 0.0
    nonfinite = 0
    one, other = first.reshape(-1), later.reshape(-1)
    for at in range(0, one.size, _BLOCK):
        before, after = _exact(one[at : at + _BLOCK]), _exact(other[at : at + _BLOCK])
        nonfinite += int(after.size - np.isfinite(after).sum())
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is what shall be seen
            moved = after - before
        changed += _inner(moved, moved)
        along += _inner(moved, before)
        start += _inner(before, before)
        norm += _inner(after, after)
    change, size = math.sqrt(changed) if math.isfinite(changed) else math.nan, math.sqrt(norm)
    if start == 0 or math.isnan(change):
        return change, size if math.isfinite(size) else math.nan, math.nan, math.nan, math.nan, nonfinite
    # From the change, not from the weights: the difference of two norms of W would cancel to rounding noise.
    off_scale = math.sqrt(max(changed - along**2 / start, 0.0) / changed) if changed else math.nan
    return change, size, change / math.sqrt(start), 1 + along / start, off_scale, nonfinite


def _exact(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)


def _inner(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    return float(np.vdot(one, other).real)
