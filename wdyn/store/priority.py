"""How does a thread leave the processors to the training loop?"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

_LATER = 10  # on Linux' scale from -20 to 19; a thread that is not nice gets about ten times the time


def step_back() -> None:
    """Let other threads go before this one, where the system gives each a priority of its own.

    Nobody but an administrator may take that back: work that has become urgent needs a new thread, which begins with
    the priority of the one that starts it.
    """
    if sys.platform.startswith("linux"):  # elsewhere it would be that of the whole process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LATER)
