"""What is done at a step that is due, and what is told when it fails? One attempt, from its first row to its last."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from wdyn._version import __version__
from wdyn.capture.continuity import continuity
from wdyn.capture.declared import Declared
from wdyn.capture.optimizers import about
from wdyn.capture.recorder import Recorder
from wdyn.capture.scalars import ScalarLog
from wdyn.capture.schedule import Schedule, listeners
from wdyn.capture.watched import snapshot_schedule
from wdyn.errors import CannotRecord
from wdyn.naming import examples
from wdyn.rows import Batch, Before, Declaration, Row
from wdyn.schema import Address, Extra, Quantity
from wdyn.store.background import BackgroundWriter, failure_message
from wdyn.store.dtypes import STORED_TYPES
from wdyn.store.place import held_before, open_writer, resume_step
from wdyn.store.writer import Writer
from wdyn.telling import Teller

_NEVER = -1


@dataclass(frozen=True)
class Plan:
    """The arguments of `watch`, read and checked."""

    place: Path
    rows: Schedule
    snapshots: Schedule | None
    """None: the default, which depends on the size of a snapshot."""
    what: tuple[Quantity | Extra, ...]
    wanted: Callable[[Address], bool]
    parts: Declared
    heads: bool
    compression: str | None
    resume: bool | int
    disk_limit: int
    queue_bytes: int


class Recording:
    """One attempt: counts steps, captures those that are due, and hands rows to the writer.

    Once it runs, no error of its own leaves it: the first is warned about and ends the recording, not the training.

    Raises
    ------
    CannotRecord
        The first row could not be written.
    """

    def __init__(
        self, model: nn.Module, optimizers: tuple[Optimizer, ...], plan: Plan, *, loaded_step: int | None
    ) -> None:
        resumed_from = resume_step(plan.place, resume=plan.resume, loaded=loaded_step)
        attempt = {"resumed_from_step": resumed_from, **_circumstances()}
        self.step = self._first_step = resumed_from if resumed_from >= 0 else loaded_step or 0
        self._optimizers = optimizers
        self._scalars = ScalarLog(optimizers, listeners=listeners(plan.rows, plan.snapshots))
        self._pid = os.getpid()
        self._tell = Teller().tell
        self._rows_at = self._states_at = self._snapshot_at = self._decided_for = self._prepared_for = _NEVER
        self._next_row = self._next_snapshot = False
        self._seconds = 0.0
        self._alive = True
        writer = open_writer(
            plan.place,
            model=type(model).__name__,
            optimizers=about(optimizers),
            attempt=attempt,
            compression=plan.compression,
        )
        try:
            before = held_before(writer, step=self.step, first_weights=Quantity.DISPLACEMENT in plan.what)
            self._recorder = Recorder(
                model,
                optimizers,
                what=plan.what,
                heads=plan.heads,
                wanted=plan.wanted,
                parts=plan.parts,
                keepable=frozenset(STORED_TYPES),
                before=before,
                tell=self._tell,
            )
            self._begin(plan, writer, before)
        except BaseException:
            writer.abandon()
            raise
        self._background = BackgroundWriter(writer, limit_bytes=plan.queue_bytes)
        self._expect_step()

    @property
    def committed(self) -> int:
        """Last step that is durable and visible; -1 for none."""
        return self._background.committed

    def log(self, scalars: Mapping[str, object]) -> None:
        """Keep numbers at the present step."""
        if self._running:
            with self._guard():
                for name in self._scalars.log(self.step, scalars):
                    self._tell(f"w.log({name}=...) was given no number; NaN is recorded instead")

    def before_step(self, optimizer: Optimizer | None) -> None:
        """Copy and measure what the coming step is about to use, if a row is due for it."""
        if not self._running:
            return
        with self._guard():
            self._look_ahead()
            if self._next_row:
                with self._timed():
                    self._prepare()
                    self._recorder.see_gradients(optimizer)

    def after_step(self) -> None:
        """Count a step that was made, and capture it if it is due."""
        if not self._running:
            return
        self.step += 1
        with self._guard():
            if self._next_row and not self._optimizers:
                with self._timed():
                    self._recorder.see_gradients(None)
            if self._next_row or self._next_snapshot:
                self._capture(rows=self._next_row, snapshot=self._next_snapshot)
                self._rows_due.spent(self._seconds)
            self._scalars.end_step(
                self.step,
                seconds=self._seconds,
                written=self._background.busy_seconds,
                written_bytes=self._background.bytes_written,
                read_tensors=self._next_row,
            )
            self._seconds = 0.0
            if self._scalars.is_long:
                self._background.submit(Batch(self.step - 1, self._scalars.take(before=self.step)))
            self._expect_step()

    def snapshot(self) -> None:
        """Keep all weights at the present step, waiting for room."""
        if self._running and self._snapshot_at != self.step:
            with self._guard():
                self._capture(rows=False, snapshot=True, wait=True)

    def flush(self) -> int:
        """Wait until all that was recorded is durable and visible; return the last committed step."""
        if self._running:
            with self._guard():
                self._background.submit(Batch(self.step - 1, self._scalars.take(before=self.step)))
                self._background.flush()
                self._notice_failure()
        return self.committed

    def finish(self) -> None:
        """Capture the last step, commit everything, and give the run free."""
        if os.getpid() != self._pid:  # a forked child inherits the block, but neither the thread nor the lock
            return
        if self._alive:
            with self._guard():
                rows, snapshot = self._rows_at != self.step, self._keeps_snapshots and self._snapshot_at != self.step
                if rows or snapshot:
                    self._capture(rows=rows, snapshot=snapshot, wait=True)
                self._background.submit(Batch(self.step, self._scalars.take(before=self.step + 1)))
        self._background.close()
        self._notice_failure()
        if self.step == self._first_step and self._optimizers and self._alive:
            self._tell("No step was recorded: the optimizer given to watch(...) never stepped inside the block")
        self._alive = False
        lost = self._background.lost
        if any(lost.values()) and self._background.failure is None:
            self._tell(f"{lost['rows']} rows and {lost['snapshots']} snapshots never reached the disk")

    def _begin(self, plan: Plan, writer: Writer, before: Before | None) -> None:
        """Write and publish the row of the first step, before any update."""
        self._recorder.see()
        default = snapshot_schedule(self._recorder.snapshot_bytes(), disk_limit=plan.disk_limit, tell=self._tell)
        self._rows_due = plan.rows
        self._snapshots_due = default if plan.snapshots is None else plan.snapshots
        self._keeps_snapshots = not self._snapshots_due.never
        self._tell_what_is_odd()
        batch = self._batch(rows=True, snapshot=self._keeps_snapshots)
        for complaint in continuity(before, self._recorder.watched, batch.rows, step=self.step):
            self._tell(complaint)
        try:
            writer.append(batch)
            writer.commit()
        except OSError as error:
            raise CannotRecord(f"Cannot record into {plan.place}: {error}") from error
        batch.release()
        self._snapshot_at = self.step if self._keeps_snapshots else _NEVER
        self._scalars.end_step(self.step, seconds=self._seconds, read_tensors=False, stepped=False)
        self._seconds = 0.0
        self._rows_due(self.step)  # schedules are asked about every step, in order

    def _tell_what_is_odd(self) -> None:
        if self._recorder.not_kept:
            names = examples(self._recorder.not_kept)
            self._tell(f"No snapshots are kept of {names}: their dtype cannot be stored. Statistics are recorded")
        if self._optimizers and not self._recorder.is_trained:
            self._tell("The optimizer holds none of the recorded parameters; is it that of another model?")

    def _capture(self, *, rows: bool, snapshot: bool, wait: bool = False) -> None:
        with self._timed():
            taken = self._background.submit(self._batch(rows=rows, snapshot=snapshot), wait=wait)
        self._notice_failure()
        if taken:
            self._snapshot_at = self.step
        elif snapshot and self._alive:
            self._tell(
                "A snapshot was dropped: the disk is slower than snapshots come. Take fewer, or give "
                "watch(..., queue_bytes=...) more memory. How many were dropped is told at the end"
            )

    def _batch(self, *, rows: bool, snapshot: bool) -> Batch:
        """Read the model at the present step."""
        declaration = self._look(for_snapshot=snapshot)
        given: list[Row] = []
        if rows:
            given += self._recorder.quantity_rows(self.step, stepped=self._prepared_for == self.step)
            self._rows_at = self.step
        if self._states_at != self.step:
            given.append(self._recorder.states_row(self.step))
            self._states_at = self.step
        given += self._scalars.take(before=self.step)
        kept = self._recorder.snapshot(self.step) if snapshot else None
        self._recorder.forget()
        return Batch(self.step, tuple(given), kept, declaration)

    def _look(self, *, for_snapshot: bool) -> Declaration | None:
        """See what the model holds now, and tell of what it did not hold before."""
        declaration = self._recorder.look(for_snapshot=for_snapshot)
        if declaration is not None and declaration.added:
            self._tell(
                f"The model has parameters that it had not before step {self.step}: {examples(declaration.added)}. "
                f"They were appended to the table, and their rows begin here"
            )
        return declaration

    def _expect_step(self) -> None:
        """Be ready for a step that begins unseen: without an optimizer no hook tells of it."""
        if not self._optimizers:
            self._look_ahead()
            if self._next_row:
                with self._timed():
                    self._prepare()

    def _look_ahead(self) -> None:
        """Decide, once, what the coming step is due for: as it begins, when all before it has been logged."""
        if self._decided_for != self.step + 1:
            self._decided_for = self.step + 1
            self._next_row = self._rows_due(self.step + 1)
            self._next_snapshot = self._snapshots_due(self.step + 1)

    def _prepare(self) -> None:
        """Copy what the coming step will change, once, however many optimizers make it."""
        if self._prepared_for != self.step + 1:
            self._recorder.prepare()
            self._prepared_for = self.step + 1

    @property
    def _running(self) -> bool:
        return self._alive and os.getpid() == self._pid

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - started

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Let no error out into the training loop: it ends the recording instead."""
        try:
            yield
        except Exception as error:
            self._alive = False
            self._tell(
                f"wdyn stopped recording after step {self.step}: {type(error).__name__}: {error}. Training goes on, "
                f"and what was recorded before is kept"
            )

    def _notice_failure(self) -> None:
        if self._background.failure is not None:
            self._alive = False
            self._tell(failure_message(self._background))


def _circumstances() -> dict[str, object]:
    """Tell where and with what this attempt runs."""
    versions = {"wdyn": __version__, "torch": torch.__version__, "python": platform.python_version()}
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"started": started, "host": socket.gethostname(), "pid": os.getpid(), "versions": versions}
