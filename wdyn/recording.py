"""What is done at a step that is due, and what is told when it fails? One attempt, from its first row to its last."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import Concatenate, ParamSpec

from torch import nn
from torch.optim import Optimizer

from wdyn.capture import seam
from wdyn.capture.batches import Batches, parted
from wdyn.capture.circumstances import circumstances
from wdyn.capture.continuity import continuity
from wdyn.capture.due import Due
from wdyn.capture.model_config import left_out, model_config
from wdyn.capture.optimizers import about
from wdyn.capture.plan import BLOCK, Plan
from wdyn.capture.recorder import Recorder
from wdyn.capture.scalars import ScalarLog
from wdyn.capture.schedule import listeners
from wdyn.capture.turn import Turn
from wdyn.capture.watched import snapshot_schedule
from wdyn.errors import CannotRecord
from wdyn.rows import Batch, Before
from wdyn.schema import Quantity
from wdyn.store.background import BackgroundWriter
from wdyn.store.dtypes import STORED_TYPES
from wdyn.store.held import held_before
from wdyn.store.place import open_writer, resume_step
from wdyn.store.writer import Writer
from wdyn.telling import Teller

_NEVER = -1
_Arguments = ParamSpec("_Arguments")


def _guarded(
    method: Callable[Concatenate[Recording, _Arguments], None],
) -> Callable[Concatenate[Recording, _Arguments], None]:
    """Let no error of a method out into the training loop: it ends the recording instead, and then nothing is done.

    A forked child inherits the block, but neither the thread nor the lock, so there nothing is done either.
    """

    @wraps(method)
    def guarded(self: Recording, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        if not self._alive or os.getpid() != self._pid:
            return
        with self.turn:
            try:
                method(self, *args, **kwargs)
            except Exception as error:
                self._alive = False
                self._tell(
                    f"wdyn stopped recording after step {self.step}: {type(error).__name__}: {error}. Training goes "
                    f"on, and what was recorded before is kept"
                )

    return guarded


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
        attempt = {"resumed_from_step": resumed_from, **circumstances(), **left_out(plan.left_out)}
        self.step = self._first_step = resumed_from if resumed_from >= 0 else loaded_step or 0
        self._optimizers = optimizers
        self._scalars = ScalarLog(optimizers, listeners=listeners(plan.rows, plan.snapshots))
        self._pid = os.getpid()
        self._tell = Teller().tell
        self._snapshot_at = _NEVER
        self._waits = plan.when_full == BLOCK
        self._seconds = 0.0
        self._alive = True
        self._under_way = _NEVER
        self.turn = Turn()
        writer = open_writer(
            plan.place,
            model=type(model).__name__,
            config=model_config(model),
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
        atexit.register(self.finish)

    @property
    def committed(self) -> int:
        """Last step that is durable and visible; -1 for none."""
        return self._background.committed

    @_guarded
    def log(self, scalars: Mapping[str, object]) -> None:
        """Keep numbers at the present step."""
        for name in self._scalars.log(self.step, scalars):
            self._tell(f"w.log({name}=...) was given no number; NaN is recorded instead")

    @_guarded
    def before_step(self, optimizer: Optimizer | None) -> None:
        """Copy and measure what the coming step is about to use, if a row is due for it."""
        self._under_way = self.step + 1
        self._due.look_ahead(self.step + 1)
        if self._due.row:
            with self._timed():
                self._batches.prepare(self.step + 1)
                self._recorder.see_gradients(optimizer)

    def skip_step(self) -> None:
        """Take note that what seemed a step changed nothing."""
        self._under_way = _NEVER

    @_guarded
    def after_step(self) -> None:
        """Count a step that was made, and capture it if it is due."""
        self.step += 1
        if self._due.row and not self._optimizers:
            with self._timed():
                self._recorder.see_gradients(None)
        if self._due.row or self._due.snapshot:
            self._capture(rows=self._due.row, snapshot=self._due.snapshot)
            self._due.spent(self._seconds)
        self._under_way = _NEVER
        self._end_step()
        if self._scalars.is_long:
            self._background.submit(Batch(self.step - 1, self._scalars.take(before=self.step)))
        self._expect_step()

    @_guarded
    def snapshot(self) -> None:
        """Keep all weights at the present step, waiting for room."""
        if self._snapshot_at != self.step:
            self._capture(rows=False, snapshot=True, wait=True)

    @_guarded
    def row(self) -> None:
        """Give the present step what the last one of a block has: rows, and a snapshot if any are kept."""
        rows = self._batches.rows_at != self.step
        snapshot = self._due.keeps_snapshots and self._snapshot_at != self.step
        if self._under_way != _NEVER and (rows or snapshot):
            self._tell(
                f"The block was left while step {self._under_way} was made or recorded: the weights may be those of no "
                f"step at all, so there is no last row of them"
            )
        elif rows or snapshot:
            self._capture(rows=rows, snapshot=snapshot, wait=True)

    @_guarded
    def count_on(self, step: int) -> None:
        """Leave out the numbers of steps that changed nothing, up to `step`."""
        self.step = max(self.step, step)

    def flush(self) -> int:
        """Wait until all that was recorded is durable and visible; return the last committed step."""
        self._flush()
        return self.committed

    def finish(self) -> None:
        """Capture the last step, commit everything, and give the run free."""
        if os.getpid() != self._pid:
            return
        with self.turn:
            self._finish()
            atexit.unregister(self.finish)  # unless an interrupt came before: then it is done at the exit

    @_guarded
    def let_go(self) -> None:
        """Tell that nobody holds this recording any more, though it was not ended."""
        self._tell(
            f"The watch was let go before its end, so it closes itself after step {self.step}. Keep what watch(...) "
            f"gives for as long as it is to record, or use a with block"
        )

    def _finish(self) -> None:
        self._capture_the_last()
        self._background.close()
        self._notice_disk()
        if self.step == self._first_step and self._optimizers and self._alive:
            self._tell("No step was recorded: the optimizer given to watch(...) never stepped inside the block")
        self._alive = False
        lost = self._background.lost
        if any(lost.values()) and self._background.failure is None:
            self._tell(f"{lost['rows']} rows and {lost['snapshots']} snapshots never reached the disk")

    @_guarded
    def _flush(self) -> None:
        self._background.submit(Batch(self.step - 1, self._scalars.take(before=self.step)))
        self._background.flush()
        self._notice_disk()

    @_guarded
    def _capture_the_last(self) -> None:
        self.row()
        self._background.submit(Batch(self.step, self._scalars.take(before=self.step + 1)))

    def _begin(self, plan: Plan, writer: Writer, before: Before | None) -> Batch | None:
        """Write and publish the row of the first step, before any update; return what of it is to follow."""
        self._recorder.see()
        default = snapshot_schedule(self._recorder.snapshot_bytes(), disk_limit=plan.disk_limit, tell=self._tell)
        snapshots = default if plan.snapshots is None else plan.snapshots
        self._due = Due(plan.rows, snapshots, first_step=self.step)
        for oddity in self._recorder.oddities():
            self._tell(oddity)
        batch = self._batches.at(self.step, rows=True, snapshot=self._due.keeps_snapshots)
        found = continuity(before, self._recorder.watched, batch.rows, step=self.step)
        for complaint in found.complaints:
            self._tell(complaint)
        batch = replace(batch, rows=seam.taken_over(batch.rows, before, gone=found.gone))
        if (reached := seam.scalars(before, gone=found.changed)) is not None:
            self._scalars.take_over(reached)
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
            batch = self._batches.at(self.step, rows=rows, snapshot=snapshot)
            taken = self._background.submit(batch, wait=wait or self._waits)
        self._notice_disk()
        if taken:
            self._snapshot_at = self.step
        elif snapshot and self._alive and self._background.trouble is None:
            self._tell(
                "A snapshot was dropped: the disk is slower than snapshots come. Take fewer, give "
                "watch(..., queue_bytes=...) more memory, or let training wait with watch(..., when_full='block'). "
                "How many were dropped is told at the end"
            )

    def _expect_step(self) -> None:
        """Be ready for a step that begins unseen: without an optimizer no hook tells of it."""
        if not self._optimizers:
            self._due.look_ahead(self.step + 1)
            if self._due.row:
                with self._timed():
                    self._batches.prepare(self.step + 1)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - started

    def _notice_disk(self) -> None:
        for message in self._background.news():
            self._tell(message)
        if self._background.failure is not None:
            self._alive = False
