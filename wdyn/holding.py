"""What of a run does this process hold: all of it, the lead of several, or a share?"""

from __future__ import annotations

import json
import secrets
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from wdyn.capture import meeting as meetings
from wdyn.capture.adapters import adapter_scales
from wdyn.capture.circumstances import circumstances
from wdyn.capture.meeting import Meeting
from wdyn.capture.model_config import left_out, model_config, model_name
from wdyn.capture.optimizers import about
from wdyn.capture.pieces import is_spread, piece
from wdyn.capture.plan import Plan
from wdyn.capture.processes import rank_and_count, records_together
from wdyn.capture.sharing import ALONE, Held, Sharing
from wdyn.capture.spread import divided_tensors
from wdyn.errors import CannotRecord, InvalidArgument
from wdyn.naming import examples
from wdyn.rows import Batch, Before
from wdyn.schema import Quantity
from wdyn.store import weights
from wdyn.store.assembling import Assembler
from wdyn.store.held import held_before
from wdyn.store.lateness import await_others
from wdyn.store.place import check_place, open_writer
from wdyn.store.root import read_root
from wdyn.store.sink import Sink
from wdyn.store.spool import Spool
from wdyn.store.spooling import Spooler
from wdyn.store.writer import Writer


@dataclass(frozen=True)
class Holding:
    """A run that is about to be recorded.

    Attributes
    ----------
    sink
        What this process writes to.
    step
        That of the first row.
    before
        What the run held that is continued, if any.
    sharing
        Which process records what.
    meeting
        The processes, where there are several.
    complete
        Makes of the first batch of this process what is to be committed.
    """

    sink: Sink
    step: int
    before: Before | None
    sharing: Sharing = ALONE
    meeting: Meeting | None = None
    complete: Callable[[Batch], Batch] = lambda batch: batch


def hold(model: nn.Module, optimizers: tuple[Optimizer, ...], plan: Plan, *, loaded_step: int | None) -> Holding:
    """Take hold of a run, together with the other processes where the model is spread over them.

    Raises
    ------
    CannotRecord
        The place cannot be written, or a process is missing.
    RunLocked, RunExists, DamagedRun, InvalidArgument
        Another writer holds the run, it is not to be continued, cannot be read, or the processes do not fit together.
    """
    tensors = divided_tensors(model)
    if not records_together(tensors, alone=plan.alone, check_replicas=plan.check_replicas):
        writer, step = _opened(model, optimizers, plan, loaded_step)
        return Holding(writer, step, _before(writer, plan, step))
    meeting = Meeting(plan.place.absolute())
    try:
        held = {
            name: Held(tuple(tensor.shape), str(tensor.dtype), piece(tensor, called=name), is_spread(tensor))
            for name, tensor in tensors.items()
        }
        for schedule in (plan.rows, plan.snapshots):  # refused here, before a run is begun
            if schedule is not None:
                schedule.agreed(meeting.named("asked"))
    except InvalidArgument as error:
        meeting.leave(error)
        raise
    if meeting.rank > 0:
        return _shared(meeting, held, plan)
    try:
        return _led(meeting, held, lambda: _checked(model, optimizers, plan, loaded_step), plan)
    except BaseException as error:
        meeting.refuse(error)
        raise


def _led(meeting: Meeting, held: Mapping[str, Held], open_run: Callable[[], tuple[Writer, int]], plan: Plan) -> Holding:
    """Begin the run as the first process."""
    sharing = meeting.share(held, asked=_asked(plan))
    writer, step = open_run()
    try:
        token = secrets.token_hex(4)
        spool = Spool(writer.path.absolute(), attempt=writer.attempt, token=token)
        spool.begin()
        about_it = {"run": str(writer.path.absolute()), "attempt": writer.attempt, "step": step, "token": token}
        meeting.begin(about_it)
        assembler = Assembler(writer, spool, processes=meeting.processes)
        before = _before(writer, plan, step)
    except BaseException:
        writer.abandon()
        raise
    return Holding(assembler, step, before, sharing, meeting, lambda batch: _complete(batch, assembler))


