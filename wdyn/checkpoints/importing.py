"""How does a series of saved models become a run?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wdyn.capture.watched import quantities
from wdyn.checkpoints.continuing import is_imported, missing
from wdyn.checkpoints.fitting import Member
from wdyn.checkpoints.series import origins, series
from wdyn.checkpoints.writing import Progress, write
from wdyn.errors import CannotRecord, InvalidArgument, RunExists, RunLocked, WdynError
from wdyn.schema import Extra, Quantity
from wdyn.store.reader import open_run
from wdyn.store.root import is_run
from wdyn.telling import Teller

if TYPE_CHECKING:
    import xarray as xr

_KNOWN = (Quantity.WEIGHTS, Quantity.DISPLACEMENT, Extra.MOMENTS)


def import_checkpoints(
    saved: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    to: str | os.PathLike[str],
    step_pattern: str | None = None,
    revisions: Sequence[str] = (),
    key: str | None = None,
    base: str | os.PathLike[str] | None = None,
    what: str | Sequence[str] = ("weights", "moments"),
    progress: Progress = lambda words, done, total: None,
) -> xr.DataTree:
    r"""Make a run of models that were saved while another program trained.

    The run answers as one that `wdyn.watch` recorded: exact weights at each step, statistics and histograms of them,
    and, as far as they were saved, of the optimizer's moments; learning rates and what the trainer logged. There are no
    updates and no gradients: between two saved models lie many steps.

    Where `to` holds what an earlier import made, only what is new is read. An import that was cut off goes on where it
    was, when it is called again; until it is done, nothing is at `to`. Values are read one tensor at a time.

    Parameters
    ----------
    saved
        A folder of checkpoints, one checkpoint, several, or a name on the Hugging Face hub. Each is what
        `wdyn.describe` reads, a Lightning checkpoint, a folder of ``torch.distributed.checkpoint``, or a PEFT adapter.
    to
        Where the run goes.
    step_pattern
        A regular expression that finds the step in a file's name: ``r"step_(\d+)"``. Default: what the optimizer
        counted, else a field such as ``global_step`` or ``epoch``, else the name; the first that all have.
    revisions
        Of a model on the hub: ``("step1000", "step2000")``.
    key
        Which model, where files hold several: ``"ema"``.
    base
        The model that PEFT adapters adapt; the weights are then those of both together.
    what
        Some of ``weights``, ``moments`` and ``displacement`` (the weights minus the first that were saved).
    progress
        Called while tensors are read, with what is read, how many of all were, and how many there are.

    Returns
    -------
    DataTree
        The run, opened. Each of its attempts names its sources under ``imported``, with the step of each and what told
        it.

    Raises
    ------
    InvalidArgument
        An argument cannot be used, a file cannot be read, or the checkpoints are not one series of one model; the
        message names the file. No run is begun.
    RunExists
        A run is at `to` that was not imported.
    CannotRecord
        The place cannot be written.
    """
    wanted = _wanted(what)
    place = Path(to)
    _check_place(place)
    tell = Teller().tell
    found, scanned = origins(saved, revisions=revisions, key=key, base=base)
    members = series(found, scanned=scanned, step_pattern=step_pattern, tell=tell)
    try:
        if is_run(place):
            write(place, missing(place, members), series=members, what=wanted, progress=progress)
        else:
            _begin(place, members, what=wanted, progress=progress)
    except OSError as error:
        if isinstance(error, WdynError):
            raise
        raise CannotRecord(f"Cannot import to {place}: {error}. Needed is a folder that can be written") from error
    return open_run(place)


def _wanted(what: str | Sequence[str]) -> tuple[Quantity | Extra, ...]:
    wanted = quantities(what)
    if other := [str(one) for one in wanted if one not in _KNOWN]:
        raise InvalidArgument(
            f"what={', '.join(other)} is not known of saved models, between which many steps lie. Needed are some of "
            f"{', '.join(map(str, _KNOWN))}"
        )
    return wanted


def _check_place(place: Path) -> None:
    if is_run(place):
        if not is_imported(place):
            raise RunExists(f"{place} holds a run that was recorded while it trained; import to another place")
    elif place.exists():
        raise InvalidArgument(f"{place} exists and is no run; choose a path that does not exist yet")


def _begin(place: Path, members: Sequence[Member], *, what: Collection[Quantity | Extra], progress: Progress) -> None:
    """Make a run beside its place, and move it there when it is whole. One that was cut off there goes on."""
    beside = place.parent / f".{place.name}.importing"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(beside, _rest(beside, members), series=members, what=what, progress=progress)
    except RunLocked:  # by another import, whose run it is
        raise
    except WdynError:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    beside.rename(place)


def _rest(beside: Path, members: Sequence[Member]) -> Sequence[Member]:
    if not is_run(beside):
        return members
    try:
        return missing(beside, members)
    except WdynError:  # another series was cut off here, or the disk is at fault
        shutil.rmtree(beside)
        return members
