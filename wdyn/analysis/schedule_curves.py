"""Which curve of one kind goes through these learning rates? One function a kind, each exact for its own kind.

Steps are counted as schedulers count: ``t`` steps were made before the one that used the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SAME = 1e-9
"""Rates that differ by less than this share of the largest one are equal: schedules are formulas, not measurements."""

_LEVELS = 32  # a staircase of more steps than this is told as what it approximates


@dataclass(frozen=True)
class Curve:
    """A formula with its parameters filled in; NaN where it has no such parameter.

    Attributes
    ----------
    at
        The learning rate after t steps.
    parameters
        How many numbers were fitted.
    peak, floor
        Highest and lowest rate that it goes to.
    start
        Steps made before it begins to fall, where the formula itself tells.
    horizon
        Steps made before it is first at its floor.
    period
        Steps of a whole cosine, between restarts (the first two), or between drops.
    factor
        By what each drop, each step of an exponential, or each restart's period is multiplied.
    """

    at: Callable[[Floats], Floats]
    parameters: int
    peak: float
    floor: float = np.nan
    start: float = np.nan
    horizon: float = np.nan
    period: float = np.nan
    factor: float = np.nan


def constant(t: Floats, y: Floats) -> Curve | None:
    """y = peak."""
    level = float(np.median(y))
    return Curve(lambda at: np.full_like(at, level), 1, level, level)


def linear(t: Floats, y: Floats) -> Curve | None:
    """A straight line; one that falls goes to 0 at its horizon."""
    slope, start = _line(t, y)
    if slope == 0:
        return None
    horizon = -start / slope if slope < 0 else np.nan
    peak = float(max(start + slope * t[[0, -1]]))
    return Curve(lambda at: start + slope * at, 2, peak, 0.0 if slope < 0 else np.nan, horizon=horizon)


def exponential(t: Floats, y: Floats) -> Curve | None:
    """Each step multiplies by one factor."""
    if (y <= 0).any():
        return None
    slope, start = _line(t, np.log(y))
    peak = float(np.exp(start + slope * t[0]))
    return Curve(lambda at: np.exp(start + slope * at), 2, peak, factor=float(np.exp(slope)))


def inverse_square_root(t: Floats, y: Floats) -> Curve | None:
    """y = a / sqrt(t + shift), so that y^-2 is a line."""
    if (y <= 0).any():
        return None
    slope, start = _line(t, y**-2)
    if slope <= 0 or start + slope * t[0] <= 0:
        return None
    # Below its own range, where a warmup may ask for it, the curve stays at its highest value.
    lowest = start + slope * t[0]
    return Curve(lambda at: np.maximum(start + slope * at, 0.25 * lowest) ** -0.5, 2, float(lowest**-0.5))


def steps(t: Floats, y: Floats) -> Curve | None:
    """Levels that last; each the one before times one factor, after one number of steps, where that is so."""
    changes = np.flatnonzero(np.abs(np.diff(y)) > SAME) + 1
    levels = y[np.r_[0, changes]]
    lengths = np.diff(np.r_[0, changes, len(y)])
    if not 1 <= len(changes) <= _LEVELS or np.median(lengths) < 2:
        return None
    factor = float(levels[1] / levels[0]) if levels[0] else np.nan  # nothing makes a level out of 0
    if not np.allclose(levels[1:], factor * levels[:-1], rtol=1e-6, atol=0):
        factor = np.nan
    period = _interval(t[changes - 1], t[changes])
    return Curve(
        lambda at: levels[np.searchsorted(t[changes], at, side="right")],
        len(levels) + 1, float(levels.max()), float(levels.min()), period=period, factor=factor,
    )  # fmt: skip


def _interval(last_before: Floats, first_after: Floats) -> float:
    """Give the d for which change k comes with step k d, if the rows on both sides of each change allow one."""
    number = np.arange(1, len(first_after) + 1)
    low, high = float((last_before / number).max()), float((first_after / number).min())
    whole = np.floor(high + SAME)
    if whole > low:
        return float(whole)
    return high if high > low else np.nan


def _line(t: Floats, y: Floats) -> tuple[float, float]:
    """Slope and value at 0 of the least-squares line."""
    centre, level = t.mean(), y.mean()
    away = t - centre
    slope = float((away * (y - level)).sum() / (away**2).sum())
    return slope, float(level - slope * centre)
