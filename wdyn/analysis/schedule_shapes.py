"""Which schedule gave these learning rates? A warmup, a hold and a decay, the simplest that goes through all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import optimize

from wdyn.analysis import schedule_cosines, schedule_curves
from wdyn.analysis.schedule_curves import SAME, Curve, Floats

CONSTANT, STEPS, LINEAR, EXPONENTIAL = "constant", "step", "linear", "exponential"
INVERSE_SQRT, COSINE, RESTARTS, ONE_CYCLE, OTHER = "inverse_sqrt", "cosine", "cosine_restarts", "one_cycle", "other"

EXACT: Final = 1e-7
"""Share of the largest rate below which a fit leaves nothing to explain: what rounding to float32 does."""

_LEAST_FLAT = 3  # equal rows that make a hold, or a tail
_BEYOND = 0.05  # share of the largest rate by which a cosine may pass what was seen
_STRAIGHT = 1e-6  # share of the largest rate by which rows of a warmup may miss its line


@dataclass(frozen=True)
class Shape:
    """A schedule, with its parameters in units of steps and of learning rate; NaN where it has none.

    Attributes
    ----------
    name
        One of the words above.
    fitted
        What the schedule gives at the rows it was recognised from.
    residual
        Largest distance of a row from it, as a share of the largest rate.
    warmup
        Steps made below the peak, on the line that leads to it.
    hold
        Steps at the peak before it falls.
    cycles
        C: whole cosines from the warmup to the last step; of restarts, how many falls.
    """

    name: str
    fitted: Floats
    residual: float
    warmup: float = 0.0
    hold: float = 0.0
    peak: float = np.nan
    floor: float = np.nan
    horizon: float = np.nan
    cycles: float = np.nan
    period: float = np.nan
    factor: float = np.nan


_Fit = Callable[[Floats, Floats], Curve | None]
_KINDS: tuple[tuple[str, _Fit], ...] = (  # the simplest first
    (CONSTANT, schedule_curves.constant),
    (LINEAR, schedule_curves.linear),
    (STEPS, schedule_curves.steps),
    (EXPONENTIAL, schedule_curves.exponential),
    (INVERSE_SQRT, schedule_curves.inverse_square_root),
    (RESTARTS, schedule_cosines.restarts),
    (COSINE, schedule_cosines.cosine),
    (ONE_CYCLE, schedule_cosines.one_cycle),
)
_FALL_TO_A_FLOOR = (LINEAR, COSINE)
_ALONE = (CONSTANT, STEPS, ONE_CYCLE)  # these have no hold, which would be one of their own levels


def recognise(steps: Floats, rates: Floats, *, tolerance: float = 1e-3) -> Shape:
    """Find the schedule of the rates (row,) that were used to reach `steps` (row,); all finite, in order.

    A fit that misses a row by more than `tolerance` of the largest rate is none: the shape is then "other".
    """
    scale = float(np.abs(rates).max(initial=0.0)) or 1.0
    t, y = steps - 1.0, rates / scale
    best = _other(y)
    for name, fit in _KINDS:
        for cut in _cuts(name, t, y):
            found = _composed(name, fit, t, y, cut)
            if found is not None and found.residual < best.residual:
                best = found
        if best.residual <= EXACT:
            break
    if best.residual > tolerance:
        best = _other(y, residual=best.residual)
    return replace(best, fitted=best.fitted * scale, peak=best.peak * scale, floor=best.floor * scale)


def _other(y: Floats, residual: float = np.inf) -> Shape:
    nothing = np.full_like(y, np.nan)
    return Shape(OTHER, nothing, residual, np.nan, np.nan, float(y.max()) if y.size else np.nan)


@dataclass(frozen=True)
class _Cut:
    """How many rows are warmup, up to where the peak is held, and from where on the floor is kept."""

    rising: int
    held: int
    fallen: int


def _cuts(name: str, t: Floats, y: Floats) -> Iterator[_Cut]:
    """Give each way to cut rows into warmup, hold, decay and floor, the plainest first."""
    count = len(y)
    for rising in sorted({0, _rising(t, y)}):
        flat = _flat(y[rising:])
        for held in sorted({0, flat if flat >= _LEAST_FLAT and name not in _ALONE else 0}):
            yield _Cut(rising, rising + held, count)
            fallen = count - _flat(y[rising + held :][::-1])
            if name in _FALL_TO_A_FLOOR and count - fallen >= _LEAST_FLAT:
                yield _Cut(rising, rising + held, fallen)


def _rising(t: Floats, y: Floats) -> int:
    """Count the first rows that lie on one rising line; 0 where two or all of them do not tell of a warmup."""
    slopes = np.diff(y) / np.diff(t)
    if len(slopes) < 2 or slopes[0] <= 0:
        return 0
    bent = np.abs(np.diff(slopes)) * np.diff(t)[1:] > _STRAIGHT
    count = 2 + (int(np.argmax(bent)) if bent.any() else len(bent))
    along = np.interp(t[:count], t[[0, count - 1]], y[[0, count - 1]])
    straight = np.abs(along - y[:count]).max() <= _STRAIGHT
    return count if straight and count < len(y) else 0


def _flat(y: Floats) -> int:
    """Count the first rows that are equal."""
    other = np.abs(y - y[:1]) > SAME
    return int(np.argmax(other)) if other.any() else len(y)


def _composed(name: str, fit: _Fit, t: Floats, y: Floats, cut: _Cut) -> Shape | None:
    """Fit the decay to its rows, and put warmup, hold and floor around it."""
    body = slice(cut.held, cut.fallen)
    if cut.fallen - cut.held < 2:
        return None
    curve = fit(t[body], y[body])
    if curve is None or cut.fallen - cut.held < curve.parameters + (2 if name != CONSTANT else 1):
        return None
    fitted = curve.at(t)
    fitted[: cut.rising] = y[: cut.rising]  # these are a line by construction
    level = y[cut.rising] if cut.held > cut.rising else np.nan
    fitted[cut.rising : cut.held] = level
    if cut.fallen < len(y):
        curve = _with_floor(name, curve, t, float(y[-1]))
        fitted[cut.fallen :] = curve.floor
    residual = float(np.abs(fitted - y).max())
    if name == COSINE and not -_BEYOND < curve.floor <= curve.peak < 1 + _BEYOND:
        return None  # a wave that is mostly outside what was seen imitates any bend
    warmup = _meeting(t, y, cut.rising, curve if np.isnan(level) else None, level)
    begun = _end_of_hold(t, curve, cut, float(level)) if cut.held > cut.rising else warmup
    if name == ONE_CYCLE:
        warmup = begun = curve.start
    return Shape(
        name, fitted, residual, warmup, max(0.0, begun - warmup), _peak(curve, t, y, begun),
        0.0 if abs(curve.floor) < EXACT else curve.floor, curve.horizon,
        _cycles(name, curve, made=float(t[-1]) + 1),
        curve.period, curve.factor,
    )  # fmt: skip


def _with_floor(name: str, curve: Curve, t: Floats, floor: float) -> Curve:
    """Let a line end at the floor that its last rows keep; a cosine has a floor of its own."""
    if name != LINEAR:
        return curve
    first, last = curve.at(t[[0, -1]])
    horizon = t[0] + (t[-1] - t[0]) * (floor - first) / (last - first)
    return replace(curve, floor=floor, horizon=float(horizon))


def _meeting(t: Floats, y: Floats, rising: int, curve: Curve | None, level: float) -> float:
    """Give the steps made when the line of the warmup meets what follows; 0 without a warmup."""
    if rising == 0:
        return 0.0
    slope = (y[rising - 1] - y[0]) / (t[rising - 1] - t[0])

    def below(at: float) -> float:
        follows = level if curve is None else float(curve.at(np.array([at]))[0])
        return float(follows - (y[0] + slope * (at - t[0])))

    low, high = float(t[rising - 1]), float(t[rising])
    if below(low) <= SAME:
        return low
    return float(optimize.brentq(below, low, high)) if below(high) < 0 else high


def _end_of_hold(t: Floats, curve: Curve, cut: _Cut, level: float) -> float:
    """Give the steps made when the rate leaves its hold."""
    if not np.isnan(curve.start):
        return curve.start
    low, high = float(t[cut.held - 1]), float(t[cut.held])
    above = float(curve.at(np.array([low]))[0]) - level
    if above <= SAME:
        return low
    fallen = float(curve.at(np.array([high]))[0]) - level
    return float(low + (high - low) * above / (above - fallen)) if fallen < 0 else high


def _peak(curve: Curve, t: Floats, y: Floats, begun: float) -> float:
    """Give the rate where the decay begins, which may lie between two rows."""
    if np.isnan(curve.start) and t[0] < begun < t[-1]:
        return float(curve.at(np.array([begun]))[0])
    return max(curve.peak, float(y.max()))


def _cycles(name: str, curve: Curve, *, made: float) -> float:
    """Count whole cosines, or falls, in the steps that were made."""
    if name == COSINE:
        return (made - curve.start) / curve.period
    if name != RESTARTS:
        return np.nan
    done, by = (made - curve.start) / curve.period, curve.factor
    if by == 1:
        return done
    # k falls take (by^k - 1) / (by - 1) first periods.
    whole = np.floor(np.log(done * (by - 1) + 1) / np.log(by) + SAME)
    return float(whole + (done - (by**whole - 1) / (by - 1)) / by**whole)
