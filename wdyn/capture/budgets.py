"""How often may a row be recorded, if recording is to take no more than a share of the time?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from wdyn.capture.schedule import Announcing, Schedule
from wdyn.errors import InvalidArgument


def budget(share: float) -> Schedule:
    """Due as often as recording may be, if it is to take at most `share` of the wall time.

    Step 0 and the powers of two up to 64 are due whatever they cost. The clock starts after step 0; from then on all
    that the loop waits for counts, also what other schedules ask for and what is done before a step. So the share is
    exceeded by those first rows and one more at most, and the longer the training the less.

    Raises
    ------
    InvalidArgument
        Not 0 < share < 1.
    """
    if not 0 < share < 1:
        raise InvalidArgument(f"budget({share!r}): needed is a share of wall time between 0 and 1; budget(0.01) is 1 %")
    one = Budget(share)
    text = f"budget({share:g})"
    return Schedule(one.due, text, (one,), lambda others: _announced(Announced(one, others), text))


def _announced(one: Announced, text: str) -> Schedule:
    return Schedule(one.due, text, (one,))


class Budget:
    """Wall time so far, and what recording took of it."""

    LAST_CERTAIN = 64
    LONGEST_GAP = 1_000_000

    def __init__(self, share: float, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._share = share
        self._clock = clock
        self._start: float | None = None
        self._first = 0
        self._total = 0.0
        self._last = 0.0

    def due(self, step: int) -> bool:
        """Whether one more row, at the cost of the last one, stays within the share."""
        now = self._clock()
        if self._start is None:
            self._start, self._first = now, step
        if step <= self.LAST_CERTAIN:
            return step & (step - 1) == 0
        return self._total + self._last <= self._share * (now - self._start)

    def soonest(self, step: int) -> int:
        """Say when one more row will be within the share, if steps go on to take as long; `step` is the coming one."""
        now = self._clock()
        start = now if self._start is None else self._start
        missing = (self._total + self._last) / self._share - (now - start)
        if missing <= 0:
            return step
        each = (now - start) / max(1, step - self._first)
        return step + (min(self.LONGEST_GAP, math.ceil(missing / each)) if each > 0 else 1)

    def spent(self, seconds: float) -> None:
        """Count the cost of a row."""
        self._total += seconds
        self._last = seconds

    def heard(self, name: str, value: float) -> None:
        """Learn nothing: what is logged has no cost."""


class Announced:
    """A budget whose steps the first of several processes chooses for all, one row ahead."""

    def __init__(self, budget: Budget, others: Announcing) -> None:
        self._budget, self._others = budget, others
        self._number = self._next = -1

    def due(self, step: int) -> bool:
        """Whether `step` is the one that was chosen, or one of the certain ones."""
        certain = self._budget.due(step)
        if step <= Budget.LAST_CERTAIN:
            return certain
        if self._next < step:
            self._number += 1
            self._next = self._chosen(step)
        return step == self._next

    def spent(self, seconds: float) -> None:
        """Count the cost of a row."""
        self._budget.spent(seconds)

    def heard(self, name: str, value: float) -> None:
        """Learn nothing: what is logged has no cost."""

    def _chosen(self, step: int) -> int:
        if self._others.rank > 0:
            return self._others.announced(self._number)
        chosen = self._budget.soonest(step)
        self._others.announce(self._number, chosen)
        return chosen
