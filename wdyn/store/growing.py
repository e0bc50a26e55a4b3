"""How do the arrays of one group grow together, row by row, along `step`?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.store import metadata
from wdyn.store.series import Series, is_coordinate

_CHUNK_BYTES = 512 * 1024
_MIN_ROWS, _MAX_ROWS = 16, 512


class RowGroup:
    """A group whose arrays share one `step` axis and, where they have columns, one column axis.

    Parameters
    ----------
    folder
        Where the group lies.
    column_dim, columns
        Name and length of the second axis of arrays that have one.
    chunk_columns
        Columns in a chunk; default: as many as there are now.
    chunk_rows
        Rows in a chunk; default: about half a megabyte of them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        column_dim: str = "",
        columns: int = 0,
        chunk_columns: int | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        self.folder = folder
        self.rows = 0
        self._series: dict[str, Series] = {}
        self._column_dim = column_dim
        self._columns = columns
        self._chunk_columns = max(1, columns if chunk_columns is None else chunk_columns)
        self._chunk_rows = chunk_rows or int(np.clip(_CHUNK_BYTES // (8 * self._chunk_columns), _MIN_ROWS, _MAX_ROWS))
        for name in (schema.STEP, schema.ATTEMPT):
            self._begin(name, dtype="int64", columned=False)

    @classmethod
    def restored(
        cls,
        folder: Path,
        nodes: Mapping[str, metadata.Node],
        *,
        column_dim: str = "",
        chunk_columns: int | None = None,
    ) -> Self:
        """Take up a group that is already on disk, where its last committed row ended.

        `chunk_columns` is for a group that has no array with columns yet.

        Raises
        ------
        DamagedRun
            The unfinished chunk of an array cannot be read back.
        """
        columned = [node for node in nodes.values() if len(node["shape"]) > 1]
        (chunk_rows,) = metadata.chunk_shape(nodes[schema.STEP])
        group = cls(
            folder,
            column_dim=column_dim,
            columns=max((node["shape"][1] for node in columned), default=0),
            chunk_columns=metadata.chunk_shape(columned[0])[1] if columned else chunk_columns,
            chunk_rows=chunk_rows,
        )
        group.rows = nodes[schema.STEP]["shape"][0]
        number, kept = divmod(group.rows, chunk_rows)
        for name, node in nodes.items():
            series = group._begin(name, dtype=node["data_type"], columned=len(node["shape"]) > 1)
            series.long_name = node["attributes"].get("long_name", "")
            if kept:
                series.read(number, kept=kept)
        return group

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
            self.widen(len(data) if data.ndim else 0)
            series = self._begin(name, dtype="int64" if data.dtype.kind in "iub" else "float64", columned=data.ndim > 0)
            series.put(row, data)
            series.long_name = (long_names or {}).get(name, series.long_name)
        self.rows += 1
        if self.rows % self._chunk_rows:
            return []
        written = self._write(self.rows // self._chunk_rows - 1)
        for series in self._series.values():
            series.clear()
        return written

    def flush(self) -> list[Path]:
        """Write the unfinished chunk of every array; return the files."""
        return self._write(self.rows // self._chunk_rows) if self.rows % self._chunk_rows else []

    def widen(self, columns: int) -> None:
        """Make room for this many columns, if they are more than there are."""
        if columns > self._columns:
            self._columns = columns
            for series in self._series.values():
                series.widen(columns)

    def members(self) -> dict[str, metadata.Node]:
        """Metadata of each array at its present length."""
        return {name: series.metadata(self.rows) for name, series in self._series.items()}

    def _begin(self, name: str, *, dtype: str, columned: bool) -> Series:
        if name not in self._series:
            axes = 2 if columned else 1
            self._series[name] = Series(
                self.folder / name,
                dtype=dtype,
                dims=(schema.STEP, self._column_dim)[:axes],
                chunk=(self._chunk_rows, self._chunk_columns)[:axes],
                columns=self._columns,
            )
        return self._series[name]

    def _write(self, number: int) -> list[Path]:
        # The coordinates come last: what tells of a row is written after the row.
        ordered = sorted(self._series, key=is_coordinate)
        return [path for name in ordered for path in self._series[name].write(number)]
