"""How do rows reach the disk without the training loop waiting? One thread, and a queue bounded in bytes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import replace

from wdyn.errors import WdynError
from wdyn.rows import Batch
from wdyn.store.priority import step_back
from wdyn.store.writer import Writer

_SNAPSHOT_SHARE = 0.75
"""Of the memory for what waits; the rest is kept for rows, which must not be lost for a snapshot's sake."""
_PUBLISH_ROWS = 16
_PUBLISH_SECONDS = 5.0
_PUBLISH_PAUSE = 0.5  # between two commits, whatever the rows: a commit flushes the disk
_PUBLISH_SHARE = 0.01  # of a processor's time, for commits of many rows


class BackgroundWriter:
    """Writes batches in the order they are given, and commits every 16 of them or 5 seconds.

    The thread leaves the processors to the training loop, until the queue is half full or somebody waits for it: then
    one that does not takes its place, until the queue is empty.

    The thread is a daemon: an interpreter that exits without `close` loses what was not committed, and nothing else.
    It never uses zarr's own threads, which are gone by then.

    Parameters
    ----------
    writer
        What it writes to; nobody else may use it until `close` has returned.
    limit_bytes
        Memory that waiting batches may hold.
    """

    def __init__(self, writer: Writer, *, limit_bytes: int) -> None:
        self._writer = writer
        self._limit = limit_bytes
        self._change = threading.Condition()
        self._queue: deque[Batch] = deque()
        self._bytes = 0.0
        self._handed = self._safe = 0  # batches: handed over, and committed
        self._flush_to = 0
        self._uncommitted: list[tuple[int, int]] = []  # rows and snapshots of batches written since the last commit
        self._closing = False
        self._failure: BaseException | None = None
        self._lost_rows = self._lost_snapshots = 0
        self._busy = 0.0
        self._soonest = time.monotonic()
        self._due = self._soonest + _PUBLISH_SECONDS
        self._patient = True
        self._start()

    @property
    def committed(self) -> int:
        """Last step that is durable and visible; -1 for none."""
        return self._writer.committed

    @property
    def failure(self) -> BaseException | None:
        """What stopped the writing, if anything did."""
        return self._failure

    @property
    def lost(self) -> dict[str, int]:
        """Count of rows and snapshots that never reached the disk."""
        return {"rows": self._lost_rows, "snapshots": self._lost_snapshots}

    @property
    def busy_seconds(self) -> float:
        """How long the thread has written and committed so far."""
        return self._busy

    @property
    def bytes_written(self) -> int:
        """Size of all files that were written so far."""
        return self._writer.bytes_written

    def submit(self, batch: Batch, *, wait: bool = False) -> bool:
        """Hand a batch over; return whether its snapshot was taken.

        A snapshot that finds the queue full is dropped and counted, its rows are kept; with `wait` this blocks until
        there is room instead. Rows that do not fit by themselves are lost, and counted; so is all that comes after a
        failure, or after `close`. A declaration is never dropped alone: later rows count on it.
        """
        with self._change:
            if wait and not self._fits(batch):
                self._hurry()
                self._change.wait_for(lambda: self._fits(batch) or self._stopped)
            if self._stopped:
                self._lose(batch)
                return False
            if not self._fits(batch):
                batch = self._without_snapshot(batch)
            if not self._fits(batch):
                self._lose(batch)
                if batch.declaration is None:
                    return False
                batch = Batch(batch.step, declaration=batch.declaration)
            self._queue.append(batch)
            self._bytes += self._counted(batch)
            self._handed += 1
            if self._bytes > self._limit / 2:
                self._hurry()
            self._change.notify_all()
            return batch.snapshot is not None

    def flush(self) -> int:
        """Wait until all that was handed over is committed; return the last committed step."""
        with self._change:
            self._flush_to = wanted = self._handed
            self._hurry()
            self._change.notify_all()
            self._change.wait_for(lambda: self._safe >= wanted or self._stopped)
        return self.committed

    def close(self) -> None:
        """Write and commit what waits, end the thread, and give the run free. Safe to call twice."""
        with self._change:
            if self._queue:
                self._hurry()
            self._closing = True
            self._change.notify_all()
        self._thread.join()
        if self._failure is None:
            self._finish()
        if self._failure is not None:
            self._writer.abandon()

    @property
    def _stopped(self) -> bool:
        return self._closing or self._failure is not None

    @property
    def _relieved(self) -> bool:
        """Whether another thread has taken the place of this one."""
        return threading.current_thread() is not self._thread

    def _finish(self) -> None:
        try:
            self._writer.note_lost(self.lost)
            self._writer.close()
        except Exception as error:
            self._fail(error)

    def _fits(self, batch: Batch) -> bool:
        # A batch larger than the bound by itself may pass alone, else it could never be written.
        limit = self._limit if batch.snapshot is None else self._limit * _SNAPSHOT_SHARE
        return not self._queue or self._bytes + batch.nbytes <= limit

    def _counted(self, batch: Batch) -> float:
        """Count a batch, but a snapshot never beyond its share: rows behind a large one must find room."""
        return batch.nbytes if batch.snapshot is None else min(batch.nbytes, self._limit * _SNAPSHOT_SHARE)

    def _without_snapshot(self, batch: Batch) -> Batch:
        self._lost_snapshots += batch.snapshot is not None
        batch.release()
        return replace(batch, snapshot=None)

    def _lose(self, batch: Batch) -> None:
        self._lost_rows += len(batch.rows)
        self._without_snapshot(batch)

    def _fail(self, error: BaseException) -> None:
        """Count all that is not committed as lost, and wake whoever waits."""
        with self._change:
            self._failure = error
            while self._queue:
                self._lose(self._queue.popleft())
            self._bytes = 0
            self._lost_rows += sum(rows for rows, _ in self._uncommitted)
            self._lost_snapshots += sum(snapshots for _, snapshots in self._uncommitted)
            self._uncommitted = []
            self._change.notify_all()

    def _hurry(self) -> None:
        """Let a thread go on that does not leave the processors to others."""
        if self._patient and not self._stopped:
            with contextlib.suppress(RuntimeError):  # at the end of the program none can be started
                self._start(self._thread)
                self._patient = False

    def _start(self, *before: threading.Thread) -> None:
        thread = threading.Thread(target=self._run, args=before, name="wdyn-writer", daemon=True)
        with self._change:  # no thread looks whose turn it is before it is told
            thread.start()
            self._thread = thread
            self._change.notify_all()

    def _run(self, before: threading.Thread | None = None) -> None:
        if before is None:
            step_back()
        else:
            before.join()
        try:
            if self._failure is None:  # that of the thread before
                self._write_until_closed()
        except Exception as error:  # such as a full disk, which must not reach the training loop
            self._fail(error)

    def _write_until_closed(self) -> None:
        while True:
            due = self._due if len(self._uncommitted) < _PUBLISH_ROWS else self._soonest
            batch = self._next(due)
            if self._relieved or (batch is None and self._closing):
                return
            started = time.monotonic()
            if batch is not None:
                self._writer.append(batch)
                self._forget(batch)
            flush = batch is None and self._flush_to > self._safe
            if flush or (self._uncommitted and time.monotonic() >= due):
                self._commit()
            self._busy += time.monotonic() - started

    def _next(self, due: float) -> Batch | None:
        """Wait for a batch, for a wish to flush or close, or until a commit is due; give the batch, if any."""
        with self._change:
            pause = max(0.0, due - time.monotonic()) if self._uncommitted else None
            if not (self._patient or self._is_wanted()):
                self._patient = True
                step_back()
            self._change.wait_for(self._is_wanted, timeout=pause)
            return self._queue[0] if self._queue else None

    def _is_wanted(self) -> bool:
        return bool(self._queue) or self._flush_to > self._safe or self._closing or self._relieved

    def _commit(self) -> None:
        started = time.thread_time()
        self._writer.note_lost(self.lost)
        self._writer.commit()
        pause = max(_PUBLISH_PAUSE, (time.thread_time() - started) / _PUBLISH_SHARE)
        self._due = time.monotonic() + _PUBLISH_SECONDS
        self._soonest = time.monotonic() + min(pause, _PUBLISH_SECONDS)
        with self._change:
            self._safe += len(self._uncommitted)
            self._uncommitted = []
            self._change.notify_all()

    def _forget(self, batch: Batch) -> None:
        with self._change:
            self._queue.popleft()
            self._bytes -= self._counted(batch)
            self._uncommitted.append((len(batch.rows), int(batch.snapshot is not None)))
            batch.release()
            self._change.notify_all()


def failure_message(writer: BackgroundWriter) -> str:
    """Say what stopped the writing, what is safe, and what to do."""
    error = writer.failure
    reason = str(error) if isinstance(error, WdynError | OSError) else repr(error)
    return (
        f"wdyn stopped recording: {reason}. Training goes on. All rows up to step {writer.committed} are safe and "
        f"readable; later ones are lost. Free the cause, then continue with watch(..., resume=True)"
    )
