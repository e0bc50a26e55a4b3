"""How does growth go with layer and with time? The kernels, which know no names."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]

_MOVED = 0.01  # |log growth| below which a layer counts as still


def log_slope(growth: Floats, layer: npt.NDArray[np.int64]) -> float:
    """Fit log(growth) = a + slope * layer: (layer,) -> number; NaN with fewer than two positive values."""
    known = np.isfinite(growth) & (growth > 0)  # a layer that lacks the role, or collapsed to 0, has no log
    if known.sum() < 2:
        return float("nan")
    x = layer[known] - layer[known].mean()
    return float((x * np.log(growth[known])).sum() / (x**2).sum())


def rank_correlation(growth: Floats, layer: npt.NDArray[np.int64]) -> float:
    """Spearman's correlation of growth with layer: (layer,) -> number; NaN below three values or without spread."""
    known = np.isfinite(growth)  # layers that lack the role have no rank
    ranks = rankdata(growth[known])
    if known.sum() < 3 or np.ptp(ranks) == 0:
        return float("nan")
    return float(np.corrcoef(ranks, rankdata(layer[known]))[0, 1])


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
