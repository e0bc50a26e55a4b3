"""What can the background thread write to?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from wdyn.rows import Batch


class Sink(Protocol):
    """Takes batches, and commits them: a `wdyn.store.writer.Writer`, or what stands for one in several processes."""

    @property
    def committed(self) -> int:
        """Last step that is durable and visible; -1 for none."""

    @property
    def bytes_written(self) -> int:
        """Size of all files that were written so far."""

    @property
    def is_in_place(self) -> bool:
        """Whether the run that was written is still there, as far as that can be told."""

    @property
    def lost(self) -> Mapping[str, int]:
        """Count of rows and snapshots that it left out by itself."""

    def news(self) -> list[str]:
        """Give what happened since this was last asked, in words for the user."""

    def progress(self, batch: Batch) -> int:
        """Give a number that changes while those who are late with a batch are at work."""

    def late(self, batch: Batch) -> str:
        """Name who keeps a batch from being appended at this moment; "" for nobody."""

    def append(self, batch: Batch) -> None:
        """Take up what one step gave."""

    def commit(self) -> int:
        """Make all that was appended durable and visible; return the last step."""

    def note_lost(self, lost: Mapping[str, int]) -> None:
        """Tell, from the next commit on, what was given up."""

    def roll_back(self) -> bool:
        """Go back to what readers see; return whether that holds all that was appended."""

    def close(self) -> None:
        """Commit, and end."""

    def abandon(self) -> None:
        """End without another write."""


class Unhindered:
    """What of a `Sink` is the same for all that wait for no other process."""

    @property
    def lost(self) -> Mapping[str, int]:
        """Count of what it left out by itself: nothing."""
        return {}

    def news(self) -> list[str]:
        """Give what happened: nothing."""
        return []

    def late(self, batch: Batch) -> str:
        """Name who keeps a batch from being appended: nobody."""
        return ""

    def progress(self, batch: Batch) -> int:
        """Tell how far those are who are late: nobody is."""
        return 0
