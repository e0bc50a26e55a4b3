"""What waits for the disk, in bounded memory, and what of it is given up?

A batch waits until it is written; then its rows are kept on, where there is room, until they are committed: what a
failing disk took back can be written again. Snapshots are not kept on, since their memory is needed for the next.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from wdyn.rows import Batch

_SNAPSHOT_SHARE = 0.75
"""Of the memory for what waits; the rest is kept for rows, which must not be lost for a snapshot's sake."""
_NO_STEP = -1


@dataclass(frozen=True)
class _Written:
    """A batch that is written and not committed: what of it can be written again, and the count of what cannot."""

    step: int
    again: Batch
    rows: int
    snapshots: int


class Waiting:
    """Batches in the order they were handed over, and the count of what was given up; whoever uses it holds a lock.

    Parameters
    ----------
    limit_bytes
        Memory that they may hold.

    Attributes
    ----------
    handed, safe
        Count of batches that were handed over, and of those that are committed or given up.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.handed = self.safe = 0
        self._limit = limit_bytes
        self._queue: deque[Batch] = deque()
        self._written: list[_Written] = []
        self._queued = 0.0  # bytes
        self._kept = 0
        self._lost_rows = self._lost_snapshots = 0

    def __bool__(self) -> bool:
        return bool(self._queue)

    @property
    def first(self) -> Batch | None:
        """What is to be written next."""
        return self._queue[0] if self._queue else None

    @property
    def uncommitted(self) -> int:
        """Count of batches that were written since the last commit."""
        return len(self._written)

    @property
    def nbytes(self) -> float:
        """Memory that is held, where a snapshot counts as its share at most."""
        return self._queued + self._kept

    @property
    def is_half_full(self) -> bool:
        """Whether it is time to hurry."""
        return self._queued > self._limit / 2

    @property
    def lost(self) -> dict[str, int]:
        """Count of rows and snapshots that were given up."""
        return {"rows": self._lost_rows, "snapshots": self._lost_snapshots}

    def fits(self, batch: Batch) -> bool:
        """Whether there is room for a batch; what is only kept to be written again makes way for it."""
        # A batch larger than the bound by itself may pass alone, else it could never be written.
        limit = self._limit if batch.snapshot is None else self._limit * _SNAPSHOT_SHARE
        for at, written in enumerate(self._written):
            if self.nbytes + batch.nbytes <= limit:
                break
            self._written[at] = self._let_go(written)
        return not self._queue or self.nbytes + batch.nbytes <= limit

    def add(self, batch: Batch) -> None:
        """Take a batch, which fits."""
        self._queue.append(batch)
        self._queued += self._counted(batch)
        self.handed += 1

    def note_written(self) -> None:
        """Take the first batch for written: its snapshot's memory is free, its rows are kept until `note_committed`."""
        batch = self._queue.popleft()
        again = replace(batch, snapshot=None)
        self._queued -= self._counted(batch)
        self._kept += again.nbytes
        self._written.append(_Written(batch.step, again, 0, int(batch.snapshot is not None)))
        batch.release()

    def note_committed(self) -> None:
        """Let go of all that was written: it is safe."""
        self.safe += len(self._written)
        self._written, self._kept = [], 0

    def write_again(self, *, landed: bool) -> None:
        """Put back what was written, before all else; nothing but its step if it `landed` on the disk after all."""
        for written in reversed(self._written):
            if not landed:
                self._lost_rows += written.rows
                self._lost_snapshots += written.snapshots
                self._queued += written.again.nbytes
            self._queue.appendleft(Batch(written.step) if landed else written.again)
        self._written, self._kept = [], 0

    def without_snapshot(self, batch: Batch) -> Batch:
        """Give up the snapshot of a batch, and count it."""
        self._lost_snapshots += batch.snapshot is not None
        batch.release()
        return replace(batch, snapshot=None)

    def lose(self, batch: Batch) -> None:
        """Give up a batch, and count it."""
        self._lost_rows += batch.row_count
        self.without_snapshot(batch)

    def lose_all(self) -> None:
        """Give up all that is not committed."""
        self.write_again(landed=False)
        while self._queue:
            self.lose(self._queue.popleft())
        self._queued = 0.0

    def _counted(self, batch: Batch) -> float:
        """Count a batch, but a snapshot never beyond its share: rows behind a large one must find room."""
        return batch.nbytes if batch.snapshot is None else min(batch.nbytes, self._limit * _SNAPSHOT_SHARE)

    def _let_go(self, written: _Written) -> _Written:
        again = without_rows(written.again)
        self._kept -= written.again.nbytes
        return replace(written, again=again, rows=written.rows + written.again.row_count)


def without_rows(batch: Batch) -> Batch:
    """Give what later rows count on; a step whose rows are lost must not be told as committed."""
    return Batch(_NO_STEP if batch.row_count else batch.step, declaration=batch.declaration)
