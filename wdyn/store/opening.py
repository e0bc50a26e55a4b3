"""Which labelled arrays does a run consist of? What labels their rows and columns is read, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.core import indexing
from xarray.indexes import PandasIndex

from wdyn import schema
from wdyn.store import metadata
from wdyn.store.dtypes import BITS_OF
from wdyn.store.lineage import effective
from wdyn.store.metadata import Node
from wdyn.store.root import Root
from wdyn.store.stored import MISSING, StoredArray
from wdyn.store.tables import LONGEST

_READ_ANEW = frozenset({schema.VALUE, schema.COUNTED})
"""Arrays that are too large to be kept in memory once all of their values were asked for."""

_COORDINATES = frozenset({schema.ATTEMPT, schema.LOWER, schema.UPPER})
"""Arrays that tell of rows or columns, without being their labels."""

_Rows = npt.NDArray[np.int64] | None
"""Rows of a group that belong to the lineage; None for all."""


class _Given(xr.Dataset):
    """A Dataset that nobody else holds: the tree that takes it needs no copy."""

    __slots__ = ()

    def copy(self, deep: bool = False, data: object = None) -> Self:
        """Give the Dataset itself."""
        return self


class _Group(xr.DataTree):
    """A group on its way to its place: xarray compares its labels with those above it only if there are any."""

    __slots__ = ()

    def _pre_attach(self, parent: xr.DataTree, name: str) -> None:
        if any(above.has_data for above in (parent, *parent.parents)):
            super()._pre_attach(parent, name)

    def in_place(self) -> xr.DataTree:
        """Become the plain group that everyone knows."""
        self.__class__ = xr.DataTree  # type: ignore[assignment]  # it adds nothing but the method above
        return self


@dataclass(frozen=True)
class Opening:
    """A run, and the attempts whose lineage is shown."""

    place: Path
    root: Root
    attempts: Sequence[Mapping[str, Any]]
    size_limit: int | None = None
    """Bytes that one reading may take; None for the memory of this machine."""
    _labels: dict[tuple[str, str, bytes], tuple[PandasIndex, xr.Variable]] = field(default_factory=dict)
    """Groups that are labelled alike share an index: to make one takes longer than to read it."""
    _decoded: dict[tuple[bytes, ...], tuple[Node, npt.NDArray[Any]]] = field(default_factory=dict)
    """What files hold, by their bytes: to decode them takes longer than to compare them."""

    def tree(self) -> xr.DataTree:
        """Make the labelled tree of the whole run."""
        members: dict[str, dict[str, Node]] = defaultdict(dict)
        for path, node in self.root.nodes.items():
            parent, _, name = path.rpartition("/")
            members[parent][name] = node
        tree = xr.DataTree(xr.Dataset(attrs={schema.ATTRIBUTES: self.root.attributes}))
        self._attach(tree, "", members)
        return tree

    def _attach(self, tree: xr.DataTree, parent: str, members: Mapping[str, Mapping[str, Node]]) -> None:
        # From the top down, so that xarray compares the labels of each group with those above it once.
        paths = {
            name: f"{parent}/{name}".lstrip("/")
            for name, node in members[parent].items()
            if node["node_type"] == "group"
        }
        groups = {name: _Group(self._dataset(path, members[path])) for name, path in paths.items()}
        tree.children = groups
        for name, group in groups.items():
            self._attach(group.in_place(), paths[name], members)

    def _dataset(self, path: str, members: Mapping[str, Node]) -> xr.Dataset:
        nodes = {name: node for name, node in members.items() if node["node_type"] == "array"}
        stored = {
            name: StoredArray(self.place, f"{path}/{name}", node, size_limit=self.size_limit)
            for name, node in nodes.items()
        }
        rows = self._lineage(stored, nodes)
        indexes: dict[str, PandasIndex] = {}
        variables: dict[str, xr.Variable] = {}
        for name, array in stored.items():
            if nodes[name]["dimension_names"] == [name]:
                values = self._values(array, nodes[name])
                shown = values if rows is None or name != schema.STEP else values[rows]
                indexes[name], variables[name] = self._index(name, shown)
            else:
                variables[name] = _variable(nodes[name], array, rows, keep=name not in _READ_ANEW)
                if name in self.root.nodes:
                    variables[name].load()  # xarray's `DataTree.load` passes over what is named like a group
        coordinates = indexes.keys() | (_COORDINATES & variables.keys())
        return _together(variables, coordinates, indexes, self.root.nodes[path]["attributes"])

    def _lineage(self, stored: Mapping[str, StoredArray], nodes: Mapping[str, Node]) -> _Rows:
        """Find the rows that no later attempt superseded."""
        if len(self.root.attributes["attempts"]) == 1 or schema.ATTEMPT not in stored:
            return None
        step, by = (self._values(stored[name], nodes[name]) for name in (schema.STEP, schema.ATTEMPT))
        kept = effective(step, by, self.attempts)
        return None if kept.all() else np.flatnonzero(kept)

    def _values(self, stored: StoredArray, node: Node) -> npt.NDArray[Any]:
        """Read what tells of rows or columns; files that hold the same are decoded once."""
        files = stored.files()
        if files is None:
            return stored.read()
        if files not in self._decoded or self._decoded[files][0] != node:
            self._decoded[files] = node, stored.read()
        return self._decoded[files][1]

    def _index(self, dim: str, shown: npt.NDArray[Any]) -> tuple[PandasIndex, xr.Variable]:
        key = dim, shown.dtype.str, shown.tobytes()
        if key not in self._labels:
            index = PandasIndex(shown, dim, coord_dtype=shown.dtype)
            self._labels[key] = index, index.create_variables()[dim]
        index, labels = self._labels[key]
        return index, labels.copy(deep=False)  # one of its own, since attributes can be given to it


def _together(
    variables: dict[str, xr.Variable],
    coordinates: Set[str],
    indexes: dict[str, PandasIndex],
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    """Make a Dataset of what fits together; ValueError where the lengths of a dimension differ."""
    # xarray's own shortcut: `xr.Dataset` copies and merges what needs no merging, a third of the time of opening.
    return _Given._construct_direct(variables, set(coordinates), attrs=dict(attributes), indexes=dict(indexes))


def _variable(node: Node, stored: StoredArray, rows: _Rows, *, keep: bool) -> xr.Variable:
    """Make a variable that is read when it is asked for, or at once where its type is not known before."""
    attributes, dims = dict(node["attributes"]), node["dimension_names"]
    encoding = _encoding(node)
    if MISSING in attributes:
        encoding[MISSING] = attributes.pop(MISSING)
    if BITS_OF in attributes:
        attributes["comment"] = f"{attributes[BITS_OF]} values shown as float32, exactly"
    attributes.pop(LONGEST, None)
    if stored.dtype.hasobject:
        return xr.Variable(dims, stored.read(), attributes, encoding)
    lazy: Any = indexing.LazilyIndexedArray(stored)
    if rows is not None and dims[:1] == [schema.STEP]:
        lazy = lazy.oindex[indexing.OuterIndexer((rows, *(slice(None) for _ in dims[1:])))]
    lazy = indexing.CopyOnWriteArray(lazy)
    return xr.Variable(dims, indexing.MemoryCachedArray(lazy) if keep else lazy, attributes, encoding, fastpath=True)


def _encoding(node: Node) -> dict[str, Any]:
    """Tell how the values lie on disk, in xarray's words."""
    whole, (codec, *_) = metadata.chunk_shape(node), node["codecs"]
    inner = codec["configuration"].get("chunk_shape") if codec["name"] == "sharding_indexed" else None
    chunks = tuple(inner or whole)
    return {
        "chunks": chunks,
        "preferred_chunks": dict(zip(node["dimension_names"], chunks, strict=True)),
        "shards": whole if inner else None,
        "dtype": np.dtype("T" if node["data_type"] == "string" else node["data_type"]),
    }
