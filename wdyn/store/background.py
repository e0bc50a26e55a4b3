"""How do rows reach the disk without the training loop waiting? One thread, and a queue bounded in bytes."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace

from wdyn.errors import WdynError
from wdyn.rows import Batch
from wdyn.store.writer import Writer

_PUBLISH_ROWS = 16
_PUBLISH_SECONDS = 5.0
_PUBLISH_PAUSE = 0.5  # between two commits, whatever the rows: a commit flushes the disk


class BackgroundWriter:
    """Writes batches in the order they are given, and commits every 16 of them or 5 seconds.

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
        self._queue: deque[Batch] = deque()
        self._bytes = 0
        self._change = threading.Condition()
        self._commit_wanted = False
        self._closing = False
        self._failure: BaseException | None = None
        self._lost_rows = self._lost_snapshots = 0
        self._thread = threading.Thread(target=self._run, name="wdyn-writer", daemon=True)
        self._thread.start()

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

    def submit(self, batch: Batch, *, wait: bool = False) -> bool:
        """Hand a batch over; return whether its snapshot was taken.

        A snapshot that finds the queue full is dropped and counted, its rows are kept; with `wait` this blocks until
        there is room instead. Rows that do not fit by themselves are lost, and counted.
        """
        with self._change:
            if wait:
                self._change.wait_for(lambda: self._fits(batch) or self._failure is not None)
            if not self._fits(batch) and batch.snapshot is not None:
                self._lost_snapshots += 1
                batch.release()
                batch = replace(batch, snapshot=None)
            if not self._fits(batch) or self._failure is not None:
                self._lose(batch)
                return False
            self._queue.append(batch)
            self._bytes += batch.nbytes
            self._change.notify_all()
            return batch.snapshot is not None

    def flush(self) -> int:
        """Wait until all that was handed over is committed; return the last committed step."""
        with self._change:
            self._commit_wanted = True
            self._change.notify_all()
            self._change.wait_for(lambda: not self._commit_wanted or self._failure is not None)
        return self.committed

    def close(self) -> None:
        """Write and commit what waits, end the thread, and give the run free. Safe to call twice."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join()
        if self._failure is None:
            self._finish()
        if self._failure is not None:
            self._writer.abandon()

    def _finish(self) -> None:
        try:
            self._writer.note(lost=self.lost)
            self._writer.close()
        except Exception as error:  # noqa: BLE001 - told to the caller through `failure`; training goes on
            self._failure = error

    def _fits(self, batch: Batch) -> bool:
        # A batch larger than the bound by itself may pass alone, else it could never be written.
        return not self._queue and self._bytes == 0 or self._bytes + batch.nbytes <= self._limit

    def _lose(self, batch: Batch) -> None:
        self._lost_rows += len(batch.rows)
        self._lost_snapshots += batch.snapshot is not None
        batch.release()

    def _run(self) -> None:
        try:
            self._write_until_closed()
        except Exception as error:  # noqa: BLE001 - a full disk must not reach the training loop
            with self._change:
                self._failure = error
                while self._queue:
                    self._lose(self._queue.popleft())
                self._bytes = 0
                self._change.notify_all()

    def _write_until_closed(self) -> None:
        uncommitted, last_commit = 0, time.monotonic()
        while True:
            with self._change:
                due = _PUBLISH_SECONDS if uncommitted < _PUBLISH_ROWS else _PUBLISH_PAUSE
                pause = max(0.0, last_commit + due - time.monotonic()) if uncommitted else None
                self._change.wait_for(lambda: self._queue or self._commit_wanted or self._closing, timeout=pause)
                batch = self._queue[0] if self._queue else None
                wanted, closing = self._commit_wanted, self._closing
            if batch is not None:
                self._writer.append(batch)
                uncommitted += 1
                self._forget(batch)
            elif closing:
                return
            waited = time.monotonic() - last_commit
            regular = waited >= (_PUBLISH_SECONDS if uncommitted < _PUBLISH_ROWS else _PUBLISH_PAUSE)
            if (wanted and batch is None) or (uncommitted and regular):
                self._writer.note(lost=self.lost)
                self._writer.commit()
                uncommitted, last_commit = 0, time.monotonic()
            if wanted and batch is None:
                with self._change:
                    self._commit_wanted = False
                    self._change.notify_all()

    def _forget(self, batch: Batch) -> None:
        with self._change:
            self._queue.popleft()
            self._bytes -= batch.nbytes
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
