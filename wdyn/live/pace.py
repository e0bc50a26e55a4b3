"""When may work that takes its time be done again?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHARE = 0.1
"""Of a processor, what one kind of work may take beside a training that goes on."""


class Pace:
    """Keeps one kind of work to a share of a processor: after a second at a tenth, it rests for nine.

    What counts is the time that the thread computed, not how long it had to wait for its turn.

    Parameters
    ----------
    share
        Between 0 and 1.
    clock, computed
        Give seconds: those that went by, and those that the thread was at work.
    """

    def __init__(
        self,
        share: float = SHARE,
        *,
        clock: Callable[[], float] = time.monotonic,
        computed: Callable[[], float] = time.thread_time,
    ) -> None:
        self._share, self._clock, self._computed = share, clock, computed
        self._free_at = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether it rested for long enough."""
        return self._clock() >= self._free_at

    @contextmanager
    def work(self) -> Iterator[None]:
        """Do the work, which counts also when it fails."""
        begun = self._computed()
        try:
            yield
        finally:
            self._free_at = self._clock() + (self._computed() - begun) * (1 / self._share - 1)
