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
        while self._waiting and self._depth == 0:
            self._waiting.popleft()()

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call at once, or at the end of what is going on."""
        if self._depth:
            self._waiting.append(call)
        else:
            call()
