"""How does growth go with layer and with time? The kernels, which know no names."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]

_MOVED = 0.01  # |log growth| below which a layer counts as still


def log_slope(growth: Floats, layer: npt.NDArray[np.int64]) -> Floats:
    """Fit log(growth) = a + slope * layer: (..., layer) -> (...); NaN with fewer than two positive values."""
    known = np.isfinite(growth) & (growth > 0)  # a layer that lacks the role, or collapsed to 0, has no log
    x, squares = _centred(layer, known)
    products = (x * np.log(np.where(known, growth, 1.0))).sum(axis=-1)
    return _quotient(products, squares, among=known.sum(axis=-1) >= 2)


def rank_correlation(growth: Floats, layer: npt.NDArray[np.int64]) -> Floats:
    """Spearman's correlation of growth with layer: (..., layer) -> (...); NaN below three values or without spread."""
    known = np.isfinite(growth)  # layers that lack the role have no rank: they stand behind all others
    places = np.broadcast_to(layer, growth.shape)
    x, squares = _centred(rankdata(np.where(known, places, np.inf), axis=-1), known)
    y, others = _centred(rankdata(np.where(known, growth, np.inf), axis=-1), known)
    return _quotient((x * y).sum(axis=-1), np.sqrt(squares * others), among=known.sum(axis=-1) >= 3)


def _centred(values: npt.NDArray[Any], known: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Give the distance of known values from their mean, 0 for others, and the sum of its squares."""
    count = np.maximum(known.sum(axis=-1, keepdims=True), 1)
    mean = np.where(known, values, 0.0).sum(axis=-1, keepdims=True) / count
    x = np.where(known, values - mean, 0.0)
    return x, (x**2).sum(axis=-1)


def _quotient(above: Floats, below: Floats, *, among: npt.NDArray[np.bool_]) -> Floats:
    fits = among & (below > 0)
    return np.where(fits, above / np.where(fits, below, 1.0), np.nan)


def half_step(growth: Floats, step: npt.NDArray[np.int64]) -> float:
    """Find where |log(growth)| first passed half of its final value: (step,) -> number; NaN for what hardly moved."""
    known = np.isfinite(growth) & (growth > 0)  # steps at which this role was not recorded
    if not known.any():
        return float("nan")
    steps, way = step[known], np.abs(np.log(growth[known]))
    half = way[-1] / 2
    at = int(np.argmax(way >= half))
    if way[-1] < _MOVED or at == 0:
        return float("nan")
    share = (half - way[at - 1]) / (way[at] - way[at - 1])
    return float(steps[at - 1] + share * (steps[at] - steps[at - 1]))


def lead(half: Floats) -> float:
    """Say by how much the early layers are ahead: (layer,) half steps -> steps; NaN with fewer than three known."""
    known = half[np.isfinite(half)]  # layers that hardly moved have none
    third = known.size // 3
    return float(known[-third:].mean() - known[:third].mean()) if third else float("nan")
