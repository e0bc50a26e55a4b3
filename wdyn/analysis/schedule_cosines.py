"""Which cosine goes through these learning rates: whole waves, falls with hard restarts, or one rise and one fall?

The formula is lr_min + (lr_max - lr_min) / 2 (1 + cos(2 pi C t / T)) (Loshchilov and Hutter, SGDR, 2017, with C whole
cycles in T steps): half a cycle is the plain decay. Amplitude and offset are linear given the rest, so the search has
only the period to find (variable projection, Golub and Pereyra, 1973).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import optimize

from wdyn.analysis.schedule_curves import SAME, Curve, Floats

Ints = npt.NDArray[np.int64]

_POINTS = 400  # as many as find the period; all are compared with the result
_MOST_CYCLES = 50.0
_PER_CYCLE = 4  # points that a cycle must have to be told from a slower one
_MULTIPLES = (1, 2, 3)  # by which periods grow from restart to restart
_PHASE = 1e-3  # of a radian: a peak this little after the first row is at the first row


def cosine(t: Floats, y: Floats) -> Curve:
    """Fit whole waves of any phase."""
    chosen = np.unique(np.linspace(0, len(t) - 1, _POINTS).astype(int))
    span = t[-1] - t[0]
    u, values = (t[chosen] - t[0]) / span, y[chosen]

    def missed(cycles: float) -> float:
        return float(((values - _wave(u, cycles) @ _weights(u, values, cycles)) ** 2).sum())

    most = min(_MOST_CYCLES, len(chosen) / _PER_CYCLE)
    grid = np.r_[np.geomspace(0.01, 0.5, 16), np.arange(0.6, max(most, 0.7), 0.1)]
    best = int(np.argmin([missed(cycles) for cycles in grid]))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    cycles = float(optimize.minimize_scalar(missed, bounds=around, method="bounded", options={"xatol": 1e-12}).x)
    offset, along, across = map(float, _weights(u, values, cycles))
    size, phase = float(np.hypot(along, across)), float(np.arctan2(across, along))
    if phase > _PHASE:
        phase -= 2 * np.pi  # the peak before the first row
    period = span / cycles
    start = t[0] + phase / (2 * np.pi) * period
    return Curve(
        lambda at: offset + size * np.cos(2 * np.pi * (at - start) / period),
        4, offset + size, offset - size, start, start + period / 2, period,
    )  # fmt: skip


def restarts(t: Floats, y: Floats) -> Curve | None:
    """Fit half cosines that fall and begin anew; wherever the rate rises is a restart."""
    begun = np.flatnonzero(np.diff(y) > SAME) + 1
    if not 1 <= len(begun) <= _MOST_CYCLES or np.diff(begun).min(initial=2) < 2:
        return None  # a rise of two rows is a climb
    number = np.searchsorted(begun, np.arange(len(y)), side="right")
    fits = [_falls(t, y, number, begun, multiple) for multiple in _MULTIPLES]
    sound = [fit for fit in fits if fit.period > 0]
    return min(sound, key=lambda fit: float(np.abs(fit.at(t) - y).max()), default=None)


def _falls(t: Floats, y: Floats, number: Ints, begun: Ints, multiple: int) -> Curve:
    """Fit falls whose period is `multiple` times that of the one before; `number` tells the fall of each row."""
    lengths = np.array([float(multiple) ** one for one in range(len(begun) + 1)])
    sums = np.r_[0.0, lengths.cumsum()]
    seen = (t[begun - 1] + t[begun]) / 2
    guess = np.polyfit(sums[1 : len(begun) + 1], seen, 1)[::-1] if len(begun) > 1 else [t[0], seen[0] - t[0]]

    def cosines(place: Floats, times: Floats, which: Ints) -> Floats:
        start, period = place
        return np.asarray(np.cos(np.pi * (times - start - period * sums[which]) / (period * lengths[which])))

    def design(place: Floats) -> Floats:
        return np.stack([np.ones_like(t), cosines(place, t, number)], axis=1)

    def missed(place: Floats) -> Floats:
        wave = design(place)
        return np.asarray(y - wave @ np.linalg.lstsq(wave, y, rcond=None)[0])

    place = optimize.least_squares(missed, guess, xtol=1e-15, ftol=1e-15, gtol=1e-15).x
    offset, size = map(float, np.linalg.lstsq(design(place), y, rcond=None)[0])
    start, period = map(float, place)
    borders = start + period * sums[1:-1]

    def at(times: Floats) -> Floats:
        # A row just at a border belongs to the fall that it was seen in, whatever the last digit of the border says.
        which = np.searchsorted(borders, times + 1e-6 * period, side="right")
        return offset + size * cosines(place, times, which)

    end = start + period * float(sums[-1])
    return Curve(at, 4, offset + size, offset - size, start, end, period, float(multiple))


def one_cycle(t: Floats, y: Floats) -> Curve | None:
    """Fit one rise and one fall, each half a cosine (Smith, 2018)."""
    top = int(np.argmax(y))
    if top < 6 or len(y) - top < 6:
        return None
    rise, fall = cosine(t[: top + 1], y[: top + 1]), cosine(t[top + 1 :], y[top + 1 :])
    border = t[top]
    if not t[top - 1] < fall.start < t[top + 1]:
        return None  # a wave of another phase, which imitates many a rise
    return Curve(
        lambda at: np.where(at <= border, rise.at(at), fall.at(at)),
        8, fall.peak, fall.floor, fall.start, fall.horizon, fall.period,
    )  # fmt: skip


def _wave(u: Floats, cycles: float) -> Floats:
    angle = 2 * np.pi * cycles * u
    return np.stack([np.ones_like(u), np.cos(angle), np.sin(angle)], axis=1)


def _weights(u: Floats, values: Floats, cycles: float) -> Floats:
    return np.asarray(np.linalg.lstsq(_wave(u, cycles), values, rcond=None)[0])
