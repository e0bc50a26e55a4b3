"""How does one array grow along `step`, chunk by chunk?

The rows of the last, unfinished chunk are kept in memory; that chunk is rewritten whole, by rename, until it is full.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.errors import DamagedRun
from wdyn.store import encoding, metadata
from wdyn.store.disk import Disk
from wdyn.store.metadata import Node
from wdyn.store.written import UNWRITTEN, Gaps, Written

MISSING_COUNT = -1
_NONE = -1


class Series:
    """One array (step,) or (step, columns), float64 or int64, with the rows of its unfinished chunk.

    Parameters
    ----------
    place, disk
        The folder of the array, and what writes there.
    dtype
        ``float64``, where NaN is what was not recorded, or ``int64``, where -1 is.
    dims
        Names of its axes.
    chunk
        Shape of a chunk; fixed for ever, so that columns can be added later.
    columns
        Length of the second axis; not used for (step,).
    """

    def __init__(
        self, place: str, *, disk: Disk, dtype: str, dims: tuple[str, ...], chunk: tuple[int, ...], columns: int
    ) -> None:
        self.dtype = dtype
        self.long_name = ""
        self._place, self._disk = place, disk
        self._dims, self._chunk = dims, chunk
        self._fill = np.nan if dtype == "float64" else MISSING_COUNT
        self._tail: npt.NDArray[Any] = np.full((chunk[0], columns)[: len(dims)], self._fill, dtype)
        self._unwritten = False  # whether the disk knows less of the chunk than is kept here
        self._there = _NONE  # number of the last chunk that was written, or of which nothing was to be
        self._written = Written()

    @property
    def columns(self) -> int | None:
        """Length of the second axis; None where there is none."""
        return self._tail.shape[1] if self._tail.ndim > 1 else None

    def form(self, rows: int) -> tuple[object, ...]:
        """What arrays of one group have in common whose metadata is the same at a length of `rows`."""
        return self.dtype, self._dims, self.long_name, self._gaps(rows)

    def metadata(self, rows: int) -> metadata.Node:
        """Describe the array at a length of `rows`."""
        counted = self.dtype == "int64" and self.columns is not None
        attributes: dict[str, Any] = {"missing_value": MISSING_COUNT} if counted else {}
        if self.long_name:
            attributes["long_name"] = self.long_name
        if gaps := self._gaps(rows):
            attributes[UNWRITTEN] = gaps
        return metadata.array(
            shape=(rows, *self._tail.shape[1:]),
            chunk=self._chunk,
            dims=self._dims,
            dtype=self.dtype,
            fill="NaN" if self.dtype == "float64" else MISSING_COUNT,
            attributes=attributes,
            codecs=metadata.SMALL,
        )

    def put(self, rows: slice, values: npt.NDArray[Any]) -> None:
        """Set rows of the unfinished chunk: each a scalar, or at most as many values as there are columns."""
        if values.ndim > 1:
            self._tail[rows, : values.shape[1]] = values
        else:
            self._tail[rows] = values if self._tail.ndim == 1 else values[:, np.newaxis]
        # A chunk in which nothing was recorded is none at all: readers find its fill value.
        self._unwritten = self._unwritten or not self._is_missing(values)

    def widen(self, columns: int) -> None:
        """Make room for more columns; rows so far have nothing there."""
        if self.columns is not None and columns > self.columns:
            extra = columns - self.columns
            self._tail = np.pad(self._tail, ((0, 0), (0, extra)), constant_values=self._fill)

    def write(self, number: int) -> None:
        """Write the unfinished chunk as the one with this number along `step`, if it has changed."""
        if self._unwritten:
            write = self._disk.rewrite if number == self._there else self._disk.write
            for at, (key, block) in enumerate(self._blocks(number)):
                write(f"{self._place}/{key}", encoding.small_chunk(self._padded(block)))
                self._written.add(number, at=at)
        self._unwritten, self._there = False, number

    def clear(self) -> None:
        """Begin the next chunk."""
        self._tail[...] = self._fill

    def take_up(self, node: Node) -> None:
        """Know what the metadata of the array says: its true name, and which chunks it has."""
        self.long_name = node["attributes"].get("long_name", "")
        count = -(-node["shape"][0] // self._chunk[0])
        self._written = Written.restored(node["attributes"], count=count, across=self._across())

    def read(self, number: int, *, kept: int) -> None:
        """Take the first `kept` rows of a chunk from the disk.

        Raises
        ------
        DamagedRun
            A file of the chunk was lost, or cannot be read back.
        """
        for at, (key, block) in enumerate(self._blocks(number)):
            if not self._written.has(number, at=at):  # the array, or this column of chunks, began after these rows
                continue
            path = Path(self._place, key)
            try:
                stored = encoding.decode_small_chunk(path.read_bytes(), dtype=self.dtype).reshape(self._chunk)
            except (OSError, ValueError) as error:
                reason = "it is gone" if isinstance(error, FileNotFoundError) else error
                raise DamagedRun(
                    f"{path} cannot be read back: {reason}. To go on with what is whole, first run: "
                    f"wdyn repair {shlex.quote(str(self._disk.root))}"
                ) from error
            block[:kept] = stored[:kept, : block.shape[1]] if block.ndim > 1 else stored[:kept]
        self._unwritten = True  # behind these rows the chunk may hold some that were never committed
        self._there = number

    def _blocks(self, number: int) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Give the key and the view of each chunk along the columns; the last view may be narrower than a chunk."""
        if self.columns is None:
            yield metadata.chunk_key(number), self._tail
            return
        width = self._chunk[1]
        for at, start in enumerate(range(0, self.columns, width)):
            yield metadata.chunk_key(number, at), self._tail[:, start : start + width]

    def _gaps(self, rows: int) -> Gaps:
        return self._written.gaps(count=-(-rows // self._chunk[0]), across=self._across())

    def _across(self) -> int:
        """Count of chunks along the columns."""
        return 1 if self.columns is None else -(-self.columns // self._chunk[1])

    def _is_missing(self, value: npt.NDArray[Any]) -> bool:
        return bool((np.isnan(value) if self.dtype == "float64" else value == MISSING_COUNT).all())

    def _padded(self, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if block.shape == self._chunk:
            return block
        full = np.full(self._chunk, self._fill, self.dtype)
        full[:, : block.shape[1]] = block
        return full


def is_coordinate(name: str) -> bool:
    """Whether an array tells which row is which; these are written after the rows that they tell of."""
    return name in (schema.STEP, schema.ATTEMPT)
