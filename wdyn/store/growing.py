"""How do the arrays of one group grow together, row by row, along `step`?

The rows of the last, unfinished chunk are kept in memory; that chunk is rewritten whole, by rename, until it is full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.errors import DamagedRun
from wdyn.store import encoding, files, metadata

_CHUNK_BYTES = 512 * 1024
_MIN_ROWS, _MAX_ROWS = 16, 512
MISSING_COUNT = -1


@dataclass
class Series:
    """One array of a group: (step,) or (step, columns), float64 or int64."""

    name: str
    dtype: str
    dims: tuple[str, ...]
    chunk: tuple[int, ...]
    tail: npt.NDArray[Any] = field(repr=False)
    """Rows of the unfinished chunk: (rows of a chunk,) or (rows of a chunk, columns)."""
    long_name: str = ""

    @property
    def fill(self) -> float | int:
        """What stands where nothing was recorded."""
        return np.nan if self.dtype == "float64" else MISSING_COUNT

    def metadata(self, rows: int) -> metadata.Node:
        """Describe the array at a length of `rows`."""
        named = {"long_name": self.long_name} if self.long_name else {}
        counted = self.dtype == "int64" and self.dims != (schema.STEP,)
        return metadata.array(
            shape=(rows, *self.tail.shape[1:]),
            chunk=self.chunk,
            dims=self.dims,
            dtype=self.dtype,
            fill="NaN" if self.dtype == "float64" else MISSING_COUNT,
            attributes=({"missing_value": MISSING_COUNT} if counted else {}) | named,
        )

    def widen(self, columns: int) -> None:
        """Make room for more columns; rows so far have nothing there."""
        extra = columns - self.tail.shape[1]
        self.tail = np.pad(self.tail, ((0, 0), (0, extra)), constant_values=self.fill)

    def blocks(self) -> list[npt.NDArray[Any]]:
        """Cut the tail into whole chunks along its columns, the last one padded."""
        if self.tail.ndim == 1:
            return [self.tail]
        width = self.chunk[1]
        pad = -self.tail.shape[1] % width
        padded = np.pad(self.tail, ((0, 0), (0, pad)), constant_values=self.fill)
        return [padded[:, start : start + width] for start in range(0, padded.shape[1], width)]


class RowGroup:
    """A group whose arrays share one `step` axis and, where they have columns, one column axis.

    Parameters
    ----------
    folder
        Where the group lies.
    column_dim, columns
        Name and length of the second axis of arrays that have one.
    chunk_columns
        Columns in a chunk; fixed for ever, so that columns can be added later.
    """

    def __init__(self, folder: Path, *, column_dim: str, columns: int, chunk_columns: int | None = None) -> None:
        self.folder = folder
        self.rows = 0
        self.series: dict[str, Series] = {}
        self.dirty = False
        self._column_dim = column_dim
        self._columns = columns
        self._chunk_columns = max(1, columns if chunk_columns is None else chunk_columns)
        self._chunk_rows = int(np.clip(_CHUNK_BYTES // (8 * self._chunk_columns), _MIN_ROWS, _MAX_ROWS))
        for name in (schema.STEP, schema.ATTEMPT):
            self._series(name, "int64", columned=False)

    def append(
        self,
        step: int,
        attempt: int,
        values: Mapping[str, npt.ArrayLike],
        *,
        long_names: Mapping[str, str] | None = None,
    ) -> list[Path]:
        """Add one row. Names never seen before start a new array; return the files of a chunk that became full."""
        row = self.rows % self._chunk_rows
        for name, value in {**values, schema.STEP: step, schema.ATTEMPT: attempt}.items():
            data = np.asarray(value)
            series = self._series(name, "int64" if data.dtype.kind in "iub" else "float64", columned=data.ndim > 0)
            if data.ndim:
                self._fit(len(data))
                series.tail[row, : len(data)] = data
            else:
                series.tail[row] = data
            series.long_name = (long_names or {}).get(name, series.long_name)
        self.rows += 1
        self.dirty = True
        return self._finish_chunk() if self.rows % self._chunk_rows == 0 else []

    def flush(self) -> list[Path]:
        """Write the unfinished chunk of every array; the coordinates come last. Return the files."""
        if self.rows % self._chunk_rows == 0:
            return []
        return self._write(self.rows // self._chunk_rows)

    def members(self) -> dict[str, metadata.Node]:
        """Metadata of each array at its present length."""
        return {name: series.metadata(self.rows) for name, series in self.series.items()}

    def restore(self, nodes: Mapping[str, metadata.Node]) -> None:
        """Take up arrays that are already on disk, where the last committed row ended.

        Raises
        ------
        DamagedRun
            The unfinished chunk of an array cannot be read back.
        """
        self.rows = nodes[schema.STEP]["shape"][0]
        for name, node in nodes.items():
            chunk = tuple(node["chunk_grid"]["configuration"]["chunk_shape"])
            self._chunk_rows = chunk[0]
            if len(chunk) > 1:
                self._chunk_columns = chunk[1]
                self._columns = max(self._columns, node["shape"][1])
        for name, node in nodes.items():
            series = self._series(name, node["data_type"], columned=len(node["shape"]) > 1)
            series.long_name = node["attributes"].get("long_name", "")
            self._read_tail(series)

    def _series(self, name: str, dtype: str, *, columned: bool) -> Series:
        if name not in self.series:
            dims = (schema.STEP, self._column_dim) if columned else (schema.STEP,)
            chunk = (self._chunk_rows, self._chunk_columns) if columned else (self._chunk_rows,)
            shape = (self._chunk_rows, self._columns) if columned else (self._chunk_rows,)
            fill = np.nan if dtype == "float64" else MISSING_COUNT
            self.series[name] = Series(name, dtype, dims, chunk, np.full(shape, fill, dtype))
        return self.series[name]

    def _fit(self, columns: int) -> None:
        if columns > self._columns:
            self._columns = columns
            for series in self.series.values():
                if series.tail.ndim > 1:
                    series.widen(columns)

    def _finish_chunk(self) -> list[Path]:
        written = self._write(self.rows // self._chunk_rows - 1)
        for series in self.series.values():
            series.tail[...] = series.fill
        return written

    def _write(self, number: int) -> list[Path]:
        written = []
        coordinates = (schema.STEP, schema.ATTEMPT)
        for series in sorted(self.series.values(), key=lambda series: series.name in coordinates):
            folder = self.folder / series.name
            if not folder.is_dir():
                folder.mkdir(parents=True)
                files.replace(folder / metadata.FILE, metadata.encode(series.metadata(0)))
                written.append(folder / metadata.FILE)
            for column, block in enumerate(series.blocks()):
                indices = (number, column) if series.tail.ndim > 1 else (number,)
                path = folder / metadata.chunk_key(*indices)
                files.replace(path, *encoding.chunk(block))
                written.append(path)
        return written

    def _read_tail(self, series: Series) -> None:
        kept = self.rows % self._chunk_rows
        if not kept:
            return
        number = self.rows // self._chunk_rows
        columns: Sequence[int | None] = [None]
        if series.tail.ndim > 1:
            columns = range(-(-series.tail.shape[1] // self._chunk_columns))
        for column in columns:
            path = self.folder / series.name / metadata.chunk_key(*([number] if column is None else [number, column]))
            if not path.exists():  # the array, or its column, began after these rows
                continue
            try:
                block = encoding.decode_chunk(path.read_bytes(), dtype=series.dtype).reshape(series.chunk)
            except ValueError as error:
                raise DamagedRun(f"{path} cannot be read back: {error}. Record into a new run instead") from error
            if column is None:
                series.tail[:kept] = block[:kept]
            else:
                start = column * self._chunk_columns
                target = series.tail[:kept, start : start + self._chunk_columns]
                target[...] = block[:kept, : target.shape[1]]
