"""How long is waited for what other processes give of a step?"""

from __future__ import annotations

import time
from collections.abc import Callable

from wdyn.rows import Batch
from wdyn.store.sink import Sink
from wdyn.store.trouble import LateProcess

LATE_SECONDS = 30.0
"""A process that has given nothing for so long may never do so."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1  # seconds between two looks


def await_others(
    sink: Sink,
    batch: Batch,
    *,
    patience: Callable[[], float],
    meanwhile: Callable[[], None],
    at_last: Callable[[], None],
) -> None:
    """Wait until a batch can be appended; call `meanwhile` between two looks, and `at_last` before giving up.

    Raises
    ------
    LateProcess
        A process has kept it waiting for `patience` seconds, and wrote nothing meanwhile.
    """
    since, seen, pause = time.monotonic(), -1, _FIRST_PAUSE
    while late := sink.late(batch):
        meanwhile()
        if (held := sink.progress(batch)) != seen:  # who is late is at work
            since, seen = time.monotonic(), held
        if (waited := time.monotonic() - since) >= patience():
            at_last()
            raise LateProcess(f"{late} for {waited:.0f} s")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
