"""How do all cores share the work on tensors in host memory?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import torch

_WORTH_THREADS = 1 << 22
_Item = TypeVar("_Item")


def share(items: Sequence[_Item], work: Callable[[Iterator[_Item]], None], *, elements: int) -> None:
    """Call `work` once on each thread, this one among them, with an iterator that gives each item to one of them.

    There are as many threads as torch has, or one where so few elements are not worth starting any.
    """
    threads = torch.get_num_threads() if elements >= _WORTH_THREADS else 1
    left = iter(items)  # the iterator of a sequence may be used by several threads
    with ThreadPoolExecutor(max(threads - 1, 1)) as others:
        started = []
        with suppress(RuntimeError):  # at the end of the program none can be started, and this one does it all
            started += [others.submit(work, left) for _ in range(threads - 1)]
        work(left)
        for one in started:
            one.result()
