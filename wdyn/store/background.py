"""How do rows reach the disk without the training loop waiting? One thread, and a queue bounded in bytes."""

from __future__ import annotations

import contextlib
import threading
import time

from wdyn.rows import Batch
from wdyn.store import lateness
from wdyn.store.lateness import await_others
from wdyn.store.priority import step_back
from wdyn.store.sink import Sink
from wdyn.store.trouble import Trouble, failure_message, passing, resumed_message
from wdyn.store.waiting import Waiting, without_rows

_PUBLISH_ROWS = 16
_PUBLISH_SECONDS = 5.0
_PUBLISH_PAUSE = 0.5  # between two commits, whatever the rows: a commit flushes the disk
_PUBLISH_SHARE = 0.01  # of a processor's time, for commits of many rows
_BRIEF_SECONDS = 2.0  # that others are waited for where an error ended the loop: whoever started them should hear of it
_STALL_SECONDS = 60.0  # a disk that has taken nothing for so long takes no writes
_LOOK_SECONDS = 1.0  # how often who waits looks whether it does


class BackgroundWriter:
    """Writes batches in the order they are given, and commits every 16 of them or 5 seconds.

    The thread leaves the processors to the training loop, until the queue is half full or somebody waits for it: then
    one that does not takes its place, until the queue is empty.

    A disk that is full, or fails in another way that may pass, is tried again after a pause: what it took since the
    last commit is taken back and, but for snapshots, written once more. Meanwhile nobody waits.

    The thread is a daemon: an interpreter that exits without `close` loses what was not committed, and nothing else.
    It never uses zarr's own threads, which are gone by then.

    Parameters
    ----------
    writer
        What it writes to; nobody else may use it until `close` has returned.
    limit_bytes
        Memory that waiting batches may hold.
    patience
        Seconds that a batch waits for what other processes give of its step, before nobody waits for the disk.
    """

    def __init__(self, writer: Sink, *, limit_bytes: int, patience: float | None = None) -> None:
        self._writer = writer
        self._patience = lateness.LATE_SECONDS if patience is None else patience
        self._change = threading.Condition()
        self._waiting = Waiting(limit_bytes)
        self._flush_to = 0
        self._closing = False
        self._trouble: Trouble | None = None
        self._failure: BaseException | None = None
        self._ended = False
        self._news: list[str] = []
        self._telling = True
        self._busy = 0.0
        self._lost_before: dict[str, int] = self._waiting.lost
        self._soonest = time.monotonic()
        self._due = self._soonest + _PUBLISH_SECONDS
        self._stalled_at = -1  # bytes written when somebody waited for more in vain
        self._patient = True
        self._start()

    @property
    def committed(self) -> int:
        """Last step that is durable and visible; -1 for none."""
        return self._writer.committed

    @property
    def failure(self) -> BaseException | None:
        """What stopped the writing for good, if anything did."""
        return self._failure

    @property
    def trouble(self) -> Trouble | None:
        """What keeps the disk from taking writes at the moment."""
        return self._trouble

    @property
    def lost(self) -> dict[str, int]:
        """Count of rows and snapshots that never reached the disk."""
        return {name: count + self._writer.lost.get(name, 0) for name, count in self._waiting.lost.items()}

    @property
    def busy_seconds(self) -> float:
        """How long the thread has written and committed so far."""
        return self._busy

    @property
    def bytes_written(self) -> int:
        """Size of all files that were written so far."""
        return self._writer.bytes_written

    def news(self) -> list[str]:
        """Give what happened to the disk since this was last asked, in words for the user."""
        with self._change:
            told, self._news = [*self._news, *self._writer.news()], []
        return told

    def be_brief(self) -> None:
        """Wait for other processes no longer than a moment: they may be waiting for this one to end."""
        self._patience = min(self._patience, _BRIEF_SECONDS)

    def end_soon(self) -> None:
        """Have the thread write what waits, and end, without waiting for it."""
        with self._change:
            self._closing = True
            self._change.notify_all()

    def submit(self, batch: Batch, *, wait: bool = False) -> bool:
        """Hand a batch over; return whether its snapshot was taken.

        A snapshot that finds the queue full is dropped and counted; with `wait` this blocks until there is room
        instead. Rows always wait for room, but not for a disk that takes no writes: then those that do not fit are
        lost, and counted; so is all that comes after a failure, or after `close`. A declaration is never dropped alone:
        later rows count on it.
        """
        with self._change:
            if wait:
                self._await_room(batch)
            if self._stopped:
                self._waiting.lose(batch)
                return False
            if not self._waiting.fits(batch):
                batch = self._waiting.without_snapshot(batch)
                self._await_room(batch)
            if not self._waiting.fits(batch):
                self._waiting.lose(batch)
                if batch.declaration is None:
                    return False
                batch = without_rows(batch)
            self._waiting.add(batch)
            if self._waiting.is_half_full:
                self._hurry()
            self._change.notify_all()
            return batch.snapshot is not None

    def flush(self) -> int:
        """Wait until all that was handed over is committed, or the disk fails; return the last committed step."""
        with self._change:
            self._flush_to = wanted = self._waiting.handed
            self._hurry()
            self._change.notify_all()
            self._change.wait_for(lambda: self._waiting.safe >= wanted or self._refuses)
        return self.committed

    def close(self) -> None:
        """Write and commit what waits, end the thread, and give the run free. Safe to call twice."""
        with self._change:
            if self._waiting:
                self._hurry()
            self._closing = True
            self._change.notify_all()
            # Not by `join` alone: one that an interrupt ended may take the thread for ended ever after.
            self._change.wait_for(lambda: self._ended)
        self._thread.join()
        with contextlib.suppress(OSError):  # even giving the run free may fail, and training goes on
            self._writer.abandon()

    @property
    def _stopped(self) -> bool:
        return self._closing or self._ended or self._failure is not None

    @property
    def _refuses(self) -> bool:
        """Whether waiting for the disk is in vain."""
        return self._stopped or self._trouble is not None

    @property
    def _relieved(self) -> bool:
        """Whether another thread has taken the place of this one."""
        return threading.current_thread() is not self._thread

    def _await_room(self, batch: Batch) -> None:
        """Wait until a batch fits, as long as the disk takes something now and then."""
        seen, since = self.bytes_written, time.monotonic()
        while not (self._waiting.fits(batch) or self._refuses or self.bytes_written == self._stalled_at):
            self._hurry()
            self._change.wait(_LOOK_SECONDS)
            if self.bytes_written != seen:
                seen, since = self.bytes_written, time.monotonic()
            elif time.monotonic() - since >= _STALL_SECONDS:
                self._stalled_at = seen

    def _hurry(self) -> None:
        """Let a thread go on that does not leave the processors to others."""
        if self._patient and not self._refuses:
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
            self._write_whatever_happens()
        finally:
            with self._change:
                self._ended = not self._relieved
                self._change.notify_all()

    def _write_whatever_happens(self) -> None:
        while self._failure is None:
            try:
                if self._trouble is not None:
                    self._try_again(self._trouble)
                self._write_until_closed()
            except Exception as error:  # such as a full disk, which must not reach the training loop
                self._meet(error)
            else:
                return

    def _meet(self, error: Exception) -> None:
        """Wait for better times, where these may come; else count all that is not committed as lost."""
        reason = passing(error)
        with self._change:
            if not reason or (self._trouble and self._closing):
                self._failure = error
                self._waiting.lose_all()
                self._news.append(
                    failure_message(error, committed=self.committed, still_there=self._writer.is_in_place)
                )
            elif self._trouble:
                self._trouble = self._trouble.after_another_try()
            else:
                self._trouble, self._lost_before = Trouble.begin(error), self.lost
                self._telling = not self._closing  # one that ends with the recording is told by what was lost
                if self._telling:
                    self._news.append(self._trouble.message)
            self._change.notify_all()

    def _try_again(self, trouble: Trouble) -> None:
        """Take up where the last commit ended, after a pause that only `close` cuts short."""
        with self._change:
            self._change.wait_for(lambda: self._closing or self._relieved, timeout=trouble.pause)
            if self._relieved:
                return
        landed = self._writer.roll_back()
        with self._change:
            self._waiting.write_again(landed=landed)
        self._commit()
        # Clearing away what was not committed makes room by itself: only what waited for it shows that there is enough.
        while batch := self._waiting.first:
            self._append(batch)
            if self._waiting.uncommitted >= _PUBLISH_ROWS:
                self._commit()
        self._commit()
        with self._change:
            self._trouble = None
            rows, snapshots = (count - self._lost_before[name] for name, count in self.lost.items())
            if self._telling:
                self._news.append(resumed_message(rows, snapshots))

    def _write_until_closed(self) -> None:
        while True:
            due = self._due if self._waiting.uncommitted < _PUBLISH_ROWS else self._soonest
            batch = self._next(due)
            if self._relieved:
                return
            started = time.monotonic()
            if batch is not None:
                self._append(batch)
            elif self._closing:
                self._finish()
                return
            flush = batch is None and self._flush_to > self._waiting.safe
            if flush or (self._waiting.uncommitted and time.monotonic() >= due):
                self._commit()
            self._busy += time.monotonic() - started

    def _next(self, due: float) -> Batch | None:
        """Wait for a batch, for a wish to flush or close, or until a commit is due; give the batch, if any."""
        with self._change:
            pause = max(0.0, due - time.monotonic()) if self._waiting.uncommitted else None
            if not (self._patient or self._is_wanted()):
                self._patient = True
                step_back()
            self._change.wait_for(self._is_wanted, timeout=pause)
            return self._waiting.first

    def _is_wanted(self) -> bool:
        return bool(self._waiting) or self._flush_to > self._waiting.safe or self._closing or self._relieved

    def _append(self, batch: Batch) -> None:
        await_others(
            self._writer,
            batch,
            patience=lambda: self._patience,
            meanwhile=self._commit_if_due,
            at_last=self._commit_all,  # what is not committed would be taken back, and its snapshots are not kept
        )
        self._writer.append(batch)
        with self._change:
            self._waiting.note_written()
            self._change.notify_all()

    def _commit_if_due(self) -> None:
        if time.monotonic() >= self._soonest:
            self._commit_all()

    def _commit_all(self) -> None:
        if self._waiting.uncommitted:
            self._commit()

    def _commit(self) -> None:
        started = time.thread_time()
        self._writer.note_lost(self.lost)
        self._writer.commit()
        pause = max(_PUBLISH_PAUSE, (time.thread_time() - started) / _PUBLISH_SHARE)
        self._due = time.monotonic() + _PUBLISH_SECONDS
        self._soonest = time.monotonic() + min(pause, _PUBLISH_SECONDS)
        self._note_committed()

    def _finish(self) -> None:
        self._writer.note_lost(self.lost)
        self._writer.close()
        self._note_committed()

    def _note_committed(self) -> None:
        with self._change:
            self._waiting.note_committed()
            self._change.notify_all()
