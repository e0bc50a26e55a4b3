"""How do the rows that a later attempt superseded leave a run, without an effective one ever being at risk?

The run is built anew beside the old one, which nothing changes: a file in which every row stands is linked, others are
written. Once the new one is durable the two folders change places, in one step where the file system can, and the old
one is deleted.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from wdyn.errors import CannotRecord, WdynError
from wdyn.store import files
from wdyn.store.lock import Lock
from wdyn.store.root import is_run, read_root
from wdyn.store.superseded import Superseded

BESIDE = ".pruning"
"""Suffix of the folder in which the new run is built, and which holds the old one while that is deleted."""


@dataclass(frozen=True)
class Pruned:
    """What `prune` deleted, or would delete.

    Attributes
    ----------
    rows
        Superseded rows by group; a group without any is not there.
    attempts
        Superseded rows by the number of the attempt that wrote them.
    nbytes
        By how much the files shrink; before it is done, about.
    """

    rows: dict[str, int]
    attempts: dict[int, int]
    nbytes: int


def prune(path: str | os.PathLike[str], *, dry_run: bool = False) -> Pruned:
    """Delete the rows of a run that later attempts superseded; all that `open_run` shows stays, bit for bit.

    The list of attempts stays too, and says how many rows of each are gone: `open_run(path, attempt=...)` then shows
    what is left of it. A run that is killed at any moment is the old one or the new one, whole; calling again takes
    away what was left beside it. A run that was opened before should be opened again.

    Parameters
    ----------
    path
        The run.
    dry_run
        Tell what would go, and delete nothing.

    Returns
    -------
    Pruned
        Superseded rows by group and by attempt, and the bytes that they take.

    Raises
    ------
    NotARun, NewerFormat, DamagedRun
        `path` holds no run, one of a later wdyn, or one that cannot be read.
    RunLocked
        It is being written.
    CannotRecord
        It, or the folder above it, cannot be written.
    """
    place = Path(path)
    beside = place.with_name(place.name + BESIDE)
    _finish(place, beside)
    root = read_root(place)
    if dry_run:
        return _told(Superseded(place, root))
    try:
        lock = Lock(place)
        try:
            return _pruned(place, beside)
        finally:
            lock.release()
    except OSError as error:
        if isinstance(error, WdynError):
            raise
        raise CannotRecord(f"{place} could not be pruned: {error}. All that it showed is still there") from error


def _told(gone: Superseded) -> Pruned:
    return Pruned(gone.rows, gone.by_attempt, gone.nbytes())


def _pruned(place: Path, beside: Path) -> Pruned:
    gone = Superseded(place, read_root(place))  # as it is under the lock
    for left in (beside, files.aside(beside)):
        if left.exists():
            shutil.rmtree(left)
    if not gone.rows:
        return _told(gone)
    before = _size(place)
    gone.leave_out(beside)
    files.make_durable(beside, [str(file) for file in beside.rglob("*") if file.is_file()])
    after = _size(beside)
    files.exchange(beside, place)
    files.sync(place.parent)
    shutil.rmtree(beside)
    return Pruned(gone.rows, gone.by_attempt, before - after)


def _finish(place: Path, beside: Path) -> None:
    """Put the new run where it belongs, if a kill came between the two renames that stand for an exchange."""
    if not place.exists() and is_run(beside):
        beside.rename(place)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
