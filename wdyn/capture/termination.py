"""What is done when a scheduler asks the program to end, before that does what it did anyway?"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

from wdyn.capture.turn import Turn
from wdyn.errors import InvalidArgument

_Handler = Callable[[int, FrameType | None], object] | int | None


def check_main_thread() -> None:
    """Refuse a thread in which Python lets nobody handle signals.

    Raises
    ------
    InvalidArgument
        This is not the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise InvalidArgument(
            "flush_on_sigterm=True in a thread: Python handles signals in the main thread alone; "
            "enter the block there, or leave flush_on_sigterm out"
        )


class Termination:
    """Flushes at SIGTERM, then does what the program did before at that signal; until `restore`.

    Parameters
    ----------
    flush
        Called first.
    turn
        During which a signal waits: it may come in the middle of the recording's own work.
    """

    def __init__(self, flush: Callable[[], object], *, turn: Turn) -> None:
        self._flush, self._turn = flush, turn
        self._ended = False
        self._before: _Handler = signal.getsignal(signal.SIGTERM)
        # What ignores the signal needs no flush; what is not of Python (None) could not be called, nor put back.
        if self._before not in (signal.SIG_IGN, None):
            signal.signal(signal.SIGTERM, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take the signal; have it sent again at the end of what the recording does in the middle of."""
        if self._turn.is_taken:  # perhaps by another thread, in which no signal can be handled
            self._turn.at_end(partial(os.kill, os.getpid(), number))
        else:
            self._flush_and_pass_on(number, frame)

    def restore(self) -> None:
        """Put back what was there before, unless somebody else has taken the signal since."""
        self._ended = True
        before = self._next()
        main = threading.current_thread() is threading.main_thread()  # elsewhere this one stays, and only passes on
        if main and signal.getsignal(signal.SIGTERM) is self:
            signal.signal(signal.SIGTERM, before)

    def _next(self) -> _Handler:
        """Give what takes the signal after this one, without those that have ended."""
        before = self._before
        while isinstance(before, Termination) and before._ended:
            before = before._before
        return before

    def _flush_and_pass_on(self, number: int, frame: FrameType | None) -> None:
        if not self._ended:
            self._flush()
        before = self._next()
        if callable(before):
            before(number, frame)
        else:  # the program is to end of the signal, and whoever waits for it is to see that
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
