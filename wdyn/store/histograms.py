"""How do the counts of histograms lie on disk? Each row is written once, as a chunk of its own.

A row is large while it lies open, and nearly all of it is zero: rewriting the rows of an unfinished chunk, as is done
for statistics, would cost far more than the counts themselves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.rows import Counts
from wdyn.store import encoding, metadata
from wdyn.store.disk import Disk
from wdyn.store.series import MISSING_COUNT
from wdyn.store.written import UNWRITTEN, Written

_CHUNK_BYTES = 4 * 2**20


class HistogramSeries:
    """One array (step, columns, bin), int64, where -1 is what was not recorded.

    Parameters
    ----------
    place, disk
        The folder of the array, and what writes there.
    column_dim, columns
        Name and present length of the second axis.
    bins
        Length of the third.
    chunk_columns
        Columns in a chunk; fixed for ever, so that more can be added later. Default: all, up to about 4 megabytes.
    """

    def __init__(
        self, place: str, *, disk: Disk, column_dim: str, columns: int, bins: int, chunk_columns: int | None = None
    ) -> None:
        self._place, self._disk = place, disk
        self._column_dim, self._columns, self._bins = column_dim, columns, bins
        self._width = chunk_columns or max(1, min(columns, _CHUNK_BYTES // (8 * bins)))
        self._written = Written()

    @classmethod
    def restored(cls, place: str, node: metadata.Node, *, disk: Disk) -> HistogramSeries:
        """Take up an array that is already on disk."""
        (rows, columns, bins), (_, width, _) = node["shape"], metadata.chunk_shape(node)
        dim = node["dimension_names"][1]
        series = cls(place, disk=disk, column_dim=dim, columns=columns, bins=bins, chunk_columns=width)
        series._written = Written.restored(node["attributes"], count=rows, across=series._across())
        return series

    def metadata(self, rows: int) -> metadata.Node:
        """Describe the array at a length of `rows`."""
        gaps = self._written.gaps(count=rows, across=self._across())
        return metadata.array(
            shape=(rows, self._columns, self._bins),
            chunk=(1, self._width, self._bins),
            dims=(schema.STEP, self._column_dim, schema.BIN),
            dtype="int64",
            fill=MISSING_COUNT,
            attributes={"missing_value": MISSING_COUNT, **({UNWRITTEN: gaps} if gaps else {})},
            codecs=metadata.SMALL,
        )

    def widen(self, columns: int) -> None:
        """Make room for more columns; rows so far have nothing there."""
        self._columns = max(self._columns, columns)

    def write(self, row: int, counts: Counts) -> None:
        """Write one row, if anything was recorded; columns behind those that are counted have nothing."""
        if len(counts.absent) == counts.shape[0]:
            return
        for at, start in enumerate(range(0, counts.shape[0], self._width)):
            block = _columns_of(counts, start, self._width)
            path = f"{self._place}/{metadata.chunk_key(row, at, 0)}"
            self._disk.write(path, encoding.small_chunk(block))
            self._written.add(row, at=at)

    def _across(self) -> int:
        """Count of chunks along the columns."""
        return -(-self._columns // self._width)


def _columns_of(counts: Counts, start: int, width: int) -> npt.NDArray[np.int64]:
    """Counts (column, bin) of `width` columns from `start` on; those that there are not have nothing."""
    columns, bins = counts.shape
    first, behind = np.searchsorted(counts.at, (start * bins, (start + width) * bins))
    block = np.zeros((width, bins), dtype=np.int64)
    block.ravel()[counts.at[first:behind] - start * bins] = counts.counts[first:behind]
    absent = counts.absent - start
    block[absent[(absent >= 0) & (absent < width)]] = MISSING_COUNT
    block[max(0, columns - start) :] = MISSING_COUNT
    return block
