"""Which chunks of an array were never written, because nothing was recorded in them?

A file that is not there would otherwise be taken for one that was lost, or the other way around.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

UNWRITTEN: Final = "unwritten"
"""Array attribute: for each chunk along the columns, which chunks along `step` were never written, as [first, behind];
it is not there where all of them were."""

Gaps = tuple[tuple[tuple[int, int], ...], ...]


class Written:
    """Chunks of an array that grows along `step`, as ranges for each chunk along its columns."""

    def __init__(self) -> None:
        self._ranges: list[list[list[int]]] = []

    @classmethod
    def restored(cls, attributes: Mapping[str, Any], *, count: int, across: int) -> Self:
        """Take up an array of `count` chunks along `step`, and `across` along its columns."""
        written = cls()
        written._ranges = [[[*one] for one in ranges(attributes, count=count, at=at)] for at in range(across)]
        return written

    def add(self, number: int, *, at: int = 0) -> None:
        """Note that a chunk was written, the last one or a later one."""
        while len(self._ranges) <= at:
            self._ranges.append([])
        ranges = self._ranges[at]
        if ranges and ranges[-1][1] >= number:
            ranges[-1][1] = max(ranges[-1][1], number + 1)
        else:
            ranges.append([number, number + 1])

    def has(self, number: int, *, at: int) -> bool:
        """Whether a chunk was written."""
        return at < len(self._ranges) and any(first <= number < behind for first, behind in self._ranges[at])

    def gaps(self, *, count: int, across: int) -> Gaps:
        """Give what the attribute holds at this many chunks; nothing where all of them were written."""
        found = tuple(_between(self._ranges[at] if at < len(self._ranges) else (), count) for at in range(across))
        return found if any(found) else ()


def ranges(attributes: Mapping[str, Any], *, count: int, at: int) -> tuple[tuple[int, int], ...]:
    """Tell which chunks along `step`, of `count`, were written in one chunk of columns, as (first, behind)."""
    gaps = attributes.get(UNWRITTEN, ())
    return _between(gaps[at] if at < len(gaps) else (), count)


def _between(ranges: Sequence[Sequence[int]], count: int) -> tuple[tuple[int, int], ...]:
    starts, ends = [0, *(behind for _, behind in ranges)], [*(first for first, _ in ranges), count]
    return tuple((start, min(end, count)) for start, end in zip(starts, ends, strict=True) if start < min(end, count))
