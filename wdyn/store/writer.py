"""How does a run get onto the disk so that every reader, at every moment, sees whole rows only?

The order is the protocol: chunks, index chunks, durability, then one rename of the root `zarr.json`, which carries
the length of every array. Chunks are encoded here rather than through zarr, whose work per array holds the
interpreter lock for milliseconds; readers and tests open the result with zarr.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.errors import RunExists
from wdyn.rows import Batch, Declaration, Row, Snapshot
from wdyn.arrays import WeightArray
from wdyn.store import files, metadata, weights
from wdyn.store.growing import RowGroup
from wdyn.store.lock import Lock
from wdyn.store.metadata import Node
from wdyn.store.root import is_run, read_root
from wdyn.store.tables import write_column, write_table

_GROUP_COLUMNS = 16  # parameter groups in a chunk: more can be added while training runs
_NEVER = -1


class Writer:
    """The one writer of a run; holds its lock until `close`.

    Parameters
    ----------
    path
        The run. With `resume` it must hold one, else it must not.
    about
        Root attributes to set: ``model``, ``optimizers``.
    attempt
        What is known of this attempt: ``resumed_from_step``, ``host``, ``started`` and so on.
    """

    def __init__(
        self, path: Path, *, about: Mapping[str, Any], attempt: Mapping[str, Any], resume: bool = False
    ) -> None:
        self.path = path
        self.committed = _NEVER
        self._last_step = _NEVER
        self._groups: dict[str, RowGroup] = {}
        self._arrays: dict[str, WeightArray] = {}
        self._static: dict[str, dict[str, Node]] = {}
        self._written: list[Path] = []
        self._parameters: npt.NDArray[Any] = np.array([], dtype=np.str_)
        path.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(path)
        try:
            self._attributes: dict[str, Any] = {"format": schema.FORMAT, "attempts": []}
            if resume:
                self._restore()
            elif is_run(path):
                raise RunExists(f"{path} already holds a run")
            self.attempt = len(self._attributes["attempts"])
            self._attributes["attempts"].append({"number": self.attempt, **attempt})
            self._attributes |= {**about, "closed": False}
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def arrays(self) -> dict[str, WeightArray]:
        """The arrays of weights, by slug."""
        return dict(self._arrays)

    def declare(self, declaration: Declaration) -> None:
        """Write the table of parameters, and begin arrays for their weights.

        Names that the table held before must stay where they were; more may follow them.
        """
        self._static[schema.PARAMETERS], written = write_table(self.path / schema.PARAMETERS, declaration.table)
        self._written += written
        self._parameters = declaration.table[schema.PARAMETER]
        for group in self._groups:
            self._name_columns(group)
        for array in declaration.arrays:
            self._add_array(array)

    def append(self, batch: Batch) -> None:
        """Take up what one step gave. It is visible after the next `commit`."""
        if batch.declaration is not None:
            self.declare(batch.declaration)
        for row in batch.rows:
            self._append_row(row)
        if batch.snapshot is not None:
            self._append_snapshot(batch.snapshot)
        self._last_step = max(self._last_step, batch.step)

    def commit(self) -> int:
        """Make all appended rows durable, then visible by one rename; return the last step."""
        dirty = [group for group in self._groups.values() if group.dirty]
        for group in dirty:
            self._written += group.flush()
        files.make_durable(self.path, self._written)
        self._written = []
        # Durable before visible: the rename below is the commit.
        files.replace(self.path / metadata.FILE, metadata.encode(self._root()), durable=True)
        self.committed = self._last_step
        for path, group in self._groups.items():
            if group.dirty:
                files.replace(group.folder / metadata.FILE, metadata.encode(self._group_node(path)))
                group.dirty = False
        return self.committed

    def note(self, **attributes: object) -> None:
        """Set root attributes, from the next commit on."""
        self._attributes |= attributes

    def close(self) -> None:
        """Commit, bring the metadata of every array up to date, and give the run free. Safe to call twice."""
        if self._lock.released:
            return
        try:
            self.note(closed=True)
            self.commit()
            for path, node in self._nodes().items():
                files.replace(self.path / path / metadata.FILE, metadata.encode(self._with_members(path, node)))
        finally:
            self._lock.release()

    def abandon(self) -> None:
        """Give the run free without another write: what was committed stays as it is."""
        self._lock.release()

    def _add_array(self, array: WeightArray) -> None:
        path = f"{schema.WEIGHTS}/{array.slug}"
        self._arrays[array.slug] = array
        self._groups[path] = RowGroup(self.path / path, column_dim="", columns=0)
        if array.layers:
            folder = self.path / path / schema.LAYER
            node, written = write_column(folder, np.array(array.layers, dtype=np.int64), dim=schema.LAYER)
            self._static[path] = {schema.LAYER: node}
            self._written += written

    def _append_row(self, row: Row) -> None:
        if row.group not in self._groups:
            self._start_group(row.group)
        group = self._groups[row.group]
        self._written += group.append(row.step, self.attempt, row.values, long_names=row.long_names)

    def _append_snapshot(self, snapshot: Snapshot) -> None:
        for slug, values in snapshot.values.items():
            array, group = self._arrays[slug], self._groups[f"{schema.WEIGHTS}/{slug}"]
            folder = group.folder / schema.VALUE
            folder.mkdir(parents=True, exist_ok=True)
            if values.size:  # an array without elements has no chunk
                path = folder / metadata.chunk_key(group.rows, *(0 for _ in array.full_shape))
                files.replace(path, *weights.encode(array, values))
                self._written.append(path)
            self._written += group.append(snapshot.step, self.attempt, {})

    def _start_group(self, path: str) -> None:
        if path == schema.SCALARS:
            dim, columns, chunk = schema.GROUP, 0, _GROUP_COLUMNS
        else:
            dim, columns, chunk = schema.PARAMETER, len(self._parameters), len(self._parameters)
        self._groups[path] = RowGroup(self.path / path, column_dim=dim, columns=columns, chunk_columns=chunk)
        self._name_columns(path)

    def _name_columns(self, path: str) -> None:
        """Give a group that has columns over parameters their names, for readers that know no wdyn."""
        if path == schema.SCALARS or path.startswith(f"{schema.WEIGHTS}/"):
            return
        node, written = write_column(self.path / path / schema.PARAMETER, self._parameters)
        self._static[path] = {schema.PARAMETER: node}
        self._written += written

    def _restore(self) -> None:
        root = read_root(self.path)
        self._attributes = dict(root.attributes)
        self.committed = _NEVER
        for path in root.groups_with(schema.STEP):
            members = root.members(path)
            if path.startswith(f"{schema.WEIGHTS}/"):
                self._restore_array(path, root.nodes[path]["attributes"][schema.ATTRIBUTES])
                del members[schema.VALUE]
            else:
                self._restore_group(path)
            static = {name for name in (schema.LAYER, schema.PARAMETER) if name in members}
            self._static[path] = {name: members.pop(name) for name in static}
            self._groups[path].restore(members)
        self._static[schema.PARAMETERS] = root.members(schema.PARAMETERS)

    def _restore_array(self, path: str, about: Mapping[str, Any]) -> None:
        array = WeightArray.from_attributes(path.rpartition("/")[2], about)
        self._arrays[array.slug] = array
        self._groups[path] = RowGroup(self.path / path, column_dim="", columns=0)

    def _restore_group(self, path: str) -> None:
        dim = schema.GROUP if path == schema.SCALARS else schema.PARAMETER
        self._groups[path] = RowGroup(self.path / path, column_dim=dim, columns=0)

    def _root(self) -> Node:
        rows = {path: group.rows for path, group in self._groups.items()}
        attributes = {schema.ATTRIBUTES: {**self._attributes, "rows": rows}}
        return metadata.consolidated(metadata.group(attributes), self._nodes())

    def _nodes(self) -> dict[str, Node]:
        """Metadata of every group and array below the root, by path."""
        parents = (schema.PARAMETERS, schema.WEIGHTS, schema.STATISTICS)
        nodes = {path: metadata.group() for path in parents}
        for path in [schema.PARAMETERS, *self._groups]:
            nodes[path] = metadata.group(self._group_attributes(path))
            nodes |= {f"{path}/{name}": node for name, node in self._members(path).items()}
        return nodes

    def _members(self, path: str) -> dict[str, Node]:
        members = dict(self._static.get(path, {}))
        if path in self._groups:
            members |= self._groups[path].members()
            slug = path.rpartition("/")[2]
            if path.startswith(f"{schema.WEIGHTS}/"):
                members[schema.VALUE] = weights.array_metadata(self._arrays[slug], self._groups[path].rows)
        return members

    def _group_attributes(self, path: str) -> dict[str, Any]:
        parent, _, slug = path.rpartition("/")
        return self._arrays[slug].attributes() if parent == schema.WEIGHTS else {}

    def _group_node(self, path: str) -> Node:
        return self._with_members(path, metadata.group(self._group_attributes(path)))

    def _with_members(self, path: str, node: Node) -> Node:
        return metadata.consolidated(node, self._members(path)) if node["node_type"] == "group" else node
