"""How does a damaged run become whole again, and where does what it loses go?"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import xarray as xr

from wdyn import schema
from wdyn.errors import DamagedRun, RunLocked
from wdyn.store import metadata, sealing
from wdyn.store.damage import Damage
from wdyn.store.disk import Disk
from wdyn.store.documents import Documents
from wdyn.store.examining import Examination
from wdyn.store.lock import Lock, holder
from wdyn.store.mending import Plan, blank, cut, plan
from wdyn.store.rebuilding import root_by_groups, statics
from wdyn.store.root import Root, parsed, read_document, read_root
from wdyn.store.tables import write_column
from wdyn.store.verifying import examine, folder_of, verify

REMOVED: Final = "removed"
"""Folder of a run that keeps what was taken out of it."""
NOTE: Final = "note.json"


@dataclass(frozen=True)
class Repair:
    """What `repair` did, or would do.

    Attributes
    ----------
    path
        The run.
    damages
        What was found.
    rows
        For each group that was cut: how many rows it had, and has.
    blanked
        Files in which what was damaged is now as if it had not been recorded.
    rebuilt
        Arrays that were written anew from their copies.
    removed
        Where what was taken out lies; None where nothing was.
    """

    path: Path
    damages: tuple[Damage, ...]
    rows: Mapping[str, tuple[int, int]]
    blanked: tuple[str, ...]
    rebuilt: tuple[str, ...]
    removed: Path | None

    def lines(self) -> list[str]:
        """Say it in words."""
        if not self.damages:
            return [f"{self.path}: everything is as it was written; there is nothing to repair"]
        told = [f"{self.path}: {len(self.damages):,} damaged or missing", *map(str, self.damages)]
        told += [f"{group}: {after:,} of {before:,} rows stay" for group, (before, after) in self.rows.items()]
        told += [f"{file}: what is damaged in it shows as not recorded" for file in self.blanked]
        told += [f"{array}: written anew from its copies" for array in self.rebuilt]
        return [*told, f"What was taken out lies in {self.removed}"] if self.removed else told


def repair(run: str | os.PathLike[str] | xr.DataTree, *, dry_run: bool = False) -> Repair:
    """Make a damaged run whole: cut it back to the last whole row, and keep what it loses.

    Each group is cut back to its last row of which every file is as it was written; what other groups hold stays. Where
    something is damaged before that row, only this becomes NaN, or -1, as what was not recorded. Labels, tables and
    metadata are written anew from their copies. The files that are replaced or cut off lie afterwards under
    ``removed/<time>/`` in the run, beside a ``note.json`` that tells why. The run can be read, verified and resumed.

    Parameters
    ----------
    run
        The run, or its folder.
    dry_run
        Say what would be done, and change nothing.

    Returns
    -------
    Repair
        What was found and done.

    Raises
    ------
    NotARun, NewerFormat
        No run is there, or one of a later wdyn.
    RunLocked
        It is being written.
    DamagedRun
        Too little is left of its metadata.
    """
    path = folder_of(run)
    found = verify(path)
    if found.is_whole:
        return Repair(path, (), {}, (), (), None)
    with _held(path, dry_run=dry_run):
        damages = verify(path).damages
        examination = Examination(path, _root(path))
        inside = examine(examination).damages
        todo = plan(examination, inside)
        told = {(one.file, one.array): one for one in [*inside, *damages]}
        done = _result(path, tuple(told.values()), todo)
        return done if dry_run else _carry_out(examination, todo, done)


@contextmanager
def _held(path: Path, *, dry_run: bool) -> Iterator[None]:
    if owner := holder(path):
        raise RunLocked(f"{path} is being written by {owner}; wait for it, and repair it then")
    lock = None if dry_run else Lock(path)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _root(path: Path) -> Root:
    """Read the root, or put it together where it is not as it was written."""
    try:
        document = read_document(path / metadata.FILE)
        if sealing.is_as_written(document):
            return read_root(path)
        attributes = parsed(document)["attributes"][schema.ATTRIBUTES]
    except (OSError, ValueError, KeyError, TypeError):
        attributes = {}
    try:
        return root_by_groups(path, attributes)
    except ValueError as error:
        raise DamagedRun(f"{path / metadata.FILE} is damaged, and {error}; nothing was changed") from error


def _result(path: Path, damages: tuple[Damage, ...], todo: Plan) -> Repair:
    blanked = tuple(f"{array}/{metadata.chunk_key(*place)}" for array, place in todo.blanked)
    return Repair(path, damages, todo.rows, blanked, todo.rebuilt, None)


def _carry_out(run: Examination, todo: Plan, done: Repair) -> Repair:
    """Copy what will be replaced, write what replaces it, make that visible, and move what it leaves behind."""
    kept = run.path / REMOVED / time.strftime("%Y-%m-%dT%H-%M-%S")
    while kept.exists():
        kept = kept.with_name(f"{kept.name}-again")
    replaced = [one.file for one in done.damages]
    _copy(run.path, kept, [metadata.FILE, *replaced, *todo.beyond])
    (kept / NOTE).write_text(json.dumps(_note(done), indent=2), encoding="utf-8")
    disk = Disk(run.path)
    nodes = cut(run.root.nodes, todo.rows)
    for array, place in todo.blanked:
        disk.rewrite(f"{run.path}/{array}/{metadata.chunk_key(*place)}", blank(run, array, place))
    for array in todo.rebuilt:
        values, (dim,) = statics(run, array), nodes[array]["dimension_names"]
        nodes[array] = write_column(run.path / array, values, disk=disk, dim=dim)
    _publish(run, disk, nodes, todo)
    for file in todo.beyond:
        (run.path / file).unlink(missing_ok=True)
    return Repair(done.path, done.damages, done.rows, done.blanked, done.rebuilt, kept)


def _copy(path: Path, kept: Path, files: Iterable[str]) -> None:
    kept.mkdir(parents=True)
    for file in dict.fromkeys(files):
        if (path / file).is_file():
            (kept / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path / file, kept / file)


def _publish(run: Examination, disk: Disk, nodes: dict[str, Any], todo: Plan) -> None:
    told = {**run.root.attributes.get("rows", {}), **{group: after for group, (_, after) in todo.rows.items()}}
    documents = Documents(nodes)
    root = metadata.group({schema.ATTRIBUTES: {**run.root.attributes, "rows": told}})
    disk.publish(f"{run.path}/{metadata.FILE}", documents.root(root))
    for name in documents:
        (run.path / name).mkdir(parents=True, exist_ok=True)
        disk.describe(f"{run.path}/{name}/{metadata.FILE}", documents.of(name))


def _note(done: Repair) -> dict[str, Any]:
    return {
        "why": [str(one) for one in done.damages],
        "rows": {group: {"before": before, "after": after} for group, (before, after) in done.rows.items()},
        "shown as not recorded": list(done.blanked),
        "written anew from copies": list(done.rebuilt),
    }
