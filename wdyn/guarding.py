"""How does nothing that goes wrong in recording, and no forked child, get into the training loop?"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

from wdyn.capture.turn import Turn

_Method = TypeVar("_Method", bound=Callable[..., None])


class Guarded(Protocol):
    """What has guarded methods.

    Attributes
    ----------
    step
        The present one.
    alive
        Whether it still records.
    pid
        The process that it belongs to.
    turn
        Within which a signal waits.
    tell
        Tells the user.
    """

    step: int
    alive: bool
    pid: int
    turn: Turn
    tell: Callable[[str], None]

    def stopped(self) -> None:
        """Be told that an error ended the recording."""


def guarded(method: _Method) -> _Method:
    """Let no error of a method out into the training loop: it ends the recording instead, and then nothing is done.

    A forked child inherits the block, but neither the thread nor the lock, so there nothing is done either.
    """

    @wraps(method)
    def call(self: Guarded, /, *args: Any, **kwargs: Any) -> None:
        if not self.alive or os.getpid() != self.pid:
            return
        with self.turn:
            try:
                method(self, *args, **kwargs)
            except Exception as error:
                self.alive = False
                self.stopped()
                self.tell(
                    f"wdyn stopped recording after step {self.step}: {type(error).__name__}: {error}. Training goes "
                    f"on, and what was recorded before is kept"
                )

    return cast(_Method, call)
