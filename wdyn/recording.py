"""What is done at a step that is due, and what is told when it fails? One attempt, from its first row to its last."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn
from torch.optim import Optimizer

from wdyn.capture.batches import Batches, parted
from wdyn.capture.circumstances import circumstances
from wdyn.capture.continuity import continuity
from wdyn.capture.due import Due
from wdyn.capture.optimizers import about
from wdyn.capture.plan import Plan
from wdyn.capture.recorder import Recorder
from wdyn.capture.scalars import ScalarLog
from wdyn.capture.schedule import listeners
from wdyn.capture.watched import snapshot_schedule
from wdyn.errors import CannotRecord
from wdyn.rows import Batch, Before
from wdyn.schema import Quantity
from wdyn.store.background import BackgroundWriter, failure_message
from wdyn.store.dtypes import STORED_TYPES
from wdyn.store.place import held_before, open_writer, resume_step
from wdyn.store.writer import Writer
from wdyn.telling import Teller

_NEVER = -1


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
        started = time.perf_counter()
        resumed_from = resume_step(plan.place, resume=plan.resume, loaded=loaded_step)
        attempt = {"resumed_from_step": resumed_from, **circumstances()}
        self.step = self._first_step = resumed_from if resumed_from >= 0 else loaded_step or 0
        self._optimizers = optimizers
        self._scalars = ScalarLog(optimizers, listeners=listeners(plan.rows, plan.snapshots))
        self._pid = os.getpid()
        self._tell = Teller().tell
        self._snapshot_at = _NEVER
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
            self._batches = Batches(self._recorder, self._scalars, tell=self._tell)
            rest = self._begin(plan, writer, before)
        except BaseException:
            writer.abandon()
            raise
        self._background = BackgroundWriter(writer, limit_bytes=plan.queue_bytes)
        if rest is not None:
            self._background.submit(rest)
        self._seconds = time.perf_counter() - started
        self._end_step(stepped=False)
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
            self._due.look_ahead(self.step + 1)
            if self._due.row:
                with self._timed():
                    self._batches.prepare(self.step + 1)
                    self._recorder.see_gradients(optimizer)

    def after_step(self) -> None:
        """Count a step that was made, and capture it if it is due."""
        if not self._running:
            return
        self.step += 1
        with self._guard():
            if self._due.row and not self._optimizers:
                with self._timed():
                    self._recorder.see_gradients(None)
            if self._due.row or self._due.snapshot:
                self._capture(rows=self._due.row, snapshot=self._due.snapshot)
                self._due.spent(self._seconds)
            self._end_step()
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
                rows = self._batches.rows_at != self.step
                snapshot = self._due.keeps_snapshots and self._snapshot_at != self.step
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

    def _begin(self, plan: Plan, writer: Writer, before: Before | None) -> Batch | None:
        """Write and publish the row of the first step, before any update; return what of it is to follow."""
        self._recorder.see()
        default = snapshot_schedule(self._recorder.snapshot_bytes(), disk_limit=plan.disk_limit, tell=self._tell)
        snapshots = default if plan.snapshots is None else plan.snapshots
        self._due = Due(plan.rows, snapshots, first_step=self.step)
        for oddity in self._recorder.oddities():
            self._tell(oddity)
        batch = self._batches.at(self.step, rows=True, snapshot=self._due.keeps_snapshots)
        for complaint in continuity(before, self._recorder.watched, batch.rows, step=self.step):
            self._tell(complaint)
        first, rest = parted(batch, queue_bytes=plan.queue_bytes)
        try:
            writer.append(first)
            writer.commit()
        except OSError as error:
            raise CannotRecord(f"Cannot record into {plan.place}: {error}") from error
        first.release()
        self._snapshot_at = self.step if self._due.keeps_snapshots else _NEVER
        return rest

    def _end_step(self, *, stepped: bool = True) -> None:
        """Keep what the step cost, and what the optimizers used for it if it was `stepped`."""
        self._scalars.end_step(
            self.step,
            seconds=self._seconds,
            written=self._background.busy_seconds,
            written_bytes=self._background.bytes_written,
            read_tensors=stepped and self._due.row,
            stepped=stepped,
        )
        self._seconds = 0.0

    def _capture(self, *, rows: bool, snapshot: bool, wait: bool = False) -> None:
        with self._timed():
            taken = self._background.submit(self._batches.at(self.step, rows=rows, snapshot=snapshot), wait=wait)
        self._notice_failure()
        if taken:
            self._snapshot_at = self.step
        elif snapshot and self._alive:
            self._tell(
                "A snapshot was dropped: the disk is slower than snapshots come. Take fewer, or give "
                "watch(..., queue_bytes=...) more memory. How many were dropped is told at the end"
            )

    def _expect_step(self) -> None:
        """Be ready for a step that begins unseen: without an optimizer no hook tells of it."""
        if not self._optimizers:
            self._due.look_ahead(self.step + 1)
            if self._due.row:
                with self._timed():
                    self._batches.prepare(self.step + 1)

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
