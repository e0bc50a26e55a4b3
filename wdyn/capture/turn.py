"""When may a signal have its way? At once, or as soon as what it interrupted is whole again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Turn:
    """A context manager: what a signal asks for inside of it is done at its end. It may be entered within itself."""

    def __init__(self) -> None:
        self._depth = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._waiting:
            self._call_waiting()

    @property
    def is_taken(self) -> bool:
        """Whether something is going on."""
        return self._depth > 0

    def at_end(self, call: Callable[[], None]) -> None:
        """Call at the end of what is going on; at once, if that has just ended."""
        self._waiting.append(call)
        self._call_waiting()

    def _call_waiting(self) -> None:
        while self._depth == 0:
            try:
                call = self._waiting.popleft()
            except IndexError:  # none is left, perhaps since another thread was quicker
                return
            call()
