"""Which sums describe a population, and how do those of several parts join?

Everything is summed in float64 about a part's own mean, and parts are joined about their joint mean (the sums of
powers of `a + b`, multiplied out; for two parts these are the formulas of Pébay 2008, Sandia report SAND2008-6212,
eqs. 2.1 and 3.1 to 3.3), so that nothing is lost to cancellation: E[x^2] - E[x]^2 is never formed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

NAMES = ("n", "mean", "m2", "m3", "m4", "l1", "min", "max", "zeros", "nans", "infs")
"""Of the finite elements: count, mean, sums of the 2nd to 4th power of the deviation, sum of |x|, extremes, and count
of zeros; then the counts of what is not finite."""

Sums = npt.NDArray[np.float64]

EMPTY: Sums = np.array([0, 0, 0, 0, 0, 0, np.inf, -np.inf, 0, 0, 0], dtype=np.float64)


def join(parts: Sums, *, sizes: npt.NDArray[np.integer[Any]]) -> Sums:
    """Join the sums of disjoint populations, any number at once.

    Parameters
    ----------
    parts
        (part, `NAMES`): those of the first whole, then those of the second, and so on.
    sizes
        (whole,): how many parts each whole has; one of none is empty.

    Returns
    -------
    array
        (whole, `NAMES`); NaN where a part has NaN for its count.
    """
    joined = np.tile(EMPTY, (len(sizes), 1))
    some = sizes > 0
    if some.any():
        # Powers of what is beyond 1e77 leave float64: they become infinite, or NaN, and are shown so.
        with np.errstate(over="ignore", invalid="ignore"):
            joined[some] = _join(parts, sizes[some])
    return joined


def _join(parts: Sums, sizes: npt.NDArray[np.integer[Any]]) -> Sums:
    """Join, with no whole of no parts."""
    starts = np.cumsum(sizes) - sizes
    n, mean, m2, m3, m4 = parts.T[:5]
    total = np.add.reduceat(n, starts)
    share = n / np.repeat(np.where(total == 0, 1, total), sizes)
    joint = np.add.reduceat(share * mean, starts)
    joint += np.add.reduceat(share * (mean - np.repeat(joint, sizes)), starts)  # what rounding took
    lowest = np.minimum.reduceat(np.where(n == 0, np.inf, mean), starts)
    highest = np.maximum.reduceat(np.where(n == 0, -np.inf, mean), starts)
    joint = np.where(total == 0, 0, np.clip(joint, lowest, highest))  # the joint mean of equal ones is theirs
    d = np.where(n == 0, 0, mean - np.repeat(joint, sizes))
    moments = [
        total,
        joint,
        np.add.reduceat(m2 + n * d**2, starts),
        np.add.reduceat(m3 + 3 * d * m2 + n * d**3, starts),
        np.add.reduceat(m4 + 4 * d * m3 + 6 * d**2 * m2 + n * d**4, starts),
    ]
    low, high = np.minimum.reduceat(parts[:, 6], starts), np.maximum.reduceat(parts[:, 7], starts)
    added = np.add.reduceat(parts[:, [5, 8, 9, 10]], starts)
    return np.stack([*moments, added[:, 0], low, high, *added[:, 1:].T], axis=1)
