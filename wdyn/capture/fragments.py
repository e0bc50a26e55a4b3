"""What of the cells of a tensor lies in one piece of it?

A process that holds a block of a fused weight measures the parts of that block, and the processes' numbers are joined
afterwards. Where a block begins or ends within a run of a cut, that run gives a fragment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

from wdyn.capture.partition import Cut, Partition
from wdyn.capture.pieces import Piece


def fragments(partitions: Mapping[str, Partition], pieces: Mapping[str, Piece]) -> dict[str, Partition]:
    """Cut pieces as the whole tensors are cut, by name: parts of which nothing lies there have no cells."""
    return {name: _within(cut, pieces[name]) for name, cut in partitions.items() if name in pieces}


def _within(partition: Partition, piece: Piece) -> Partition:
    """The partition of one piece; its parts are those of the whole, in their order."""
    cells: list[tuple[Cut, ...]] = []
    became: list[range] = []
    for cuts in partition.cells:
        first = len(cells)
        cells += product(*(list(_shortened(cut, piece)) for cut in cuts))
        became.append(range(first, len(cells)))
    parts = (replace(part, cells=tuple(at for cell in part.cells for at in became[cell])) for part in partition.parts)
    return Partition(tuple(cells), tuple(parts))


def _shortened(cut: Cut, piece: Piece) -> Iterator[Cut]:
    """A cut of the whole as cuts of a piece: what is left of a first run, of whole ones, and of a last one."""
    start, length = piece.start[cut.axis], piece.size[cut.axis]
    stop = start + length
    first_whole, behind_whole = -(-start // cut.period), stop // cut.period
    if first_whole < behind_whole:
        runs = ((start, first_whole * cut.period), (behind_whole * cut.period, stop))
        within = first_whole * cut.period - start, (behind_whole - first_whole) * cut.period
        yield replace(cut, within=within)
    else:  # at most the end of one run and the beginning of the next
        border = min(max(behind_whole * cut.period, start), stop)
        runs = ((start, border), (border, stop))
    for begin, end in runs:
        low = max(begin, begin // cut.period * cut.period + cut.start)
        high = min(end, begin // cut.period * cut.period + cut.start + cut.size)
        if low < high:
            yield Cut(cut.axis, high - low, 0, high - low, within=(low - start, high - low))
