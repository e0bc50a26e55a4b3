"""Which labelled arrays does a run consist of? What labels their rows and columns is read, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.core import indexing
from xarray.indexes import PandasIndex

from wdyn import schema
from wdyn.store import metadata
from wdyn.store.dtypes import BITS_OF
from wdyn.store.metadata import Node
from wdyn.store.root import Root
from wdyn.store.stored import MISSING, StoredArray

_READ_ANEW = frozenset({schema.VALUE, schema.COUNTED})
"""Arrays that are too large to be kept in memory once all of their values were asked for."""

_COORDINATES = frozenset({schema.ATTEMPT, schema.LOWER, schema.UPPER})
"""Arrays that tell of rows or columns, without being their labels."""

_Rows = npt.NDArray[np.int64] | None
"""Rows of a group that belong to the lineage; None for all."""


@dataclass(frozen=True)
class Opening:
    """A run, and the attempts whose lineage is shown."""

    place: Path
    root: Root
    attempts: Sequence[Mapping[str, Any]]
    _labels: dict[tuple[str, str, bytes], tuple[PandasIndex, xr.Variable]] = field(default_factory=dict)
    """Groups that are labelled alike share an index: to make one takes longer than to read it."""

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
        tree.children = {name: xr.DataTree(self._dataset(path, members[path])) for name, path in paths.items()}
        for name, path in paths.items():
            self._attach(tree.children[name], path, members)

    def _dataset(self, path: str, members: Mapping[str, Node]) -> xr.Dataset:
        nodes = {name: node for name, node in members.items() if node["node_type"] == "array"}
        stored = {name: StoredArray(self.place, f"{path}/{name}", node) for name, node in nodes.items()}
        rows = self._lineage(stored)
        indexes = {
            name: self._index(name, array, rows if name == schema.STEP else None)
            for name, array in stored.items()
            if nodes[name]["dimension_names"] == [name]
        }
        variables = {
            name: _variable(nodes[name], array, rows, keep=name not in _READ_ANEW)
            for name, array in stored.items()
            if name not in indexes
        }
        coordinates = {name: variables.pop(name) for name in _COORDINATES & variables.keys()}
        coordinates |= {name: labels for name, (_, labels) in indexes.items()}
        indexed = xr.Coordinates(coordinates, {name: index for name, (index, _) in indexes.items()})
        return xr.Dataset(variables, indexed, self.root.nodes[path]["attributes"])

    def _lineage(self, stored: Mapping[str, StoredArray]) -> _Rows:
        """Find the rows that no later attempt superseded."""
        if len(self.root.attributes["attempts"]) == 1 or schema.ATTEMPT not in stored:
            return None
        step, by = stored[schema.STEP].read(), stored[schema.ATTEMPT].read()
        kept = by < len(self.attempts)
        for number, attempt in enumerate(self.attempts[1:], start=1):
            kept &= (by >= number) | (step < attempt["resumed_from_step"])
        return None if kept.all() else np.flatnonzero(kept)

    def _index(self, dim: str, stored: StoredArray, rows: _Rows) -> tuple[PandasIndex, xr.Variable]:
        labels = _as_text(stored.read()) if stored.dtype.kind == "O" else stored.read()
        shown = labels if rows is None else labels[rows]
        key = dim, shown.dtype.str, shown.tobytes()
        if key not in self._labels:
            index = PandasIndex(shown, dim, coord_dtype=shown.dtype)
            self._labels[key] = index, index.create_variables()[dim]
        return self._labels[key]


def _variable(node: Node, stored: StoredArray, rows: _Rows, *, keep: bool) -> xr.Variable:
    """Make a variable that is read when it is asked for; text, whose length is not known before, is read at once."""
    attributes, dims = dict(node["attributes"]), node["dimension_names"]
    encoding = _encoding(node)
    if MISSING in attributes:
        encoding[MISSING] = attributes.pop(MISSING)
    if BITS_OF in attributes:
        attributes["comment"] = f"{attributes[BITS_OF]} values shown as float32, exactly"
    if stored.dtype.kind == "O":
        return xr.Variable(dims, _as_text(stored.read()), attributes, encoding)
    lazy: Any = indexing.LazilyIndexedArray(stored)
    if rows is not None and dims[:1] == [schema.STEP]:
        lazy = lazy.oindex[indexing.OuterIndexer((rows, *(slice(None) for _ in dims[1:])))]
    lazy = indexing.CopyOnWriteArray(lazy)
    return xr.Variable(dims, indexing.MemoryCachedArray(lazy) if keep else lazy, attributes, encoding)


def _as_text(strings: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
    # xarray's selection knows numpy's fixed strings, not yet its variable ones.
    return np.array(strings.tolist(), dtype=np.str_)


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
