"""How do the arrays of one group grow together, row by row, along `step`?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.rows import Counts
from wdyn.store import metadata
from wdyn.store.disk import Disk
from wdyn.store.histograms import HistogramSeries
from wdyn.store.series import Series, is_coordinate

_CHUNK_BYTES = 256 * 1024
_MIN_ROWS, _MAX_ROWS = 16, 256
"""The unfinished chunk of every array is encoded anew at each commit, so it must not be large."""


class RowGroup:
    """A group whose arrays share one `step` axis and, where they have columns, one column axis.

    Parameters
    ----------
    folder, disk
        Where the group lies, and what writes there.
    column_dim, columns
        Name and length of the second axis of arrays that have one.
    chunk_columns
        Columns in a chunk; default: as many as there are now.
    chunk_rows
        Rows in a chunk; default: about a quarter of a megabyte of them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        disk: Disk,
        column_dim: str = "",
        columns: int = 0,
        chunk_columns: int | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        self.folder = folder
        self.rows = 0
        self._disk = disk
        self._series: dict[str, Series] = {}
        self._histograms: dict[str, HistogramSeries] = {}
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
        disk: Disk,
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
        chunks = [metadata.chunk_shape(node)[1] for node in columned if len(node["shape"]) == 2]
        (chunk_rows,) = metadata.chunk_shape(nodes[schema.STEP])
        group = cls(
            folder,
            disk=disk,
            column_dim=column_dim,
            columns=max((node["shape"][1] for node in columned), default=0),
            chunk_columns=chunks[0] if chunks else chunk_columns,
            chunk_rows=chunk_rows,
        )
        group.rows = nodes[schema.STEP]["shape"][0]
        for name, node in nodes.items():
            group._take_up(name, node)
        return group

    def append(
        self,
        step: int,
        attempt: int,
        values: Mapping[str, npt.ArrayLike | Counts],
        *,
        long_names: Mapping[str, str] | None = None,
    ) -> None:
        """Add one row, and write the chunk that becomes full by it. Names never seen before start a new array."""
        for name, value in values.items():
            if isinstance(value, Counts):
                self._write_counts(name, value)
        plain = {name: np.asarray(value)[np.newaxis] for name, value in values.items() if not isinstance(value, Counts)}
        self.extend((step,), attempt, plain, long_names=long_names)

    def extend(
        self,
        steps: Sequence[int],
        attempt: int,
        values: Mapping[str, npt.NDArray[Any]],
        *,
        long_names: Mapping[str, str] | None = None,
    ) -> None:
        """Add rows at several steps, which values have along their first axis; as `append` one by one."""
        every = {**values, schema.STEP: np.asarray(steps), schema.ATTEMPT: np.full(len(steps), attempt)}
        start = 0
        while start < len(steps):
            row = self.rows % self._chunk_rows
            count = min(len(steps) - start, self._chunk_rows - row)
            for name, value in every.items():
                self._put(name, slice(row, row + count), value[start : start + count])
            for name, true_name in (long_names or {}).items():
                self._series[name].long_name = true_name
            start += count
            self.rows += count
            if self.rows % self._chunk_rows == 0:
                self._write(self.rows // self._chunk_rows - 1)
                for series in self._series.values():
                    series.clear()

    def flush(self) -> None:
        """Write the unfinished chunk of every array."""
        if self.rows % self._chunk_rows:
            self._write(self.rows // self._chunk_rows)

    def widen(self, columns: int) -> None:
        """Make room for this many columns, if they are more than there are."""
        if columns > self._columns:
            self._columns = columns
            for series in self._series.values():
                series.widen(columns)
            for histogram in self._histograms.values():
                histogram.widen(columns)

    def members(self) -> dict[str, metadata.Node]:
        """Metadata of each array at its present length: one object for those of which it is the same."""
        alike: dict[tuple[object, ...], metadata.Node] = {}
        members: dict[str, metadata.Node] = {}
        for name, series in self._series.items():
            if (form := series.form(self.rows)) not in alike:
                alike[form] = series.metadata(self.rows)
            members[name] = alike[form]
        return members | {name: histogram.metadata(self.rows) for name, histogram in self._histograms.items()}

    def _put(self, name: str, rows: slice, data: npt.NDArray[Any]) -> None:
        if data.ndim > 1:
            self.widen(data.shape[1])
        dtype = "int64" if data.dtype.kind in "iub" else "float64"
        self._begin(name, dtype=dtype, columned=data.ndim > 1).put(rows, data)

    def _write_counts(self, name: str, counts: Counts) -> None:
        columns, bins = counts.shape
        self.widen(columns)
        if name not in self._histograms:
            self._histograms[name] = HistogramSeries(
                f"{self.folder}/{name}", disk=self._disk, column_dim=self._column_dim, columns=self._columns, bins=bins
            )
        self._histograms[name].write(self.rows, counts)

    def _begin(self, name: str, *, dtype: str, columned: bool) -> Series:
        if name not in self._series:
            axes = 2 if columned else 1
            self._series[name] = Series(
                f"{self.folder}/{name}",
                disk=self._disk,
                dtype=dtype,
                dims=(schema.STEP, self._column_dim)[:axes],
                chunk=(self._chunk_rows, self._chunk_columns)[:axes],
                columns=self._columns,
            )
        return self._series[name]

    def _take_up(self, name: str, node: metadata.Node) -> None:
        """Go on with an array whose rows are committed."""
        axes = len(node["shape"])
        if axes > 2:
            self._histograms[name] = HistogramSeries.restored(f"{self.folder}/{name}", node, disk=self._disk)
            return
        series = self._begin(name, dtype=node["data_type"], columned=axes > 1)
        series.take_up(node)
        number, kept = divmod(self.rows, self._chunk_rows)
        if kept:
            series.read(number, kept=kept)

    def _write(self, number: int) -> None:
        # The coordinates come last: what tells of a row is written after the row.
        for name in sorted(self._series, key=is_coordinate):
            self._series[name].write(number)
