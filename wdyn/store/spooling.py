"""What does a process write that is not the first of its training?"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from wdyn.arrays import WeightArray
from wdyn.errors import CannotRecord
from wdyn.rows import Batch, Share, Snapshot
from wdyn.store import files, weights
from wdyn.store.sink import Unhindered
from wdyn.store.spool import Spool, write_block
from wdyn.store.trouble import LateProcess

_TAKEN_SECONDS = 120.0
"""A first process that has not taken a message for so long takes none at the moment."""


class Spooler(Unhindered):
    """Writes the share of one process of each step, for the first process to take.

    Nothing is committed here: the first process does that, once all have given their share.

    Parameters
    ----------
    spool
        Where it is left.
    rank
        The process.
    before
        The arrays of the run that is continued, and whether each is compressed.
    compressed
        Whether arrays that begin now are.
    """

    def __init__(
        self, spool: Spool, *, rank: int, before: Iterable[tuple[WeightArray, bool]], compressed: bool
    ) -> None:
        self.bytes_written = 0
        self._spool, self._rank, self._compress_new = spool, rank, compressed
        self._arrays = {array.slug: (array, packed) for array, packed in before}
        self._sent: deque[tuple[float, Path]] = deque()
        self._last = (-1, -1)

    @property
    def path(self) -> Path:
        """Where its messages lie."""
        return self._spool.folder

    @property
    def committed(self) -> int:
        """Last step that the first process has made durable and visible; -1 for none."""
        return self._spool.published

    @property
    def is_in_place(self) -> bool:
        """Whether the run is still there, as far as that can be told."""
        return self._spool.run.is_dir()

    def append(self, batch: Batch) -> None:
        """Leave what this process gives of a step.

        Raises
        ------
        CannotRecord
            The first process has ended the run.
        LateProcess
            It has taken nothing for two minutes.
        """
        if batch.declaration is not None:
            self._arrays |= {one.slug: (one, self._compress_new) for one in batch.declaration.arrays}
        share = batch.share
        if share is None or (share.step, share.ordinal) <= self._last:  # nothing of its own, or what it sent before
            return
        self._check_taken()
        self.bytes_written += files.write(self._spool.path(self._rank, share, "numbers"), [share.data()])
        blocks = dict(self._write_blocks(share, batch.snapshot)) if batch.snapshot else {}
        message = self._spool.send(self._rank, share, blocks, has_snapshot=batch.snapshot is not None)
        self._sent.append((time.monotonic(), message))
        self._last = (share.step, share.ordinal)

    def commit(self) -> int:
        """Do nothing: a message is whole once it is in its place."""
        return self.committed

    def note_lost(self, lost: Mapping[str, int]) -> None:
        """Do nothing: the first process counts what does not come."""

    def roll_back(self) -> bool:
        """Tell that all that was sent still stands."""
        return True

    def close(self) -> None:
        """Tell the first process that nothing more comes."""
        if self._spool.exists:
            self._spool.note_ended(self._rank)

    def abandon(self) -> None:
        """End without a word where that cannot be told."""
        with suppress(OSError):
            self.close()

    def _write_blocks(self, share: Share, snapshot: Snapshot) -> Iterator[tuple[str, dict[str, Any]]]:
        """Write the blocks of a snapshot; tell of each where it begins, and whether it is as it will be stored."""
        for slug, values in snapshot.values.items():
            path, encoded = self._spool.path(self._rank, share, slug), slug not in snapshot.scattered
            if not values.size:
                continue
            if encoded:
                array, compressed = self._arrays[slug]
                self.bytes_written += files.write(path, weights.encode(array, values, compressed=compressed))
            else:
                self.bytes_written += write_block(path, values)
            files.sync(path)  # the machine of the first process cannot flush what this one still holds
            yield slug, {"start": list(snapshot.starts[slug]), "encoded": encoded}

    def _check_taken(self) -> None:
        if not self._spool.exists:
            raise CannotRecord("process 0 takes nothing more: it ended the run, or gave up; see what it told")
        while self._sent and not self._sent[0][1].exists():
            self._sent.popleft()
        if self._sent and time.monotonic() - self._sent[0][0] > _TAKEN_SECONDS:
            raise LateProcess(f"process 0 has taken nothing for {_TAKEN_SECONDS:.0f} s")
