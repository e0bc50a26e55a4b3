"""What does a run consist of: which groups, which arrays, how long is each?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import bins, schema
from wdyn.arrays import WeightArray
from wdyn.rows import Batch, Counts, Declaration, Row, Rows, Snapshot
from wdyn.store import metadata, weights
from wdyn.store.disk import Disk
from wdyn.store.documents import Documents
from wdyn.store.growing import RowGroup
from wdyn.store.metadata import Node
from wdyn.store.root import Root
from wdyn.store.tables import read_names, write_column, write_table

_GROUP_COLUMNS = 16  # parameter groups in a chunk: more can be added while training runs

_TABLES = {schema.PARAMETERS: schema.PARAMETER, schema.PARTS: schema.PART}
"""Groups that are tables, and the dimension of each; its labels stand along the columns of other groups."""

_STATIC = {schema.LAYER, schema.PARAMETER, schema.PART, schema.LOWER, schema.UPPER}
"""Arrays without a step axis that stand in groups of rows."""


class Tree:
    """The groups of a run as they grow; writes chunks, and leaves it to `Writer` when they become visible.

    Parameters
    ----------
    path, disk
        The run's folder, and what writes there.
    compressed
        Whether arrays of weights that begin now are compressed. Others stay as they began.

    Attributes
    ----------
    arrays
        The arrays of weights, by slug.
    """

    def __init__(self, path: Path, *, disk: Disk, compressed: bool = False) -> None:
        self.arrays: dict[str, WeightArray] = {}
        self._path, self._disk = path, disk
        self._compress_new = compressed
        self._compressed: set[str] = set()  # slugs
        self._groups: dict[str, RowGroup] = {}
        self._static: dict[str, dict[str, Node]] = {}  # arrays without a step axis, by group
        self._about: dict[str, dict[str, Any]] = {}  # wdyn's own attributes, by group
        self._labels: dict[str, npt.NDArray[Any]] = {}  # by dimension
        self._changed: set[str] = set()  # groups, since the last `settle`

    @property
    def rows(self) -> dict[str, int]:
        """Count of rows of each group."""
        return {path: group.rows for path, group in self._groups.items()}

    def restore(self, root: Root) -> None:
        """Take up what is committed already.

        Raises
        ------
        DamagedRun
            The last rows of a group, or the names in a table, cannot be read back.
        """
        for path, dim in _TABLES.items():
            if table := root.members(path):
                self._static[path] = table
                self._labels[dim] = read_names(self._path / path / dim, length=table[dim]["shape"][0])
        for path in root.groups_with(schema.STEP):
            self._restore_group(path, root.members(path), root.nodes[path]["attributes"].get(schema.ATTRIBUTES, {}))

    def take(self, batch: Batch, *, attempt: int) -> None:
        """Take up what one step gave; full chunks are written."""
        if batch.declaration is not None:
            self._declare(batch.declaration)
        for row in batch.rows:
            self._append_row(row, attempt)
        for rows in batch.logged:
            self._append_rows(rows, attempt)
        if batch.snapshot is not None:
            self._append_snapshot(batch.snapshot, attempt)

    def flush(self) -> None:
        """Write all that is in memory."""
        for path in self._changed & self._groups.keys():
            self._groups[path].flush()

    def settle(self, documents: Documents) -> None:
        """Bring the own metadata of groups that changed up to date, once their rows are committed."""
        self._describe(sorted(self._changed), documents)
        self._changed = set()

    def finish(self, documents: Documents) -> None:
        """Bring the own metadata of every group and array up to date."""
        self._describe(documents, documents)

    def nodes(self) -> dict[str, Node]:
        """Metadata of every group and array below the root, by path."""
        nodes = {path: metadata.group() for path in (schema.PARAMETERS, schema.WEIGHTS, schema.STATISTICS)}
        for path in [*self._static, *self._groups]:
            for parent in PurePosixPath(path).parents[:-1]:
                nodes.setdefault(str(parent), metadata.group())
            nodes[path] = metadata.group(self._attributes(path))
            nodes |= {f"{path}/{name}": node for name, node in self._members(path).items()}
        return nodes

    def _restore_group(self, path: str, members: dict[str, Node], about: dict[str, Any]) -> None:
        if value := members.pop(schema.VALUE, None):
            slug = path.rpartition("/")[2]
            self.arrays[slug] = weights.restored(slug, about, value)
            if metadata.is_packed(value):
                self._compressed.add(slug)
        elif about:
            self._about[path] = dict(about)
        self._static[path] = {name: members.pop(name) for name in members.keys() & _STATIC}
        self._groups[path] = RowGroup.restored(
            self._path / path, members, disk=self._disk, column_dim=_column_dim(path), chunk_columns=_GROUP_COLUMNS
        )

    def _declare(self, declaration: Declaration) -> None:
        """Write the tables, and begin arrays for the weights of new parameters.

        Names that a table held before must stay where they were; more may follow them.
        """
        for path, table in ((schema.PARAMETERS, declaration.table), (schema.PARTS, declaration.parts)):
            if table:
                dim = _TABLES[path]
                self._static[path] = write_table(self._path / path, table, disk=self._disk, dim=dim)
                self._labels[dim] = table[dim]
                self._changed.add(path)
        for path in self._groups:
            self._name_columns(path)
        for array in declaration.arrays:
            self._add_array(array)

    def _add_array(self, array: WeightArray) -> None:
        path = f"{schema.WEIGHTS}/{array.slug}"
        self.arrays[array.slug] = array
        if self._compress_new:
            self._compressed.add(array.slug)
        self._groups[path] = RowGroup(self._path / path, disk=self._disk)
        self._changed.add(path)
        if array.layers:
            self._write_static(path, schema.LAYER, np.array(array.layers, dtype=np.int64), dim=schema.LAYER)

    def _append_row(self, row: Row, attempt: int) -> None:
        if row.group not in self._groups:
            self._begin_group(row)
        self._groups[row.group].append(row.step, attempt, row.values, long_names=row.long_names)
        if row.attributes:
            self._about.setdefault(row.group, {}).update(row.attributes)
        self._changed.add(row.group)

    def _append_rows(self, rows: Rows, attempt: int) -> None:
        if rows.group not in self._groups:
            self._begin_group(rows)
        self._groups[rows.group].extend(rows.steps, attempt, rows.values, long_names=rows.long_names)
        self._changed.add(rows.group)

    def _begin_group(self, row: Row | Rows) -> None:
        path, dim = row.group, _column_dim(row.group)
        count = _GROUP_COLUMNS if dim == schema.GROUP else len(self._labels.get(dim, ()))
        self._groups[path] = RowGroup(self._path / path, disk=self._disk, column_dim=dim, chunk_columns=count)
        self._name_columns(path)
        if any(isinstance(value, Counts) for value in row.values.values()):
            for name, edges in zip((schema.LOWER, schema.UPPER), bins.edges(), strict=True):
                self._write_static(path, name, edges, dim=schema.BIN)

    def _append_snapshot(self, snapshot: Snapshot, attempt: int) -> None:
        for slug in snapshot.slugs or snapshot.values:
            path, array = f"{schema.WEIGHTS}/{slug}", self.arrays[slug]
            for start, values in weights.own_blocks(snapshot, array):
                if values.size:  # an array without elements has no chunk
                    self._write_weights(self._place_of(array, start), array, values)
            for block in snapshot.adopted.get(slug, ()):
                self._disk.adopt(block.file, self._place_of(array, block.start))
            self._groups[path].append(snapshot.step, attempt, {})
            self._changed.add(path)

    def _place_of(self, array: WeightArray, start: Sequence[int]) -> str:
        """Where the file of a block of the coming snapshot belongs."""
        path = f"{schema.WEIGHTS}/{array.slug}"
        key = metadata.chunk_key(self._groups[path].rows, *weights.place(array, start))
        return f"{self._path}/{path}/{schema.VALUE}/{key}"

    def _write_weights(self, file: str, array: WeightArray, values: npt.NDArray[Any]) -> None:
        compressed = array.slug in self._compressed
        self._disk.write(
            file,
            weights.encode(array, values, compressed=compressed),
            expected_bytes=0 if compressed else weights.encoded_bytes(array),
        )

    def _name_columns(self, path: str) -> None:
        """Give each name of a table its column, for readers that know no wdyn."""
        dim = _column_dim(path)
        if (labels := self._labels.get(dim)) is not None:
            self._groups[path].widen(len(labels))
            self._write_static(path, dim, labels, dim=dim)

    def _write_static(self, path: str, name: str, values: npt.NDArray[Any], *, dim: str) -> None:
        node = write_column(self._path / path / name, values, disk=self._disk, dim=dim)
        self._static.setdefault(path, {})[name] = node
        self._changed.add(path)

    def _members(self, path: str) -> dict[str, Node]:
        members = dict(self._static.get(path, {}))
        if path in self._groups:
            members |= self._groups[path].members()
        if array := self._array_of(path):
            rows, compressed = self._groups[path].rows, array.slug in self._compressed
            members[schema.VALUE] = weights.array_metadata(array, rows, compressed=compressed)
        return members

    def _attributes(self, path: str) -> dict[str, Any]:
        if array := self._array_of(path):
            return array.attributes()
        return {schema.ATTRIBUTES: self._about[path]} if path in self._about else {}

    def _array_of(self, path: str) -> WeightArray | None:
        parent, _, slug = path.rpartition("/")
        return self.arrays[slug] if parent == schema.WEIGHTS else None

    def _describe(self, paths: Iterable[str], documents: Documents) -> None:
        """Write the own `zarr.json` of some nodes, for readers that open these alone."""
        for path in paths:
            self._disk.describe(f"{self._path}/{path}/{metadata.FILE}", documents.of(path))


def _column_dim(group: str) -> str:
    """Name of the second axis of a group's arrays; "" where there is none."""
    first = group.partition("/")[0]
    return {schema.SCALARS: schema.GROUP, schema.WEIGHTS: "", schema.PARTS: schema.PART}.get(first, schema.PARAMETER)
