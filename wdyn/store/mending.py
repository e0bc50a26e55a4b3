"""What must become of a damaged run for all that is left of it to be whole?

A row is whole if every file that holds a part of it is as it was written. Each group is cut back to its last whole row;
what is damaged before that row becomes what was not recorded, NaN or -1. What other groups hold stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.store import encoding, metadata
from wdyn.store.damage import Damage
from wdyn.store.dtypes import BITS_OF
from wdyn.store.examining import Examination, Place
from wdyn.store.files import Piece
from wdyn.store.gathering import AS_FILE, NEVER_WRITTEN, read_chunk, spans_of
from wdyn.store.layout import Layout
from wdyn.store.metadata import Node
from wdyn.store.series import is_coordinate
from wdyn.store.written import UNWRITTEN


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes
    ----------
    rows
        For each group that is cut: how many rows it had, and keeps.
    blanked
        Files of which a part becomes what was not recorded: the array, and the place of each in its grid.
    rebuilt
        Arrays without rows that are written anew from their copies.
    beyond
        Files that hold nothing but rows which are cut off.
    """

    rows: Mapping[str, tuple[int, int]]
    blanked: tuple[tuple[str, Place], ...]
    rebuilt: tuple[str, ...]
    beyond: tuple[str, ...]


def plan(run: Examination, damages: tuple[Damage, ...]) -> Plan:
    """Decide what becomes of each damaged file."""
    places = [(one.array, at) for one in damages if (at := _place(one)) is not None and one.array in run.root.nodes]
    growing = [(array, at) for array, at in places if _has_rows(run.root.nodes[array])]
    still = sorted({array for array, at in places if not _has_rows(run.root.nodes[array])})
    rows = {}
    for group in run.root.groups_with(schema.STEP):
        own = [(array, at) for array, at in growing if array.rpartition("/")[0] == group]
        before = min(node["shape"][0] for node in run.root.members(group).values() if _has_rows(node))
        after = _kept(run, group, before, own)
        if after != before or any(
            node["shape"][0] != after for node in run.root.members(group).values() if _has_rows(node)
        ):
            rows[group] = (before, after)
    kept = {group: after for group, (_, after) in rows.items()}
    blanked = tuple((array, at) for array, at in growing if _reaches(run, array, at, kept))
    return Plan(rows, blanked, tuple(still), tuple(_beyond(run, kept)))


def cut(nodes: Mapping[str, Node], rows: Mapping[str, tuple[int, int]]) -> dict[str, Node]:
    """Give the metadata of a run whose groups have lost their last rows."""
    found: dict[str, Node] = {}
    for path, node in nodes.items():
        _, after = rows.get(path.rpartition("/")[0], (0, -1))
        found[path] = _shortened(node, after) if after >= 0 and _has_rows(node) else node
    return found


def blank(run: Examination, array: str, place: Place) -> list[Piece]:
    """Encode a file of an array anew, with what is damaged in it as if it had not been recorded."""
    layout = Layout.of(run.root.nodes[array])
    assert layout is not None  # else its damage had no place
    file = f"{run.path}/{array}/{metadata.chunk_key(*place)}"
    packed = layout.compression == "blosc"
    if layout.sharded:
        return list(encoding.shard(_chunks(file, layout), compressed=packed))
    missing = np.full(layout.chunk, layout.fill, dtype=layout.dtype)
    return encoding.small_chunk(missing) if layout.compression == "zstd" else encoding.chunk(missing, compressed=packed)


def _chunks(file: str, layout: Layout) -> Iterator[npt.NDArray[Any]]:
    """Give each chunk of a shard, or what stands for one that cannot be read back."""
    missing = np.full(layout.chunk, layout.fill, dtype=layout.dtype)
    count = int(np.prod(layout.per_file))
    try:
        handle = os.open(file, AS_FILE)
    except OSError:
        yield from (missing for _ in range(count))
        return
    try:
        try:
            spans = spans_of(handle, layout)
        except (OSError, ValueError):
            spans = [NEVER_WRITTEN] * count
        for span in spans:
            try:
                yield missing if span == NEVER_WRITTEN else read_chunk(handle, layout, span)
            except (OSError, ValueError):
                yield missing
    finally:
        os.close(handle)


def _kept(run: Examination, group: str, rows: int, damaged: list[tuple[str, Place]]) -> int:
    """Count the rows of a group up to its last whole one."""
    rows = min(rows, _rising(run, group, rows))
    spans: list[tuple[int, int]] = []
    for array, place in damaged:
        height = metadata.chunk_shape(run.root.nodes[array])[0]
        spans.append((place[0] * height, (place[0] + 1) * height))
        if is_coordinate(array.rpartition("/")[2]) or not _can_be_missing(run.root.nodes[array]):
            rows = min(rows, spans[-1][0])  # a row of which nobody knows the step is none
    while covering := [first for first, behind in spans if first < rows <= behind]:
        rows = min(covering)
    return rows


def _rising(run: Examination, group: str, rows: int) -> int:
    steps, attempts = run.values(f"{group}/{schema.STEP}"), run.values(f"{group}/{schema.ATTEMPT}")
    if steps is None or attempts is None:
        return rows
    steps, attempts = steps[:rows], attempts[:rows]
    known = (attempts >= 0) & (attempts < len(run.root.attributes["attempts"]))
    falls = np.where(np.diff(attempts) == 0, np.diff(steps) <= 0, np.diff(attempts) < 0)
    wrong = np.flatnonzero(~known | np.insert(falls, 0, values=False)) if len(attempts) else np.empty(0)
    return int(wrong[0]) if len(wrong) else rows


def _place(damage: Damage) -> Place | None:
    return metadata.chunk_indices(PurePosixPath(damage.file).name)


def _has_rows(node: Node) -> bool:
    return bool(node["node_type"] == "array" and node["dimension_names"][:1] == [schema.STEP])


def _can_be_missing(node: Node) -> bool:
    """Whether what is not recorded looks different from every value."""
    attributes = node["attributes"]
    return BITS_OF in attributes or "missing_value" in attributes or np.dtype(node["data_type"]).kind in "fc"


def _reaches(run: Examination, array: str, place: Place, kept: Mapping[str, int]) -> bool:
    node = run.root.nodes[array]
    after = kept.get(array.rpartition("/")[0])
    return metadata.reaches(node if after is None else _shortened(node, after), place)


def _beyond(run: Examination, kept: Mapping[str, int]) -> Iterator[str]:
    for array, files in run.files.items():
        if array.rpartition("/")[0] in kept and _has_rows(run.root.nodes[array]):
            for place in files:
                if not _reaches(run, array, place, kept):
                    yield f"{array}/{metadata.chunk_key(*place)}"


def _shortened(node: Node, rows: int) -> Node:
    attributes = dict(node["attributes"])
    if UNWRITTEN in attributes:
        count = -(-rows // metadata.chunk_shape(node)[0])
        gaps = [[[a, min(b, count)] for a, b in one if a < count] for one in attributes.pop(UNWRITTEN)]
        attributes |= {UNWRITTEN: gaps} if any(gaps) else {}
    return {**node, "shape": [rows, *node["shape"][1:]], "attributes": attributes}
