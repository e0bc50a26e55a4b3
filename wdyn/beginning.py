"""What starts an attempt: who may write, what was there before, and the row of the weights that it begins with?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn
from torch.optim import Optimizer

from wdyn.capture import seam
from wdyn.capture.batches import Batches, parted
from wdyn.capture.continuity import continuity
from wdyn.capture.due import Due
from wdyn.capture.meeting import Meeting
from wdyn.capture.plan import Plan
from wdyn.capture.recorder import Recorder
from wdyn.capture.scalars import ScalarLog
from wdyn.capture.schedule import Schedule, listeners
from wdyn.capture.watched import snapshot_schedule
from wdyn.errors import CannotRecord
from wdyn.holding import hold
from wdyn.rows import Batch, Before
from wdyn.store.dtypes import STORED_TYPES
from wdyn.store.sink import Sink

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Beginning:
    """An attempt whose first row is committed.

    Attributes
    ----------
    step
        That of the first row.
    batches, scalars, due
        What reads the model, what is kept of every step, and when.
    sink
        What is written to.
    rest
        What of the first step is still to be written; None for nothing.
    """

    step: int
    batches: Batches
    scalars: ScalarLog
    due: Due
    sink: Sink
    rest: Batch | None


def begin(
    model: nn.Module, optimizers: tuple[Optimizer, ...], plan: Plan, *, loaded_step: int | None, tell: Tell
) -> Beginning:
    """Take hold of the run, and commit the row of the weights as they are now.

    Raises
    ------
    CannotRecord
        The place, or the first row, cannot be written.
    RunLocked, DamagedRun, InvalidArgument
        Another writer holds the run, it cannot be read, or it is of another model.
    """
    holding = hold(model, optimizers, plan, loaded_step=loaded_step)
    step, before, sink = holding.step, holding.before, holding.sink
    try:
        plan = _agreed(plan, holding.meeting)
        recorder = Recorder(
            model,
            optimizers,
            what=plan.what,
            heads=plan.heads,
            wanted=plan.wanted,
            parts=plan.parts,
            keepable=frozenset(STORED_TYPES),
            before=before,
            sharing=holding.sharing,
            tell=tell,
        )
        recorder.see()
        scalars = ScalarLog(optimizers, listeners=listeners(plan.rows, plan.snapshots))
        due = Due(plan.rows, _snapshots(plan, recorder, tell), first_step=step)
        batches = Batches(recorder, scalars, tell=tell, sharing=holding.sharing, check_replicas=plan.check_replicas)
        for oddity in recorder.oddities():
            tell(oddity)
        batch = holding.complete(batches.at(step, rows=True, snapshot=due.keeps_snapshots))
        batch = _joined(batch, before, recorder, scalars, tell)
        first, rest = parted(batch, queue_bytes=plan.queue_bytes)
        _publish(first, sink, plan)
    except BaseException:
        sink.abandon()
        raise
    return Beginning(step, batches, scalars, due, sink, rest)


def _agreed(plan: Plan, meeting: Meeting | None) -> Plan:
    """Have all processes record the same steps."""
    if meeting is None:
        return plan
    rows, snapshots = plan.rows.agreed(meeting.named("rows")), plan.snapshots
    if snapshots is plan.rows:
        snapshots = rows  # so that what a row costs is counted once
    elif snapshots is not None:
        snapshots = snapshots.agreed(meeting.named("snapshots"))
    return replace(plan, rows=rows, snapshots=snapshots)


def _snapshots(plan: Plan, recorder: Recorder, tell: Tell) -> Schedule:
    default = snapshot_schedule(recorder.snapshot_bytes(), disk_limit=plan.disk_limit, tell=tell)
    return default if plan.snapshots is None else plan.snapshots


def _joined(batch: Batch, before: Before | None, recorder: Recorder, scalars: ScalarLog, tell: Tell) -> Batch:
    """Join the first row to those of the run that is continued, and tell what does not fit."""
    found = continuity(before, recorder.watched, batch.rows, step=batch.step)
    for complaint in found.complaints:
        tell(complaint)
    if (reached := seam.scalars(before, gone=found.changed)) is not None:
        scalars.take_over(reached)
    return replace(batch, rows=seam.taken_over(batch.rows, before, gone=found.gone))


def _publish(first: Batch, sink: Sink, plan: Plan) -> None:
    try:
        sink.append(first)
        sink.commit()
    except OSError as error:
        raise CannotRecord(f"Cannot record into {plan.place}: {error}") from error
    first.release()
