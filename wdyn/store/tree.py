"""What does a run consist of: which groups, which arrays, how long is each?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.arrays import WeightArray
from wdyn.rows import Batch, Declaration, Row, Snapshot
from wdyn.store import files, metadata, weights
from wdyn.store.growing import RowGroup
from wdyn.store.metadata import Node
from wdyn.store.root import Root
from wdyn.store.tables import read_names, write_column, write_table

_GROUP_COLUMNS = 16  # parameter groups in a chunk: more can be added while training runs


class Tree:
    """The groups of a run as they grow; writes chunks, and leaves it to `Writer` when they become visible.

    Attributes
    ----------
    arrays
        The arrays of weights, by slug.
    """

    def __init__(self, path: Path) -> None:
        self.arrays: dict[str, WeightArray] = {}
        self._path = path
        self._groups: dict[str, RowGroup] = {}
        self._static: dict[str, dict[str, Node]] = {}  # arrays without a step axis, by group
        self._parameters: npt.NDArray[Any] = np.array([], dtype=np.str_)
        self._changed: set[str] = set()  # groups, since the last `settle`
        self._written: list[Path] = []

    @property
    def rows(self) -> dict[str, int]:
        """Count of rows of each group."""
        return {path: group.rows for path, group in self._groups.items()}

    def restore(self, root: Root) -> None:
        """Take up what is committed already.

        Raises
        ------
        DamagedRun
            The last rows of a group cannot be read back.
        """
        table = root.members(schema.PARAMETERS)
        self._static[schema.PARAMETERS] = table
        if table:
            length = table[schema.PARAMETER]["shape"][0]
            self._parameters = read_names(self._path / schema.PARAMETERS / schema.PARAMETER, length=length)
        for path in root.groups_with(schema.STEP):
            members = root.members(path)
            if members.pop(schema.VALUE, None):
                slug, about = path.rpartition("/")[2], root.nodes[path]["attributes"][schema.ATTRIBUTES]
                self.arrays[slug] = WeightArray.from_attributes(slug, about)
            static = members.keys() & {schema.LAYER, schema.PARAMETER}
            self._static[path] = {name: members.pop(name) for name in static}
            self._groups[path] = RowGroup.restored(
                self._path / path, members, column_dim=_column_dim(path), chunk_columns=_GROUP_COLUMNS
            )

    def take(self, batch: Batch, *, attempt: int) -> None:
        """Take up what one step gave; full chunks are written."""
        if batch.declaration is not None:
            self._declare(batch.declaration)
        for row in batch.rows:
            self._append_row(row, attempt)
        if batch.snapshot is not None:
            self._append_snapshot(batch.snapshot, attempt)

    def flush(self) -> Iterable[Path]:
        """Write all that is in memory; return the files that were written since the last `settle`."""
        for path in self._changed & self._groups.keys():
            self._written += self._groups[path].flush()
        return self._written

    def settle(self) -> None:
        """Bring the own metadata of groups that changed up to date, once their rows are committed."""
        self._written = []
        for path in sorted(self._changed):
            self._write_metadata(path, metadata.group(self._attributes(path)))
        self._changed = set()

    def finish(self) -> None:
        """Bring the own metadata of every group and array up to date."""
        for path, node in self.nodes().items():
            self._write_metadata(path, node)

    def nodes(self) -> dict[str, Node]:
        """Metadata of every group and array below the root, by path."""
        nodes = {path: metadata.group() for path in (schema.PARAMETERS, schema.WEIGHTS, schema.STATISTICS)}
        for path in [schema.PARAMETERS, *self._groups]:
            nodes[path] = metadata.group(self._attributes(path))
            nodes |= {f"{path}/{name}": node for name, node in self._members(path).items()}
        return nodes

    def _declare(self, declaration: Declaration) -> None:
        """Write the table of parameters, and begin arrays for their weights.

        Names that the table held before must stay where they were; more may follow them.
        """
        self._static[schema.PARAMETERS], written = write_table(self._path / schema.PARAMETERS, declaration.table)
        self._written += written
        self._changed.add(schema.PARAMETERS)
        self._parameters = declaration.table[schema.PARAMETER]
        for path in self._groups:
            self._name_columns(path)
        for array in declaration.arrays:
            self._add_array(array)

    def _add_array(self, array: WeightArray) -> None:
        path = f"{schema.WEIGHTS}/{array.slug}"
        self.arrays[array.slug] = array
        self._groups[path] = RowGroup(self._path / path)
        self._changed.add(path)
        if array.layers:
            folder = self._path / path / schema.LAYER
            node, written = write_column(folder, np.array(array.layers, dtype=np.int64), dim=schema.LAYER)
            self._static[path] = {schema.LAYER: node}
            self._written += written

    def _append_row(self, row: Row, attempt: int) -> None:
        if row.group not in self._groups:
            count = _GROUP_COLUMNS if row.group == schema.SCALARS else len(self._parameters)
            self._groups[row.group] = RowGroup(
                self._path / row.group, column_dim=_column_dim(row.group), chunk_columns=count
            )
            self._name_columns(row.group)
        group = self._groups[row.group]
        self._written += group.append(row.step, attempt, row.values, long_names=row.long_names)
        self._changed.add(row.group)

    def _append_snapshot(self, snapshot: Snapshot, attempt: int) -> None:
        for slug, values in snapshot.values.items():
            path = f"{schema.WEIGHTS}/{slug}"
            array, group = self.arrays[slug], self._groups[path]
            if values.size:  # an array without elements has no chunk
                file = group.folder / schema.VALUE / metadata.chunk_key(group.rows, *(0 for _ in array.full_shape))
                file.parent.mkdir(parents=True, exist_ok=True)
                files.replace(file, *weights.encode(array, values))
                self._written.append(file)
            self._written += group.append(snapshot.step, attempt, {})
            self._changed.add(path)

    def _name_columns(self, path: str) -> None:
        """Give each parameter of the table a column, with its name for readers that know no wdyn."""
        if _column_dim(path) == schema.PARAMETER:
            self._groups[path].widen(len(self._parameters))
            node, written = write_column(self._path / path / schema.PARAMETER, self._parameters)
            self._static[path] = {schema.PARAMETER: node}
            self._written += written
            self._changed.add(path)

    def _members(self, path: str) -> dict[str, Node]:
        members = dict(self._static.get(path, {}))
        if path in self._groups:
            members |= self._groups[path].members()
        if array := self._array_of(path):
            members[schema.VALUE] = weights.array_metadata(array, self._groups[path].rows)
        return members

    def _attributes(self, path: str) -> dict[str, Any]:
        array = self._array_of(path)
        return array.attributes() if array else {}

    def _array_of(self, path: str) -> WeightArray | None:
        parent, _, slug = path.rpartition("/")
        return self.arrays[slug] if parent == schema.WEIGHTS else None

    def _write_metadata(self, path: str, node: Node) -> None:
        """Write a node's own `zarr.json`, for readers that open it alone."""
        whole = metadata.consolidated(node, self._members(path)) if node["node_type"] == "group" else node
        (self._path / path).mkdir(parents=True, exist_ok=True)
        files.replace(self._path / path / metadata.FILE, metadata.encode(whole))


def _column_dim(group: str) -> str:
    """Name of the second axis of a group's arrays; "" where there is none."""
    if group == schema.SCALARS:
        return schema.GROUP
    return "" if group.startswith(f"{schema.WEIGHTS}/") else schema.PARAMETER
