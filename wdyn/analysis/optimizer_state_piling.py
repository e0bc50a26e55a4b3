"""Do gradients pile up, as they do where nobody resets them?

Without ``zero_grad`` the gradient that step t uses is the sum of all gradients so far. As long as they point the same
way, its norm is t times that of the first: a straight line through the origin, with the first norm as its slope.
Gradients that grow for another reason grow at another pace, or not in a line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pile:
    """How the norms rise from the first row on.

    Attributes
    ----------
    rows
        Count of rows in the line, the first one included; 0 where there is none.
    last
        The step at which it ends.
    growth
        Last norm over first norm.
    pace
        Slope of the line over the slope of a pile of gradients like the first one: 1 where equal gradients add up.
    straightness
        R^2 of the least-squares line.
    """

    rows: int = 0
    last: int = -1
    growth: float = np.nan
    pace: float = np.nan
    straightness: float = np.nan


def pile(steps: npt.NDArray[np.int64], norms: Floats, *, straightness: float, least_rows: int) -> Pile:
    """Find the longest straight rise that begins at the first row.

    Parameters
    ----------
    steps, norms
        (row), steps from 1 on, and the norm of the gradient that each of them used. One that is not
        finite ends the line.
    straightness
        R^2 that the line must have.
    least_rows
        Rows that it must have.
    """
    finite = np.isfinite(norms)
    known = len(norms) if finite.all() else int(finite.argmin())
    norms = norms[:known]
    if known < least_rows or norms[0] <= 0:
        return Pile()
    slopes, squares = _lines(steps[:known].astype(np.float64), norms)
    straight = np.flatnonzero((squares >= straightness) & (slopes > 0) & (np.arange(known) >= least_rows - 1))
    if not straight.size:
        return Pile()
    end = int(straight[-1])
    pace = float(slopes[end] * steps[0] / norms[0])
    return Pile(end + 1, int(steps[end]), float(norms[end] / norms[0]), pace, float(squares[end]))


def _lines(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Fit a line to the first n points, for every n: slopes and R^2, NaN where there is no line."""
    x, y, n = x - x[0], y - y[0], np.arange(1, len(x) + 1)
    both = np.cumsum(x * y) - np.cumsum(x) * np.cumsum(y) / n
    of_x = np.cumsum(x * x) - np.cumsum(x) ** 2 / n
    of_y = np.cumsum(y * y) - np.cumsum(y) ** 2 / n
    with np.errstate(invalid="ignore", divide="ignore"):
        return both / of_x, both**2 / (of_x * of_y)
