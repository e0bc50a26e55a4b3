"""What is done at each step of an attempt, and at its end, and what is told when that fails?"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn
from torch.optim import Optimizer

from wdyn.beginning import begin
from wdyn.capture.optimizers import skipped_step
from wdyn.capture.plan import BLOCK, Plan
from wdyn.capture.processes import rank_and_count
from wdyn.capture.turn import Turn
from wdyn.guarding import guarded
from wdyn.rows import Batch
from wdyn.store.background import BackgroundWriter
from wdyn.telling import Teller, unsaid

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
        rank, _ = rank_and_count()
        self._leads = rank == 0 or plan.alone
        self.tell = Teller("" if self._leads else f"process {rank}: ").tell
        # What is told of the model is the same in every process.
        tell = self.tell if self._leads else unsaid
        beginning = begin(model, optimizers, plan, loaded_step=loaded_step, tell=tell)
        self.step = self._first_step = beginning.step
        self._optimizers = optimizers
        self._batches, self._scalars, self._due = beginning.batches, beginning.scalars, beginning.due
        self._snapshot_at = self.step if self._due.keeps_snapshots else _NEVER
        self._waits = plan.when_full == BLOCK
        self.pid = os.getpid()
        self.alive = True
        self._under_way = _NEVER
        self.turn = Turn()
        self._background = BackgroundWriter(beginning.sink, limit_bytes=plan.queue_bytes)
        if beginning.rest is not None:
            self._background.submit(beginning.rest)
        self._seconds = time.perf_counter() - started
        self._end_step(stepped=False)
        self._expect_step()
        atexit.register(self.finish)

    @property
    def committed(self) -> int:
        """Last step that is durable and visible; -1 for none."""
        return self._background.committed

    @guarded
    def log(self, scalars: Mapping[str, object]) -> None:
        """Keep numbers at the present step."""
        for name in self._scalars.log(self.step, scalars):
            self.tell(
                f"w.log({name}=...) was given no number; NaN is recorded instead. Of a DTensor that processes share, "
                f"such as the norm that clip_grad_norm_ returns under FSDP2, log its full_tensor()"
            )

    @guarded
    def before_step(self, optimizer: Optimizer, with_closure: bool) -> None:
        """Copy and measure what the coming step of an optimizer is about to use, if a row is due for it."""
        self._under_way = self.step + 1
        self._due.look_ahead(self.step + 1)
        if self._due.row:
            with self._timed():
                self._batches.prepare(self.step + 1)
            if not with_closure:  # else there are none yet, or those of the step before
                self._see_gradients(optimizer)

    @guarded
    def after_optimizer(self, optimizer: Optimizer, with_closure: bool) -> None:
        """Take note of what an optimizer did; the last of several ends the step."""
        if with_closure and self._due.row:
            self._see_gradients(optimizer)
        if optimizer is self._optimizers[-1]:
            if skipped_step(optimizer):
                self._under_way = _NEVER
            else:
                self._end()

    @guarded
    def after_step(self) -> None:
        """Count a step that no optimizer made."""
        if self._due.row:
            self._see_gradients(None)
        self._end()

    @guarded
    def snapshot(self) -> None:
        """Keep all weights at the present step, waiting for room."""
        if self._snapshot_at != self.step:
            self._capture(rows=False, snapshot=True, wait=True)

    @guarded
    def row(self) -> None:
        """Give the present step what the last one of a block has: rows, and a snapshot if any are kept."""
        rows = self._batches.rows_at != self.step
        snapshot = self._due.keeps_snapshots and self._snapshot_at != self.step
        if self._under_way != _NEVER and (rows or snapshot):
            self.tell(
                f"The block was left while step {self._under_way} was made or recorded: the weights may be those of no "
                f"step at all, so there is no last row of them"
            )
        elif rows or snapshot:
            self._capture(rows=rows, snapshot=snapshot, wait=True)

    @guarded
    def count_on(self, step: int) -> None:
        """Leave out the numbers of steps that changed nothing, up to `step`."""
        self.step = max(self.step, step)

    def flush(self) -> int:
        """Wait until all that was recorded is durable and visible; return the last committed step."""
        self._flush()
        return self.committed

    def be_brief(self) -> None:
        """Hold an error of the loop back no longer than a moment, where other processes are waited for."""
        self._background.be_brief()

    def stopped(self) -> None:
        """Tell other processes that nothing more comes from this one, where they wait for it."""
        if not self._leads:
            self._background.end_soon()

    def finish(self) -> None:
        """Capture the last step, commit everything, and give the run free."""
        if os.getpid() != self.pid:
            return
        with self.turn:
            self._finish()
            atexit.unregister(self.finish)  # unless an interrupt came before: then it is done at the exit

    @guarded
    def let_go(self) -> None:
        """Tell that nobody holds this recording any more, though it was not ended."""
        self.tell(
            f"The watch was let go before its end, so it closes itself after step {self.step}. Keep what watch(...) "
            f"gives for as long as it is to record, or use a with block"
        )

    def _finish(self) -> None:
        self._capture_the_last()
        self._background.close()
        self._notice_disk()
        if self.step == self._first_step and self._optimizers and self.alive and self._leads:
            self.tell("No step was recorded: the optimizer given to watch(...) never stepped inside the block")
        self.alive = False
        lost = self._background.lost
        if any(lost.values()) and self._background.failure is None and self._leads:
            self.tell(f"{lost['rows']} rows and {lost['snapshots']} snapshots never reached the disk")

    @guarded
    def _flush(self) -> None:
        self._hand_over(before=self.step)
        self._background.flush()
        self._notice_disk()

    @guarded
    def _capture_the_last(self) -> None:
        self.row()
        self._hand_over(before=self.step + 1)

    def _see_gradients(self, optimizer: Optimizer | None) -> None:
        """Measure the gradients that `optimizer` (None: nobody) uses."""
        with self._timed():
            self._batches.see_gradients(optimizer)

    def _end(self) -> None:
        """Count a step that was made, and capture it if it is due."""
        self.step += 1
        if self._due.row or self._due.snapshot:
            self._capture(rows=self._due.row, snapshot=self._due.snapshot)
            self._due.spent(self._seconds)
        self._under_way = _NEVER
        self._end_step()
        if self._scalars.is_long:
            self._hand_over(before=self.step)
        self._expect_step()

    def _hand_over(self, *, before: int) -> None:
        """Give what was kept of the steps before one to the writer."""
        self._background.submit(Batch(before - 1, logged=self._scalars.take(before=before)))

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
        elif snapshot and self.alive and self._background.trouble is None:
            self.tell(
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
            self.tell(message)
        if self._background.failure is not None:
            self.alive = False
