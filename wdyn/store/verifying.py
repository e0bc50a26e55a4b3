"""Is everything in a run as it was written?"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import xarray as xr

from wdyn import schema
from wdyn.errors import DamagedRun, InvalidArgument, NewerFormat, NotARun, WdynError
from wdyn.store import metadata, sealing
from wdyn.store.agreeing import disagreements
from wdyn.store.damage import Damage, Verification
from wdyn.store.examining import Examination
from wdyn.store.reader import PATH
from wdyn.store.root import read_document, read_root

_ALWAYS = ((schema.STATES, schema.STEP), (schema.PARAMETERS, schema.PARAMETER))

Progress = Callable[[int, int], None]
"""Told how many files were read back, and how many there are."""


def verify(a: str | os.PathLike[str] | xr.DataTree, *, progress: Progress | None = None) -> Verification:
    """Read a run back, all of it, and say what is not as it was written.

    Every chunk of every array is read, and its checksum compared: values, index arrays, tables, histograms, parts.
    Files that were written and are not there are told, metadata is compared with its checksum and its copies, steps
    must rise, and names must be those of the tables. It takes the memory of one chunk at a time. A run that is being
    written can be verified; what it holds by then is.

    Parameters
    ----------
    a
        The run, or its folder.
    progress
        Called with the count of files read so far, and with that of all.

    Returns
    -------
    Verification
        What is damaged, by file, array, parameters and steps.

    Raises
    ------
    NotARun, NewerFormat
        No run is there, or one of a later wdyn.
    InvalidArgument
        `a` is a run in memory, of which no file is known.
    """
    path = folder_of(a)
    try:
        run = Examination(path, read_root(path))
    except DamagedRun as error:
        return _without_root(path, error)
    except (NotARun, NewerFormat) as error:
        if not _was_a_run(path):
            raise
        return _without_root(path, error)
    return examine(run, progress=progress)


def examine(run: Examination, *, progress: Progress | None = None) -> Verification:
    """Read back all that a run holds."""
    damages: list[Damage] = []
    done, total = 0, sum(map(len, run.files.values()))
    for name in run.arrays():
        for damage in run.damages(name):
            if damage is not None:
                damages.append(damage)
            done = min(done + 1, total)
            if progress is not None:
                progress(done, total)
    damages += disagreements(run)
    size = sum(sum(files.values()) for files in run.files.values())
    return Verification(run.path, total, size, tuple(damages))


def _without_root(path: Path, error: WdynError) -> Verification:
    reason = str(error).removeprefix(f"{path / metadata.FILE} ")
    return Verification(path, 0, 0, (Damage(metadata.FILE, "", (), (), reason),))


def _was_a_run(path: Path) -> bool:
    """Whether what every run has is there, and the root is not as a run's was written."""
    if not all((path / name / array).is_dir() for name, array in _ALWAYS):
        return False
    try:
        return not sealing.is_as_written(read_document(path / metadata.FILE))
    except (OSError, ValueError):
        return True


def folder_of(run: str | os.PathLike[str] | xr.DataTree) -> Path:
    """Give the folder of a run that was opened, or is named."""
    if not isinstance(run, xr.DataTree):
        return Path(run)
    if PATH not in run.attrs:
        raise InvalidArgument("This run is in memory, and no folder of it is known; give the path of one")
    return Path(run.attrs[PATH])
