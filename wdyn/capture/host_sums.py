"""How are tensors in host memory measured at the speed of memory? Piece by piece, on every core.

The compiled kernel needs numba (``pip install wdyn[fast]``) and is several times faster than whole-array operations,
which give the same numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock

import numpy as np
import numpy.typing as npt

from wdyn import bins
from wdyn.capture.layout import Aligned, pieces
from wdyn.capture.plain import BATCH, TOGETHER, PlainKernel, narrow
from wdyn.capture.sums import NAMES, Sums, join
from wdyn.capture.threads import share

Counts = npt.NDArray[np.int64]
Kernel = Callable[[Sequence[Aligned]], tuple[Sums, Counts]]
"""Gives the sums and the counts by code of a batch of pieces."""

WORTH_COMPILING = 1 << 24
"""Elements from which on the compiled kernel is loaded; loading it takes longer than it saves for fewer."""


@dataclass(frozen=True)
class Way:
    """A way to measure: what makes a kernel for one thread, and what such a kernel is given at once."""

    make: Callable[[], Kernel]
    piece: int
    together: int


PLAIN = Way(PlainKernel, piece=BATCH, together=TOGETHER)


def host_sums(populations: Sequence[Aligned], *, way: Way | None = None) -> tuple[Sums, Counts]:
    """Measure host tensors, or their differences to others of their shape; complex numbers by their modulus.

    Parameters
    ----------
    populations
        Of each a tensor, or a tensor and what is subtracted.
    way
        How to do it; default: what suits that many elements.

    Returns
    -------
    sums, counts
        (population, `sums.NAMES`) and (population, `bins.CODES`).
    """
    elements = sum(population[0].numel() for population in populations)
    way = way or best_way(elements)
    cut = [list(pieces(population, size=way.piece)) for population in populations]
    owner = np.repeat(np.arange(len(cut)), [len(some) for some in cut])
    sums = np.empty((len(owner), len(NAMES)))
    counts = np.zeros((len(cut), bins.CODES), dtype=np.int64)
    lock = Lock()

    def work(numbered: Iterator[tuple[int, Sequence[Aligned]]]) -> None:
        kernel = way.make()
        for start, batch in numbered:
            these = slice(start, start + len(batch))
            sums[these], found = kernel(batch)
            with lock:
                for population, row in zip(owner[these], found, strict=True):
                    counts[population] += row

    share(list(batches([piece for some in cut for piece in some], way=way)), work, elements=elements)
    return join(sums, sizes=np.array([len(some) for some in cut], dtype=np.int64)), counts


def best_way(elements: int) -> Way:
    """Choose how to measure this many elements."""
    loaded = "wdyn.capture.compiled" in sys.modules
    return _compiled_or_plain() if loaded or elements >= WORTH_COMPILING else PLAIN


@cache
def _compiled_or_plain() -> Way:
    try:
        from wdyn.capture.compiled_kernel import compiled_kernel
    except ImportError:
        return PLAIN
    return Way(lambda: compiled_kernel, piece=1 << 20, together=1)


def batches(cut: Iterable[Aligned], *, way: Way) -> Iterator[tuple[int, list[Aligned]]]:
    """Group neighbours of one kind, each group with the number of its first piece."""
    batch: list[Aligned] = []
    start = size = 0
    kind = False
    for number, piece in enumerate(cut):
        length, own = piece[0].numel(), narrow(piece)
        size += length
        if batch and (size > way.piece or len(batch) == way.together or own != kind):
            yield start, batch
            start, size, batch = number, length, []
        batch.append(piece)
        kind = own
    if batch:
        yield start, batch
