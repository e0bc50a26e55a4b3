"""May a recording begin at this place, and after which step does it continue?"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from wdyn import schema
from wdyn.errors import CannotRecord, InvalidArgument, NotARun, RunExists, WdynError
from wdyn.store.lock import FOLDER as LOCK_FOLDER
from wdyn.store.lock import holder
from wdyn.store.root import is_run
from wdyn.store.writer import Writer

if TYPE_CHECKING:
    import xarray as xr

FRESH = -1


def check_place(to: str | os.PathLike[str], *, resume: bool | int) -> Path:
    """Refuse a place where recording cannot begin, or cannot continue; write nothing.

    Raises
    ------
    RunExists
        A run is there, and `resume` is False.
    InvalidArgument
        Something else is there, or `resume` is neither a bool nor a step.
    NotARun
        `resume` names a step, and no run is there.
    """
    place = Path(to)
    if not isinstance(resume, SupportsIndex) or resume < 0:
        raise InvalidArgument(f"resume={resume!r}: needed is True, False, or a step, 0 or more")
    there = _is_taken(place)
    if there and not is_run(place):
        raise InvalidArgument(f"{place} exists and is no run; choose a path that does not exist yet")
    if there and resume is False:
        writing = holder(place)
        raise RunExists(
            f"{place} already holds a run{writing and f', still written by {writing}: end that first'}. Three ways on: "
            f"continue it with watch(..., resume=True), record elsewhere with to=..., or delete it: "
            f"rm -r {shlex.quote(str(place))}"
        )
    if not there and resume is not True and resume is not False:
        raise NotARun(f"resume={resume}, but no run is at {place}; leave resume out to start one")
    return place


def resume_step(place: Path, *, resume: bool | int, loaded: int | None) -> int:
    """Give the step to continue after; -1 for a run that starts."""
    if resume is False or not is_run(place):
        return FRESH
    if resume is not True:
        return int(resume)
    return last_step(place) if loaded is None else loaded


def last_step(place: Path) -> int:
    """Give the last step of the effective lineage; 0 for a run that was killed before its first row."""
    states = opened(place).children.get(schema.STATES)
    return 0 if states is None else int(states[schema.STEP].max(initial=0))


def open_writer(
    place: Path,
    *,
    about: Mapping[str, Any],
    attempt: Mapping[str, Any],
    resume: bool | int = False,
    loaded: int | None = None,
    compression: str | None = None,
) -> tuple[Writer, int]:
    """Begin an attempt: a new run, or the next one of the run that is there.

    Returns
    -------
    tuple
        The writer, and the step that it continues after, -1 for a run that starts. That is read when nobody else can
        write the run any more: a writer that is about to end may still add rows until then.

    Raises
    ------
    RunLocked
        Another writer holds the run.
    CannotRecord
        The place cannot be written.
    """
    begun = {"resumed_from_step": FRESH, **attempt}
    there = is_run(place) if resume is True else resume is not False
    try:
        writer = Writer(place, about=about, attempt=begun, resume=there, compression=compression)
        try:
            step = resume_step(place, resume=resume, loaded=loaded)
            writer.continue_after(step)
        except BaseException:
            writer.abandon()
            raise
        return writer, step
    except OSError as error:
        if isinstance(error, WdynError):
            raise
        raise CannotRecord(f"Cannot record into {place}: {error}. Needed is a folder that can be written") from error


def _is_taken(place: Path) -> bool:
    """Whether anything is there, beside the traces of a recording that was killed before its first row."""
    if not place.is_dir():
        return place.exists()
    return is_run(place) or (any(place.iterdir()) and not (place / LOCK_FOLDER).is_dir())


def opened(place: Path) -> xr.DataTree:
    """Open the run that is to be continued."""
    # Loaded here: to import xarray takes longer than a small recording, and only one that continues a run needs it.
    from wdyn.store.reader import open_run

    return open_run(place)
