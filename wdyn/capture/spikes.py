"""Did a logged number just jump, so that the next steps are worth a row?"""

from __future__ import annotations

import math
import statistics
from collections import deque

from wdyn.capture.schedule import Schedule
from wdyn.errors import InvalidArgument


def spike(name: str, *, factor: float = 2.0, window: int = 100, rows: int = 1) -> Schedule:
    """Due right after the number logged as `name` jumped, or stopped to be finite.

    A jump goes beyond ``m + (factor - 1) * |m|``, where m is the median of the last `window` finite values: for
    positive numbers, beyond `factor` times their median. The next jump counts once a value was below that again, so a
    loss that stays high, or NaN, gives rows once. Values are judged from the tenth on, or once a shorter `window` is
    full; a NaN or an infinity is seen from the first.

    What lies on a device is not read, since training would wait for it: log ``loss=loss.item()`` where the loop reads
    it anyway. Of a value logged while a step is being made, or in a loop without an optimizer, the row comes one step
    later.

    Parameters
    ----------
    name
        As in ``w.log(loss=...)``; `wdyn.watch_clipping` logs ``grad_norm``.
    factor
        How far beyond the median is a jump; more than 1.
    window
        How many values the median is of.
    rows
        How many steps in a row are due after each jump.

    Raises
    ------
    InvalidArgument
        `factor` is not more than 1, or `window` or `rows` is no positive whole number.
    """
    if not factor > 1:
        raise InvalidArgument(f"spike({name!r}, factor={factor!r}): needed is more than 1, as in factor=2")
    for argument, count in (("window", window), ("rows", rows)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InvalidArgument(f"spike({name!r}, {argument}={count!r}): needed is a whole number, 1 or more")
    one = Spike(name, factor=factor, window=window, rows=rows)
    return Schedule(one.due, f"spike({name!r}, factor={factor:g})", (one,))


class Spike:
    """The last values of one logged number, and whether they jumped."""

    FIRST_JUDGED = 10

    def __init__(self, name: str, *, factor: float, window: int, rows: int) -> None:
        self._name, self._factor, self._rows = name, factor, rows
        self._recent: deque[float] = deque(maxlen=window)
        self._enough = min(window, self.FIRST_JUDGED - 1)
        self._high = self._jumped = False
        self._last_due = -1

    def due(self, step: int) -> bool:
        """Whether `step` is one of those right after a jump."""
        if self._jumped:
            self._jumped, self._last_due = False, step + self._rows - 1
        return step <= self._last_due

    def heard(self, name: str, value: float) -> None:
        """Compare a value with those before it."""
        if name != self._name:
            return
        high = not math.isfinite(value) or self._is_beyond(value)
        self._jumped |= high and not self._high
        self._high = high
        if math.isfinite(value):
            self._recent.append(value)

    def spent(self, seconds: float) -> None:
        """Learn nothing: a jump is due whatever a row costs."""

    def _is_beyond(self, value: float) -> bool:
        if len(self._recent) < self._enough:
            return False
        middle = statistics.median(self._recent)
        return value > middle + (self._factor - 1) * abs(middle)