def _shared(meeting: Meeting, held: Mapping[str, Held], plan: Plan) -> Holding:
    """Give a share to the run that the first process begins."""
    sharing = meeting.share(held, asked=_asked(plan))
    said = meeting.beginning()
    run, attempt, step = Path(said["run"]), int(said["attempt"]), int(said["step"])
    spool = Spool(run, attempt=attempt, token=said["token"])
    if not _is_seen(spool):
        raise CannotRecord(
            f"Process 0 records into {run}, and process {meeting.rank} does not see what it made there. Needed is a "
            f"folder that all processes share"
        )
    arrays = list(weights.arrays_in(read_root(run))) if attempt else []
    spooler = Spooler(spool, rank=meeting.rank, before=arrays, compressed=plan.compression is not None)
    first_weights = Quantity.DISPLACEMENT in plan.what
    by_slug = {array.slug: array for array, _ in arrays}
    before = held_before(run, by_slug, attempt=attempt, step=step, first_weights=first_weights)
    return Holding(spooler, step, before, sharing, meeting)


def _is_seen(spool: Spool) -> bool:
    """Whether what the first process made is seen here; a network file system shows it late."""
    until = time.monotonic() + meetings.MEET_SECONDS / 2  # the first waits for twice as long
    while not spool.exists and time.monotonic() < until:
        time.sleep(0.05)
    return spool.exists


def _asked(plan: Plan) -> dict[str, str]:
    """Say what must have been asked alike in every process."""
    return {
        "every": plan.rows.text,
        "snapshots": _snapshots_asked(plan),
        "select": _selected(plan.left_out),
        "what": ", ".join(plan.what),
        "heads": str(plan.heads),
        "compression": str(plan.compression),
        "check_replicas": str(plan.check_replicas),
    }


def _snapshots_asked(plan: Plan) -> str:
    if plan.snapshots is None:
        return f"the default within disk_limit={plan.disk_limit}"
    return plan.snapshots.text


def _selected(left_out: Sequence[str]) -> str:
    """Say what is recorded, so that the same is said of the same only."""
    if not left_out:
        return "all"
    names = sorted(left_out)
    return f"all but {examples(names)} ({zlib.crc32(json.dumps(names).encode()):08x})"


def _checked(
    model: nn.Module, optimizers: tuple[Optimizer, ...], plan: Plan, loaded_step: int | None
) -> tuple[Writer, int]:
    """As `_opened`, where the place was not looked at before all processes had come."""
    check_place(plan.place, resume=plan.resume)
    return _opened(model, optimizers, plan, loaded_step)


def _opened(
    model: nn.Module, optimizers: tuple[Optimizer, ...], plan: Plan, loaded_step: int | None
) -> tuple[Writer, int]:
    """Begin an attempt; give the step of its first row."""
    writer, resumed_from = open_writer(
        plan.place,
        about={"model": model_name(model), "config": model_config(model), "optimizers": about(optimizers)},
        attempt={**circumstances(), **_processes(), **left_out(plan.left_out), **adapter_scales(model)},
        resume=plan.resume,
        loaded=loaded_step,
        compression=plan.compression,
    )
    return writer, resumed_from if resumed_from >= 0 else loaded_step or 0


def _processes() -> dict[str, Any]:
    count = rank_and_count()[1]
    return {"processes": count} if count > 1 else {}


def _before(writer: Writer, plan: Plan, step: int) -> Before | None:
    try:
        first_weights = Quantity.DISPLACEMENT in plan.what
        return held_before(writer.path, writer.arrays, attempt=writer.attempt, step=step, first_weights=first_weights)
    except BaseException:
        writer.abandon()
        raise


def _complete(batch: Batch, assembler: Assembler) -> Batch:
    """Wait for the first share of every process, and join them."""
    await_others(assembler, batch, patience=lambda: meetings.MEET_SECONDS, meanwhile=_nothing, at_last=_nothing)
    whole = assembler.whole(batch)
    if told := assembler.news():
        raise CannotRecord(f"Cannot record into {assembler.path}: a process ended before its first row. {told[0]}")
    return whole


def _nothing() -> None:
    """Do nothing: there is nothing to commit yet."""
