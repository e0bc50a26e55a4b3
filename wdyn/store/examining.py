"""Which files of an array are not as they were written? Each is read back, chunk by chunk."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.errors import DamagedRun
from wdyn.store import metadata
from wdyn.store.damage import Damage
from wdyn.store.gathering import AS_FILE, NEVER_WRITTEN, DamagedFile, gather, read_chunk, spans_of
from wdyn.store.layout import Layout
from wdyn.store.metadata import Node
from wdyn.store.root import Root
from wdyn.store.written import UNWRITTEN, ranges

_MOST_MISSING = 1000
"""Files of one array that are named one by one; metadata can claim any number of them."""
_TABLES = {schema.PARAMETER: schema.PARAMETERS, schema.PART: schema.PARTS}

Place = tuple[int, ...]
"""Indices of a file in the grid of files."""


@dataclass(frozen=True, eq=False)
class Examination:
    """A run whose files are read back."""

    path: Path
    root: Root

    def arrays(self) -> dict[str, Node]:
        """Metadata of all arrays, by path."""
        return {path: node for path, node in self.root.nodes.items() if node["node_type"] == "array"}

    @cached_property
    def files(self) -> dict[str, dict[Place, int]]:
        """Size of each file of an array that holds anything of it, by its place, and that by the array's path."""
        return {name: _files(self.path / name, node) for name, node in self.arrays().items()}

    def damages(self, name: str) -> Iterator[Damage | None]:
        """Read an array back: for each file what is wrong with it, or None; then those that are missing."""
        node = self.root.nodes[name]
        try:
            layout = Layout.of(node)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            yield self._damage(name, None, f"its metadata is damaged: {error!r}")
            return
        if layout is None:
            yield self._damage(name, None, "it is encoded in a way that no run is")
            return
        for place in sorted(self.files[name]):
            reasons = list(_wrong(f"{self.path}/{name}/{metadata.chunk_key(*place)}", layout))
            yield None if not reasons else self._damage(name, place, reasons[0][1], chunk=reasons[0][0])
        yield from self._missing(name, node)

    def values(self, name: str) -> npt.NDArray[Any] | None:
        """Read an array whole; None where it cannot be read, or a file of it is missing."""
        if name not in self.root.nodes or self._lost(name) > 0:
            return None
        found: npt.NDArray[Any] | None = self._values(name)
        return found

    @cached_property
    def _values(self) -> Any:
        @cache
        def read(name: str) -> npt.NDArray[Any] | None:
            node = self.root.nodes[name]
            try:
                layout = Layout.of(node)
                whole = [slice(None)] * len(node["shape"])
                return None if layout is None else gather(f"{self.path}/{name}", layout, whole)
            except (DamagedFile, DamagedRun, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
                return None

        return read

    def _missing(self, name: str, node: Node) -> Iterator[Damage]:
        count, there = self._lost(name), self.files[name]
        lost = (place for place in _places(node, _grid(node)) if place not in there)
        for place in itertools.islice(lost, min(_MOST_MISSING, count)):
            yield self._damage(name, place, "it is missing")
        if count > _MOST_MISSING:
            yield self._damage(name, None, f"{count - _MOST_MISSING:,} more of its files are missing")

    def _lost(self, name: str) -> int:
        """Count the files of an array that were written, and are not there."""
        node = self.root.nodes[name]
        grid = _grid(node)
        return _expected(node, grid) - sum(_is_expected(node, grid, place) for place in self.files[name])

    def _damage(self, name: str, place: Place | None, reason: str, *, chunk: int = 0) -> Damage:
        node = self.root.nodes[name]
        file = f"{name}/{metadata.chunk_key(*place)}" if place is not None else f"{name}/{metadata.FILE}"
        if place is None:
            return Damage(file, name, self._all_names(name), (), reason)
        return Damage(file, name, self._names(name, node, place, chunk), self._steps(name, node, place), reason)

    def _all_names(self, name: str) -> tuple[str, ...]:
        return tuple(self._about(name).get("names", ()))

    def _names(self, name: str, node: Node, place: Place, chunk: int) -> tuple[str, ...]:
        """Whose values are in a file, or in one chunk of it."""
        if names := self._all_names(name):
            return names if chunk < 0 else self._of_layer(names, node, chunk)
        for axis, dim in enumerate(node["dimension_names"]):
            if dim in _TABLES:
                labels = self.values(f"{_TABLES[dim]}/{dim}")
                width = metadata.chunk_shape(node)[axis]
                held = () if labels is None else labels[place[axis] * width : (place[axis] + 1) * width].tolist()
                return tuple(map(str, held[: max(0, node["shape"][axis] - place[axis] * width)]))
        return ()

    def _of_layer(self, names: tuple[str, ...], node: Node, chunk: int) -> tuple[str, ...]:
        layout = Layout.of(node)
        if layout is None or not layout.sharded or node["dimension_names"][1:2] != [schema.LAYER]:
            return names
        layer = int(np.unravel_index(chunk, layout.per_file)[1])
        return names[layer * layout.chunk[1] : (layer + 1) * layout.chunk[1]]

    def _about(self, name: str) -> Mapping[str, Any]:
        group = self.root.nodes[name.rpartition("/")[0]]
        about: Mapping[str, Any] = group["attributes"].get(schema.ATTRIBUTES, {})
        return about if name.startswith(f"{schema.WEIGHTS}/") else {}

    def _steps(self, name: str, node: Node, place: Place) -> tuple[int, ...]:
        steps = self.values(f"{name.rpartition('/')[0]}/{schema.STEP}")
        if node["dimension_names"][:1] != [schema.STEP] or steps is None:
            return ()
        rows = metadata.chunk_shape(node)[0]
        held = steps[place[0] * rows : (place[0] + 1) * rows].tolist()
        return (held[0], held[-1]) if held else ()


def _files(folder: Path, node: Node) -> dict[Place, int]:
    """Sizes of the files of an array that hold anything of it, by their place."""
    found: dict[Place, int] = {}
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                place = metadata.chunk_indices(entry.name)
                if place is not None and len(place) == len(node["shape"]) and metadata.reaches(node, place):
                    found[place] = entry.stat().st_size
    return found


def _wrong(path: str, layout: Layout) -> Iterator[tuple[int, str]]:
    """Give each chunk of a file that cannot be read back, by its number, and why; -1 for all of it."""
    try:
        handle = os.open(path, AS_FILE)
    except OSError as error:
        yield -1, error.strerror or str(error)
        return
    try:
        for number, span in enumerate(spans_of(handle, layout)):
            try:
                if span == NEVER_WRITTEN:
                    raise ValueError("a chunk of it is missing")
                read_chunk(handle, layout, span)
            except (OSError, ValueError, MemoryError) as error:
                yield (number if layout.sharded else -1), str(error)
    except (OSError, ValueError, MemoryError) as error:
        yield -1, str(error)
    finally:
        os.close(handle)


def _grid(node: Node) -> tuple[int, ...]:
    return tuple(-(-length // one) for length, one in zip(node["shape"], metadata.chunk_shape(node), strict=True))


def _expected(node: Node, grid: tuple[int, ...]) -> int:
    """Count the files that were written."""
    gaps = node["attributes"].get(UNWRITTEN, ())
    never: int = sum(behind - first for one in gaps for first, behind in one)
    return math.prod(grid) - never * math.prod(grid[2:])


def _is_expected(node: Node, grid: tuple[int, ...], place: Place) -> bool:
    at = place[1] if len(place) > 1 else 0
    return not place or any(a <= place[0] < b for a, b in ranges(node["attributes"], count=grid[0], at=at))


def _places(node: Node, grid: tuple[int, ...]) -> Iterator[Place]:
    """Give the place of each file that was written, one by one: there may be said to be any number of them."""
    if not grid:
        yield ()
        return
    for at in range(grid[1] if len(grid) > 1 else 1):
        for first, behind in ranges(node["attributes"], count=grid[0], at=at):
            for number in range(first, behind):
                for rest in _indices(grid[2:]):
                    yield (number, at, *rest) if len(grid) > 1 else (number,)


def _indices(grid: tuple[int, ...]) -> Iterator[Place]:
    """Like `itertools.product` of ranges, which would hold each of them as a list."""
    if not grid:
        yield ()
        return
    for first in range(grid[0]):
        for rest in _indices(grid[1:]):
            yield (first, *rest)
