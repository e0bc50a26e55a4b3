"""How does one process say a word to the others through the store of their process group?"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wdyn.errors import CannotRecord

if TYPE_CHECKING:  # a torch that was built for one process does not have it
    from torch.distributed.distributed_c10d import Store

_LONGEST_LOOK = 0.25
"""Seconds from one look for a word to the next, at most."""


class Words:
    """What is said of one run.

    Which of several runs is meant is told by how many of them each process has entered together with the others, so
    these are entered in the same order by all.

    Parameters
    ----------
    store
        That of the process group.
    rank
        This process.

    Raises
    ------
    CannotRecord
        The store does not answer; so of each method.
    """

    def __init__(self, store: Store, *, rank: int) -> None:
        self._store = store
        with _reached():
            self._prefix = f"wdyn/{store.add(f'wdyn/entered/{rank}', 1)}"

    def say(self, key: str, value: Any) -> None:
        """Say to all what JSON can hold."""
        packed = base64.b64encode(zlib.compress(json.dumps(value).encode()))
        with _reached():
            self._store.set(f"{self._prefix}/{key}", packed.decode("ascii"))

    def get(self, key: str) -> Any:
        """Give what was said under a key; it must have been."""
        with _reached():
            packed = self._store.get(f"{self._prefix}/{key}")
        return json.loads(zlib.decompress(base64.b64decode(packed)))

    def has(self, keys: Sequence[str]) -> bool:
        """Whether something was said under all of some keys."""
        with _reached():
            return bool(self._store.check([f"{self._prefix}/{key}" for key in keys]))

    def wait(self, keys: Sequence[str], seconds: float) -> bool:
        """Wait until something was said under all of some keys; False where it was not in time.

        It looks again and again, and does not let the store wait: that could not be interrupted, and torch writes to
        stderr each time that it was in vain.
        """
        until, pause = time.monotonic() + seconds, 0.0005
        while not self.has(keys):
            if (left := until - time.monotonic()) <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(1.5 * pause, _LONGEST_LOOK)
        return True


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:  # of torch, whichever store it is
        raise CannotRecord(
            f"The store of the process group, through which the processes speak, does not answer: {error}. The process "
            f"that holds it, mostly the first, may have ended: see how"
        ) from error
