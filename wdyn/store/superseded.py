"""Which rows of a run were superseded, what do they take, and what is the run without them?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.errors import DamagedRun
from wdyn.store import encoding, files, metadata
from wdyn.store.documents import Documents
from wdyn.store.gathering import DamagedFile, gather
from wdyn.store.layout import Layout
from wdyn.store.lineage import effective
from wdyn.store.lock import FOLDER
from wdyn.store.metadata import Node
from wdyn.store.pieces import Wanted
from wdyn.store.root import Root
from wdyn.store.stored import StoredArray
from wdyn.store.written import UNWRITTEN, Gaps, Written, ranges

Rows = npt.NDArray[np.int64]


class Superseded:
    """The rows of a run that do not stand.

    Attributes
    ----------
    rows, by_attempt
        Their count by group, and by the number of the attempt that wrote them.
    """

    def __init__(self, place: Path, root: Root) -> None:
        self._place, self._root = place, root
        self._kept: dict[str, Rows] = {}
        self.rows: dict[str, int] = {}
        self.by_attempt: dict[int, int] = {}
        for group in root.groups_with(schema.ATTEMPT):
            step, by = (self._read(f"{group}/{name}") for name in (schema.STEP, schema.ATTEMPT))
            stands = effective(step, by, root.attributes["attempts"])
            if stands.all():
                continue
            self._kept[group] = np.flatnonzero(stands)
            self.rows[group] = int((~stands).sum())
            for number in by[~stands].tolist():
                self.by_attempt[number] = self.by_attempt.get(number, 0) + 1

    def nbytes(self) -> int:
        """About what they take on disk: of a file that holds several rows its share of them."""
        return int(sum(file.stat().st_size * share for group in self._kept for file, share in self._shares(group)))

    def leave_out(self, to: Path) -> None:
        """Make the run without them at `to`, which is not there yet."""
        nodes = {path: self._shortened(path, node) for path, node in self._root.nodes.items()}
        for path, node in self._root.nodes.items():
            if node["node_type"] == "array":
                self._build_array(path, node, to)
        self._link_others(to)
        documents = Documents(nodes)
        for path in documents:
            files.write(f"{to}/{path}/{metadata.FILE}", [documents.of(path)])
        files.write(f"{to}/{metadata.FILE}", [documents.root(metadata.group({schema.ATTRIBUTES: self._attributes()}))])

    def _link_others(self, to: Path) -> None:
        """Take along what is no part of the tables and rows: the lock, and what else lies there."""
        for entry in self._place.iterdir():
            if entry.is_dir() and entry.name not in self._root.nodes:
                shutil.copytree(entry, to / entry.name, copy_function=_link, dirs_exist_ok=True)

    def _attributes(self) -> dict[str, Any]:
        about = dict(self._root.attributes)
        rows = {path: count - self.rows.get(path, 0) for path, count in about.get("rows", {}).items()}
        return {**about, "rows": rows, "attempts": [self._noted(one) for one in about["attempts"]]}

    def _noted(self, attempt: Mapping[str, Any]) -> Mapping[str, Any]:
        gone = self.by_attempt.get(attempt["number"], 0)
        return {**attempt, "pruned": attempt.get("pruned", 0) + gone} if gone else attempt

    def _shortened(self, path: str, node: Node) -> Node:
        kept = self._kept_of(path, node)
        if kept is None:
            return node
        attributes = {name: value for name, value in node["attributes"].items() if name != UNWRITTEN}
        if path.rpartition("/")[2] != schema.VALUE and (gaps := _gaps(node, kept)):
            attributes[UNWRITTEN] = gaps
        return {**node, "shape": [len(kept), *node["shape"][1:]], "attributes": attributes}

    def _kept_of(self, path: str, node: Node) -> Rows | None:
        """Give the rows of an array that stand; None where none of them goes."""
        rows = node["node_type"] == "array" and node["dimension_names"][:1] == [schema.STEP]
        return self._kept.get(path.rpartition("/")[0]) if rows else None

    def _build_array(self, path: str, node: Node, to: Path) -> None:
        kept = self._kept_of(path, node)
        if kept is not None and metadata.chunk_shape(node)[0] > 1:
            self._rewrite(path, node, kept, to)
            return
        new_row = None if kept is None else {old: new for new, old in enumerate(kept.tolist())}
        (to / path).mkdir(parents=True)
        for file, at in self._chunks(path, node):
            if new_row is None:
                _link(str(file), str(to / path / file.name))
            elif at[0] in new_row:
                _link(str(file), str(to / path / metadata.chunk_key(new_row[at[0]], *at[1:])))

    def _chunks(self, path: str, node: Node) -> Iterator[tuple[Path, tuple[int, ...]]]:
        """Give the files of an array that hold committed values, and their places."""
        for file in (self._place / path).glob("c*"):
            at = metadata.chunk_indices(file.name)
            if at is not None and metadata.reaches(node, at):
                yield file, at

    def _rewrite(self, path: str, node: Node, kept: Rows, to: Path) -> None:
        """Write the chunks of an array of which each holds several rows."""
        layout = Layout.of(node)
        if layout is None or node["codecs"] != metadata.SMALL:
            raise DamagedRun(f"{path} cannot be pruned: it is not encoded as wdyn encodes rows")
        length = layout.chunk[0]
        there = {at for _, at in self._chunks(path, node)}
        if lost := _written(node, np.unique(kept // length)) - there:
            key = metadata.chunk_key(*min(lost))
            raise DamagedRun(f"{self._place}/{path}/{key} cannot be read back: it is missing. Repair the run first")
        for number, start in enumerate(range(0, len(kept), length)):
            try:
                wanted: tuple[Wanted, ...] = (kept[start : start + length], *(slice(None) for _ in layout.shape[1:]))
                rows = gather(f"{self._place}/{path}", layout, wanted)
            except DamagedFile as error:
                raise DamagedRun(f"{error.file} cannot be read back: {error.reason}. Repair the run first") from error
            held = _held(node, kept[start : start + length])
            for at, key, block in _blocks(rows, layout, number):
                if at not in held:
                    continue
                files.write(f"{to}/{path}/{key}", encoding.small_chunk(block))

    def _shares(self, group: str) -> Iterator[tuple[Path, float]]:
        """Give each file of a group that holds superseded rows, and the share of these."""
        kept = self._kept[group]
        for name, node in self._root.members(group).items():
            if self._kept_of(f"{group}/{name}", node) is None:
                continue
            length = metadata.chunk_shape(node)[0]
            gone = np.setdiff1d(np.arange(node["shape"][0]), kept) // length
            held = dict(zip(*np.unique(gone, return_counts=True), strict=True))
            for file, at in self._chunks(f"{group}/{name}", node):
                if at[0] in held:
                    yield file, held[at[0]] / min(length, node["shape"][0] - at[0] * length)

    def _read(self, path: str) -> npt.NDArray[np.int64]:
        return StoredArray(self._place, path, self._root.nodes[path]).read()


def _across(node: Node) -> int:
    """Count of chunks along the columns."""
    return -(-node["shape"][1] // metadata.chunk_shape(node)[1]) if len(node["shape"]) > 1 else 1


def _held(node: Node, rows: Rows) -> set[int]:
    """Give the chunks along the columns of which any was written where these rows lay."""
    length = metadata.chunk_shape(node)[0]
    count, numbers = -(-node["shape"][0] // length), set((rows // length).tolist())
    return {
        at
        for at in range(_across(node))
        if any(numbers & set(range(*one)) for one in ranges(node["attributes"], count=count, at=at))
    }


def _written(node: Node, numbers: Rows) -> set[tuple[int, ...]]:
    """Give the places of the chunks with these numbers along `step` that were written."""
    length = metadata.chunk_shape(node)[0]
    places = ((number, at) for number in numbers.tolist() for at in _held(node, np.array([number * length])))
    return {place[: len(node["shape"])] for place in places}


def _gaps(node: Node, kept: Rows) -> Gaps:
    """Tell which chunks are not written once only the rows that are kept follow each other."""
    length, written = metadata.chunk_shape(node)[0], Written()
    for number, start in enumerate(range(0, len(kept), length)):
        for at in _held(node, kept[start : start + length]):
            written.add(number, at=at)
    return written.gaps(count=-(-len(kept) // length), across=_across(node))


def _blocks(rows: npt.NDArray[Any], layout: Layout, number: int) -> Iterator[tuple[int, str, npt.NDArray[Any]]]:
    """Cut rows into the chunks along their columns, padded: where each is, its key, and what it holds."""
    width = layout.chunk[1] if rows.ndim > 1 else 1
    for at, start in enumerate(range(0, rows.shape[1] if rows.ndim > 1 else 1, width)):
        block = np.full(layout.chunk, layout.fill, dtype=layout.dtype)
        some = rows[:, start : start + width] if rows.ndim > 1 else rows
        block[tuple(slice(0, count) for count in some.shape)] = some
        yield at, metadata.chunk_key(*((number, at) if rows.ndim > 1 else (number,))), block


def _link(source: str, target: str) -> str:
    """Give a file a second name, or copy it where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        # To open the lock would give it free; the new run then has one of its own.
        if Path(source).parent.name != FOLDER:
            shutil.copy2(source, target)
    return target
