"""How does the first of several processes make one run of what each of them gives?

What was measured is joined as numbers; a block of weights that another process wrote is renamed into its place. A step
is committed once every process has given its share, so one that died freezes what readers see, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn.arrays import WeightArray
from wdyn.rows import Adopted, Batch, Share, Snapshot
from wdyn.store import weights
from wdyn.store.dtypes import STORED_TYPES
from wdyn.store.spool import Message, Spool, read_block
from wdyn.store.waiting import without_rows
from wdyn.store.writer import Writer


class Assembler:
    """Appends to a run what all processes gave of a step.

    Parameters
    ----------
    writer
        Holds the run.
    spool
        Where the others leave their share.
    processes
        How many there are; this one is the first.
    """

    def __init__(self, writer: Writer, spool: Spool, *, processes: int) -> None:
        self._writer, self._spool, self._others = writer, spool, range(1, processes)
        self._arrays: dict[str, WeightArray] = writer.arrays
        self._dealt: Share | None = None
        self._lost = {"rows": 0, "snapshots": 0}
        self._news: list[str] = []

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._writer.path

    @property
    def committed(self) -> int:
        """Last step that is durable and visible; -1 for none."""
        return self._writer.committed

    @property
    def bytes_written(self) -> int:
        """Size of all files that this process wrote so far."""
        return self._writer.bytes_written

    @property
    def is_in_place(self) -> bool:
        """Whether the run that was written is still there, as far as that can be told."""
        return self._writer.is_in_place

    @property
    def lost(self) -> Mapping[str, int]:
        """Count of rows and snapshots that were left out since a process gave nothing."""
        return dict(self._lost)

    def news(self) -> list[str]:
        """Give what happened since this was last asked, in words for the user."""
        told, self._news = self._news, []
        return told

    def progress(self, batch: Batch) -> int:
        """Give a number that changes while those who are late with a batch are at work."""
        share = batch.share
        late = [rank for rank in self._others if share is not None and self._may_come(rank, share)]
        return sum(map(self._spool.held_bytes, late))

    def late(self, batch: Batch) -> str:
        """Name the processes that have not given their share of a step, and may still do so."""
        if (share := batch.share) is None:
            return ""
        missing = [rank for rank in self._others if self._may_come(rank, share)]
        if not missing:
            return ""
        return f"{_told(missing)} given nothing of step {share.step}"

    def whole(self, batch: Batch) -> Batch:
        """Join the share of every process, which are all there: what `append` is to be given then."""
        if batch.declaration is not None:
            self._arrays |= {one.slug: one for one in batch.declaration.arrays}
        if (share := batch.share) is None:
            return batch
        self._dealt = share
        given = {rank: self._spool.message(rank, share) for rank in self._others}
        found = [one for one in given.values() if one is not None and one.is_measured == share.is_measured]
        if len(found) < len(given):
            return self._without(batch, [rank for rank, one in given.items() if one not in found])
        rows = share.rows([message.numbers.read_bytes() for message in found])
        return replace(batch, rows=rows, snapshot=self._snapshot(batch, found), share=None)

    def append(self, batch: Batch) -> None:
        """Take up what a step gave, once nobody is `late`. A step of which one process gave nothing is left out."""
        self._writer.append(self.whole(batch))

    def commit(self) -> int:
        """Make all appended rows durable, then visible by one rename; return the last step."""
        step = self._writer.commit()
        self._forget()
        return step

    def note_lost(self, lost: Mapping[str, int]) -> None:
        """Tell, from the next commit on, what was given up."""
        self._writer.note_lost(lost)

    def roll_back(self) -> bool:
        """Go back to what readers see; messages that were taken since are taken again."""
        self._dealt = None
        return self._writer.roll_back()

    def close(self) -> None:
        """Commit, end, and delete what nobody takes any more."""
        self._writer.close()
        self._forget()
        self._spool.end()

    def abandon(self) -> None:
        """Give the run free without another write to it, and tell the others by the end of the spool."""
        self._writer.abandon()
        self._spool.end()

    def _may_come(self, rank: int, share: Share) -> bool:
        # Asked in this order: who was beyond it before it was looked for will not say it afterwards.
        return not self._spool.is_beyond(rank, share) and self._spool.message(rank, share) is None

    def _forget(self) -> None:
        if self._dealt is not None:
            for rank in self._others:
                self._spool.clear(rank, self._dealt)
        self._dealt = None
        if self._spool.exists:
            self._spool.note_published(self.committed)

    def _without(self, batch: Batch, missing: list[int]) -> Batch:
        """Leave out a step of which a process gave nothing, and count it; what this process has whole stays."""
        if not any(self._lost.values()):
            self._news.append(
                f"Step {batch.step} is left out: {_told(missing)} given nothing of it, or something else. w.row() and "
                f"w.snapshot() must be called by every process; how much was lost is told at the end"
            )
        self._lost["rows"] += 1
        self._lost["snapshots"] += batch.snapshot is not None
        return replace(without_rows(batch), logged=batch.logged)

    def _snapshot(self, batch: Batch, messages: list[Message]) -> Snapshot | None:
        """Put the blocks of all processes together; None where one of them kept none, or it is gone."""
        own = batch.snapshot
        if own is None:
            return None
        if not all(message.has_snapshot and message.is_whole() for message in messages):
            self._lost["snapshots"] += 1
            return None
        whole = dict(self._put_together(own, messages))
        adopted: dict[str, tuple[Adopted, ...]] = {}
        for message in messages:
            adopted |= {slug: (*adopted.get(slug, ()), block) for slug, block in message.encoded.items()}
        values = {slug: one for slug, one in own.values.items() if one.size and slug not in own.scattered}
        starts = {slug: start for slug, start in own.starts.items() if slug in values}
        return replace(own, values=values | whole, starts=starts, adopted=adopted)

    def _put_together(self, own: Snapshot, messages: list[Message]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Give those arrays whole whose blocks are no files of their own."""
        for slug in own.scattered:
            array = self._arrays[slug]
            stored = STORED_TYPES[array.dtype]
            full = np.full(array.full_shape, 0, dtype=stored.dtype)
            blocks = [(own.starts[slug], own.values[slug])] if slug in own.values else []
            blocks += [
                (message.scattered[slug].start, read_block(message.scattered[slug].file))
                for message in messages
                if slug in message.scattered
            ]
            for start, values in blocks:
                full[weights.inside(array, start, values.shape[1:] if array.layers else values.shape)] = values
            yield slug, full


def _told(ranks: list[int]) -> str:
    named = ", ".join(map(str, ranks))
    return f"process {named} has" if len(ranks) == 1 else f"processes {named} have"
