"""How is a user told of something, once, without a risk for the training?"""

from __future__ import annotations

import sys
import warnings

from wdyn.errors import WdynWarning

_INNER = ("wdyn", "torch", "contextlib")


class Teller:
    """Warns, once for each message, at the user's own line.

    Parameters
    ----------
    who
        Says who tells, where several processes may.
    """

    def __init__(self, who: str = "") -> None:
        self._who = who
        self._told: set[str] = set()

    def tell(self, message: str) -> None:
        """Warn of `message`; where warnings are errors, write it to stderr: it must not end the training."""
        if message in self._told:
            return
        self._told.add(message)
        message = self._who + message
        try:
            warnings.warn(message, WdynWarning, stacklevel=_outside())
        except WdynWarning:
            sys.stderr.write(f"WdynWarning: {message}\n")


def unsaid(message: str) -> None:
    """Tell nobody: another process says the same."""


def _outside() -> int:
    """Count the frames from a call of `warn` to the first one outside of wdyn and torch: the user's own line."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INNER:
        level, frame = level + 1, frame.f_back
    return level
