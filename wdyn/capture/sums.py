"""Which sums describe a population, and how do those of two parts join?

Everything is summed in float64 about a part's own mean, and parts are joined by the update formulas of Pébay (2008,
Sandia report SAND2008-6212, eqs. 2.1 and 3.1 to 3.3), so that nothing is lost to cancellation: E[x^2] - E[x]^2 is
never formed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

NAMES = ("n", "mean", "m2", "m3", "m4", "l1", "min", "max", "zeros", "nans", "infs")
"""Of the finite elements: count, mean, sums of the 2nd to 4th power of the deviation, sum of |x|, extremes, and count
of zeros; then the counts of what is not finite."""

Sums = npt.NDArray[np.float64]

EMPTY: Sums = np.array([0, 0, 0, 0, 0, 0, np.inf, -np.inf, 0, 0, 0], dtype=np.float64)


def merge(a: Sums, b: Sums) -> Sums:
    """Join the sums of two disjoint populations, each in the order of `NAMES`."""
    na, mean_a, m2a, m3a, m4a = a[:5]
    nb, mean_b, m2b, m3b, m4b = b[:5]
    n = na + nb
    if na == 0 or nb == 0:
        first = b[:5] if na == 0 else a[:5]
    else:
        d = mean_b - mean_a
        mean = mean_a + d * nb / n
        m2 = m2a + m2b + d**2 * na * nb / n
        m3 = m3a + m3b + d**3 * na * nb * (na - nb) / n**2 + 3 * d * (na * m2b - nb * m2a) / n
        m4 = (
            m4a
            + m4b
            + d**4 * na * nb * (na**2 - na * nb + nb**2) / n**3
            + 6 * d**2 * (na**2 * m2b + nb**2 * m2a) / n**2
            + 4 * d * (na * m3b - nb * m3a) / n
        )
        first = np.array([n, mean, m2, m3, m4])
    l1 = a[5] + b[5]
    return np.concatenate([first, [l1, min(a[6], b[6]), max(a[7], b[7])], a[8:] + b[8:]])


def merge_all(parts: Iterable[Sums]) -> Sums:
    """Join the sums of any number of disjoint populations."""
    total = EMPTY
    for part in parts:
        total = merge(total, part)
    return total
