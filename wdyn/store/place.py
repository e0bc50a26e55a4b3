"""May a recording begin at this place, and after which step does it continue?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.arrays import WeightArray
from wdyn.errors import CannotRecord, InvalidArgument, NotARun, RunExists, WdynError
from wdyn.rows import Before
from wdyn.schema import Quantity
from wdyn.store.lock import FOLDER as LOCK_FOLDER
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
        Something else is there, or `resume` is a negative step.
    NotARun
        `resume` names a step, and no run is there.
    """
    place = Path(to)
    if resume is not True and resume is not False and resume < 0:
        raise InvalidArgument(f"resume={resume}: needed is True, False, or a step, 0 or more")
    there = _is_taken(place)
    if there and not is_run(place):
        raise InvalidArgument(f"{place} exists and is no run; choose a path that does not exist yet")
    if there and resume is False:
        raise RunExists(
            f"{place} already holds a run. Three ways on: continue it with watch(..., resume=True), record elsewhere "
            f"with to=..., or delete it"
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
    states = _opened(place).children.get(schema.STATES)
    return 0 if states is None else int(states[schema.STEP].max(initial=0))


def open_writer(
    place: Path,
    *,
    model: str,
    optimizers: Sequence[Mapping[str, Any]],
    attempt: Mapping[str, Any],
    compression: str | None = None,
) -> Writer:
    """Begin an attempt: a new run, or the next one of the run that is there.

    Raises
    ------
    RunLocked
        Another writer holds the run.
    CannotRecord
        The place cannot be written.
    """
    about = {"model": model, "optimizers": list(optimizers)}
    resume = attempt["resumed_from_step"] != FRESH
    try:
        return Writer(place, about=about, attempt=attempt, resume=resume, compression=compression)
    except OSError as error:
        if isinstance(error, WdynError):
            raise
        raise CannotRecord(f"Cannot record into {place}: {error}. Needed is a folder that can be written") from error


def held_before(writer: Writer, *, step: int, first_weights: bool = False) -> Before | None:
    """Give what the run held that is continued after `step`; None for a run that starts.

    The weights at its first row are read only if `first_weights` asks for them.
    """
    if writer.attempt == 0:
        return None
    run = _opened(writer.path)
    return Before(
        table=_columns(run.children.get(schema.PARAMETERS)),
        parts=_columns(run.children.get(schema.PARTS)),
        arrays=tuple(writer.arrays.values()),
        last_step=last_step(writer.path),
        statistics=_weights_at(run, step),
        first=_first_weights(run, writer.arrays) if first_weights else {},
    )


def _columns(table: xr.DataTree | None) -> dict[str, npt.NDArray[Any]]:
    if table is None:
        return {}
    return {str(name): np.asarray(values.values) for name, values in table.to_dataset(inherit=False).variables.items()}


def _first_weights(run: xr.DataTree, arrays: Mapping[str, WeightArray]) -> dict[str, npt.NDArray[Any]]:
    """Read what was kept of the weights at the first row of the lineage."""
    states = run.children.get(schema.STATES)
    if states is None or not states[schema.STEP].size:
        return {}
    step = int(states[schema.STEP].min())
    found: dict[str, npt.NDArray[Any]] = {}
    for slug, array in arrays.items():
        kept = run.children[schema.WEIGHTS].children[slug].to_dataset(inherit=False)
        if step in kept[schema.STEP].values:
            values = np.asarray(kept[schema.VALUE].sel({schema.STEP: step}).values)
            found |= dict(zip(array.names, values if array.layers else [values], strict=True))
    return found


def _weights_at(run: xr.DataTree, step: int) -> dict[str, npt.NDArray[np.float64]]:
    statistics = run.children.get(schema.STATISTICS)
    recorded = None if statistics is None else statistics.children.get(str(Quantity.WEIGHTS))
    if recorded is None:
        return {}
    rows = recorded.to_dataset(inherit=False)
    if step not in rows[schema.STEP].values:
        return {}
    row = rows.sel({schema.STEP: step})
    return {name: np.asarray(row[name].values, dtype=np.float64) for name in ("std", "l1") if name in row}


def _is_taken(place: Path) -> bool:
    """Whether anything is there, beside the traces of a recording that was killed before its first row."""
    if not place.is_dir():
        return place.exists()
    return is_run(place) or (any(place.iterdir()) and not (place / LOCK_FOLDER).is_dir())


def _opened(place: Path) -> xr.DataTree:
    # Loaded here: to import xarray takes longer than a small recording, and only one that continues a run needs it.
    from wdyn.store.reader import open_run

    return open_run(place)
