"""How far apart are two distributions of which the counts of bins are known?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import bins, schema
from wdyn.analysis.binned import check_counts, told
from wdyn.analysis.binned_kernels import Floats, spread

Integers = npt.NDArray[np.int64]

_AT_ONCE = 1 << 21
"""Counts that a kernel sees at one time: it needs some ten times their memory."""


def wasserstein(a: xr.DataArray, b: xr.DataArray) -> xr.DataArray:
    """Estimate the Wasserstein distance W1 of two distributions, as `scipy.stats.wasserstein_distance` defines it.

    The integral of abs(F_a - F_b) over all values (Vallender 1974), F being the shares at or below a value, linear
    within each bin.

    Error: at most (E|a| + E|b|) / 8 + 2^-126, where E|x| is the mean magnitude, ``l1 / count`` of the statistics: to
    spread a bin's elements evenly moves each by half its width at most on average, W1 is a metric, and a bin is at most
    a quarter of its smaller edge wide.

    Parameters
    ----------
    a, b
        Histograms with the dimension ``bin``, of any counts above 0; other dimensions are matched by name.

    Returns
    -------
    DataArray
        ``(...)``, in units of the values, >= 0. NaN where either was not recorded or holds nothing but NaN. Infinite
        where different shares are infinite; NaN where equal shares are, since how far they are apart is unknown. The
        coordinate ``nans`` counts the NaN of both, which are left out.

    Raises
    ------
    InvalidArgument
        One of them is no histogram on wdyn's bins.
    """
    return _of_two(transport, a, b)


def kolmogorov_smirnov(a: xr.DataArray, b: xr.DataArray) -> xr.DataArray:
    """Estimate the Kolmogorov-Smirnov distance, as the statistic of `scipy.stats.ks_2samp`, from below.

    The largest abs(F_a - F_b) at the edges of bins, F being the shares at or below a value.

    Error: the true distance is no smaller, and larger by at most the largest share that one bin holds of both: the
    maximum over bins of min(share of a, share of b).

    Parameters
    ----------
    a, b
        Histograms with the dimension ``bin``, of any counts above 0; other dimensions are matched by name.

    Returns
    -------
    DataArray
        ``(...)``, in [0, 1]. NaN where either was not recorded or holds nothing but NaN. The coordinate ``nans`` counts
        the NaN of both, which are left out.

    Raises
    ------
    InvalidArgument
        One of them is no histogram on wdyn's bins.
    """
    return _of_two(largest_gap, a, b)


def _of_two(kernel: Callable[..., Floats], a: xr.DataArray, b: xr.DataArray) -> xr.DataArray:
    check_counts(a)
    check_counts(b)
    found: xr.DataArray = xr.apply_ufunc(
        partial(in_pieces, kernel), a, b, input_core_dims=[[schema.BIN]] * 2, dask="parallelized",
        output_dtypes=[np.float64], dask_gufunc_kwargs={"allow_rechunk": True},
    )  # fmt: skip
    return told(found, a, b)


def in_pieces(
    kernel: Callable[..., Floats], a: npt.NDArray[Any], b: npt.NDArray[Any], *, kept: Integers | None = None
) -> Floats:
    """Apply a kernel to some rows at a time: (..., bin), (..., bin) -> (...); `kept` as `occupied` gives it."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    kept = np.arange(bins.NAN) if kept is None else kept
    if len(shape) == 1:
        return kernel(a, b, kept)
    a, b = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
    rows = max(1, _AT_ONCE // (prod(shape[1:-1]) * kept.size))
    return np.concatenate(
        [kernel(a[first : first + rows], b[first : first + rows], kept) for first in range(0, max(1, shape[0]), rows)]
    )


def occupied(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Integers:
    """Choose the bins that hold anything, those at the ends and around 0, and of each gap between them the first one.

    Across a gap the shares stay as they are, so that one bin can stand for it: most bins lie in one. Distances are the
    same, but for rounding.
    """
    held = np.zeros(bins.NAN, dtype=np.bool_)
    held[[bins.NEGATIVE_OVERFLOW, bins.NEGATIVE_UNDERFLOW, bins.ZERO, bins.POSITIVE_UNDERFLOW, bins.NAN - 1]] = True
    for counts in (a, b):
        held |= (counts[..., : bins.NAN] > 0).reshape(-1, bins.NAN).any(axis=0)
    return np.flatnonzero(held | np.concatenate([[False], held[:-1]]))


def largest_gap(a: npt.NDArray[Any], b: npt.NDArray[Any], kept: Integers) -> Floats:
    """Give the largest difference of the cumulative shares: (..., bin), (..., bin) -> (...)."""
    gap: Floats = np.abs(_shares(a.take(kept, axis=-1)) - _shares(b.take(kept, axis=-1))).max(axis=-1)
    return gap


def transport(a: npt.NDArray[Any], b: npt.NDArray[Any], kept: Integers) -> Floats:
    """Integrate the difference of the cumulative shares: (..., bin), (..., bin) -> (...)."""
    a, b = a.take(kept, axis=-1), b.take(kept, axis=-1)
    # Summed up from the outside on both sides, so that rounding stays small against the shares that are far out, which
    # are multiplied by wide bins.
    below, above = _shares(a) - _shares(b), (_shares(a[..., ::-1]) - _shares(b[..., ::-1]))[..., ::-1]
    zero = int(np.searchsorted(kept, bins.ZERO))
    begin = np.concatenate([below[..., : zero - 1], above[..., zero + 1 : -1]], axis=-1)
    end = np.concatenate([below[..., 1:zero], above[..., zero + 2 :]], axis=-1)
    width = np.add.reduceat(spread()[1][: bins.NAN], kept)
    moved = (_area(begin, end) * np.concatenate([width[1:zero], width[zero + 1 : -1]])).sum(axis=-1)
    uneven = (below[..., 0] != 0) | (above[..., -1] != 0)
    unknown = (a[..., [0, -1]] > 0).any(axis=-1)
    found: Floats = np.where(np.isnan(moved) | (unknown & ~uneven), np.nan, np.where(uneven, np.inf, moved))
    return found


def _area(begin: Floats, end: Floats) -> Floats:
    """Mean of abs(y) along the line from one y to another."""
    crosses = begin * end < 0
    apart = np.where(crosses, np.abs(begin - end), 1.0)
    area: Floats = np.where(crosses, (begin**2 + end**2) / (2 * apart), np.abs(begin + end) / 2)
    return area


def _shares(counts: npt.NDArray[Any]) -> Floats:
    """Share of elements in each bin and all before it; NaN where there are none: (..., bin) -> (..., bin)."""
    upto = np.cumsum(counts, axis=-1, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # 0/0 is NaN, which is the answer
        share: Floats = upto / upto[..., -1:]
    return share
