"""Where within their bins do the counted elements lie? The kernels, which know no names; counts are (..., bin).

Elements are taken to be spread evenly over their bin; those of the outermost bins stand at the infinities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import bins

Floats = npt.NDArray[np.float64]


def quantiles(counts: npt.NDArray[Any], *, shares: Floats) -> Floats:
    """Give the quantile of each share: (..., bin) -> (..., share)."""
    upto = np.cumsum(counts[..., : bins.NAN], axis=-1, dtype=np.float64)
    found = np.empty((*upto.shape[:-1], shares.size))
    for number, share in enumerate(shares):
        rank = share * (upto[..., -1] - 1)
        low, high = (_ordered(upto, whole) for whole in (np.floor(rank), np.ceil(rank)))
        part = rank - np.floor(rank)
        with np.errstate(invalid="ignore"):  # halfway between the infinities is NaN, as numpy has it
            mixed = (1 - part) * low + part * high
        found[..., number] = np.where(low == high, low, mixed)
    return found


def _ordered(upto: Floats, rank: Floats) -> Floats:
    """Estimate the element that has a rank, 0 for the smallest: (..., bin), (...) -> (...)."""
    at = np.minimum((upto <= rank[..., None]).sum(axis=-1), bins.NAN - 1)[..., None]
    filled = np.take_along_axis(upto, at, axis=-1)[..., 0]
    before = np.where(at > 0, np.take_along_axis(upto, np.maximum(at - 1, 0), axis=-1), 0)[..., 0]
    lower, width = spread()
    with np.errstate(invalid="ignore", divide="ignore"):  # where nothing was counted, 0/0 is NaN
        inside = (rank - before + 0.5) / (filled - before)
        found: Floats = lower[at[..., 0]] + inside * width[at[..., 0]]
    return found


def share_beyond(counts: npt.NDArray[Any], limit: Floats | float) -> Floats:
    """Give the share of elements beyond a limit: (..., bin), (...) -> (...)."""
    wide = np.asarray(counts[..., : bins.NAN], dtype=np.float64)
    at, part = place(np.nextafter(np.asarray(limit, dtype=np.float64), np.inf))  # > limit is >= the next number
    at, part = (np.broadcast_to(one, wide.shape[:-1])[..., None] for one in (np.minimum(at, bins.NAN - 1), part))
    above = np.cumsum(wide[..., ::-1], axis=-1)[..., ::-1]
    left = np.take_along_axis(above, at, axis=-1) - part * np.take_along_axis(wide, at, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):  # where nothing was counted, 0/0 is NaN
        share: Floats = left[..., 0] / above[..., 0]
    return share


def between(counts: npt.NDArray[Any], *, edges: Floats) -> Floats:
    """Count below the first edge, between each two, and above the last: (..., bin) -> (..., len(edges) + 1)."""
    wide = np.asarray(counts[..., : bins.NAN], dtype=np.float64)
    upto = np.cumsum(wide, axis=-1)
    at, part = place(np.append(edges[:-1], np.nextafter(edges[-1], np.inf)))
    under = upto[..., at] - (1 - part) * wide[..., at]
    ends = np.zeros((*wide.shape[:-1], 1))
    return np.diff(np.concatenate([ends, under, ends + upto[..., -1:]], axis=-1), axis=-1)


def folded(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Count magnitudes: (..., bin) -> (..., bin)."""
    both = counts.copy()
    both[..., bins.POSITIVE_UNDERFLOW : bins.NAN] += counts[..., bins.NEGATIVE_UNDERFLOW :: -1]
    both[..., : bins.ZERO] *= 0  # and not = 0, which would hide the NaN of what was not recorded
    return both


def place(values: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], Floats]:
    """Find the bin that holds a value, and the part of the bin's counts that lies below the value."""
    wide = np.asarray(values, dtype=np.float64)
    at = bins.bin_of(np.atleast_1d(wide)).reshape(wide.shape)
    lower, width = spread()
    with np.errstate(invalid="ignore", divide="ignore"):  # points have no width; they are told apart below
        part = (wide - lower[at]) / width[at]
    # What overflowed is taken to stand at the infinities themselves, and nothing is below the first or above the last.
    part = np.where(at == bins.NEGATIVE_OVERFLOW, wide > -np.inf, part)
    part = np.where(at == bins.POSITIVE_OVERFLOW, wide == np.inf, part)
    return at, np.where(at == bins.ZERO, 0.0, part)


def spread() -> tuple[Floats, Floats]:
    """Give where each bin begins and how wide it is: the overflow bins are points at the infinities, NaN is NaN."""
    lower, upper = bins.edges()
    lower[bins.POSITIVE_OVERFLOW], upper[bins.NEGATIVE_OVERFLOW] = np.inf, -np.inf
    width = np.zeros(bins.COUNT)
    finite = np.isfinite(lower) & np.isfinite(upper)
    width[finite] = upper[finite] - lower[finite]
    width[bins.NAN] = np.nan
    return lower, width
