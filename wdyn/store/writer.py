"""How does a run get onto the disk so that every reader, at every moment, sees whole rows only?

The order is the protocol: chunks, index chunks, durability, then one rename of the root `zarr.json`, which carries
the length of every array. Chunks are encoded here rather than through zarr, whose work per array holds the
interpreter lock for milliseconds; readers and tests open the result with zarr.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wdyn import schema
from wdyn.arrays import WeightArray
from wdyn.errors import CannotRecord, InvalidArgument, RunExists
from wdyn.rows import Batch
from wdyn.store import metadata
from wdyn.store.disk import Disk
from wdyn.store.documents import Documents
from wdyn.store.leftovers import sweep
from wdyn.store.lineage import parent
from wdyn.store.lock import Lock
from wdyn.store.metadata import Node
from wdyn.store.root import Root, is_run, read_root
from wdyn.store.sink import Unhindered
from wdyn.store.tree import Tree

COMPRESSIONS = (None, "fast")
_NEVER = -1


class Writer(Unhindered):
    """The one writer of a run; holds its lock until `close`.

    Parameters
    ----------
    path
        The run. With `resume` it must hold one, else it must not.
    about
        Root attributes to set: ``model``, ``optimizers``.
    attempt
        What is known of this attempt: ``resumed_from_step``, ``host``, ``started`` and so on.
    compression
        ``"fast"`` packs the weights of arrays that begin in this attempt; None leaves them as they are. An array of an
        earlier attempt goes on as it began.

    Raises
    ------
    InvalidArgument
        There is no such compression.
    NotARun, NewerFormat, DamagedRun
        There is no run to resume, or none that can be.
    RunExists
        There is one, and it is not to be resumed.
    RunLocked
        Another writer holds it.
    """

    def __init__(
        self,
        path: Path,
        *,
        about: Mapping[str, Any],
        attempt: Mapping[str, Any],
        resume: bool = False,
        compression: str | None = None,
    ) -> None:
        if compression not in COMPRESSIONS:
            raise InvalidArgument(f"compression={compression!r}: needed is 'fast', or None for weights as they are")
        self.path = path
        self.committed = _NEVER
        self._last_step = _NEVER
        self._disk = Disk(path)
        self._compressed, self._published = compression is not None, resume
        self._document = b""  # what the last commit said or would have said; empty once more is appended
        self._attributes: dict[str, Any] = {"format": schema.FORMAT, "attempts": []}
        if resume:
            read_root(path)  # refuses before anything is written
        path.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(path)
        try:
            if not resume and is_run(path):
                raise RunExists(f"{path} already holds a run")
            root = read_root(path) if resume else None
            self._take_up(root)
            if root:
                self._attributes = dict(root.attributes)
        except BaseException:
            self._lock.release()
            raise
        self._lost_before: Mapping[str, int] = self._attributes.get("lost", {})
        before = self._attributes["attempts"]
        self.attempt = len(before)
        self._attributes |= {**about, "attempts": [*before, {"number": self.attempt, **attempt}], "closed": False}
        self.continue_after(attempt["resumed_from_step"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None or not self._half_taken:
                self.close()
        finally:
            self.abandon()

    @property
    def arrays(self) -> dict[str, WeightArray]:
        """The arrays of weights, by slug."""
        return dict(self._tree.arrays)

    @property
    def bytes_written(self) -> int:
        """Size of all files that were written so far."""
        return self._disk.bytes_written

    @property
    def is_in_place(self) -> bool:
        """Whether the run that was written is still there, as far as that can be told."""
        try:
            return is_run(self.path) and not self._lock.guards_another
        except OSError:
            return True

    def continue_after(self, step: int) -> None:
        """Say which step this attempt continues, before its first commit; -1 for a run that starts."""
        *before, this = self._attributes["attempts"]
        self._attributes["attempts"] = [*before, {**this, "parent": parent(before, step), "resumed_from_step": step}]

    def append(self, batch: Batch) -> None:
        """Take up what one step gave. It is visible after the next `commit`.

        An error leaves the writer with a part of the batch: it commits nothing more before `roll_back`.
        """
        self._refuse_another()
        self._refuse_half()
        self._half_taken, self._document = True, b""
        self._tree.take(batch, attempt=self.attempt)
        self._last_step = max(self._last_step, batch.step)
        self._half_taken = False

    def commit(self) -> int:
        """Make all appended rows durable, then visible by one rename; return the last step.

        Raises
        ------
        CannotRecord
            An `append` failed before.
        """
        self._tree.settle(self._publish())
        return self.committed

    def note_lost(self, lost: Mapping[str, int]) -> None:
        """Tell, from the next commit on, how many rows and snapshots of this attempt were given up."""
        self._attributes["lost"] = {name: count + self._lost_before.get(name, 0) for name, count in lost.items()}

    def close(self) -> None:
        """Commit, bring the metadata of every array up to date, and give the run free. Safe to call twice.

        An error leaves the run held, for `roll_back` or `abandon`.
        """
        if self._lock.released:
            return
        self._attributes["closed"] = True
        self._tree.finish(self._publish())
        self._lock.release()

    def roll_back(self) -> bool:
        """Go back to what readers see, after an error of `append`, `commit` or `close`.

        Returns
        -------
        bool
            Whether that holds all that was appended: a commit may fail after its rename. It is durable, and `committed`
            tells of it, after the next `commit`.

        Raises
        ------
        OSError, DamagedRun
            The disk cannot be read, or not be cleared of what is not committed. Safe to try again.
        """
        self._refuse_another()
        self._half_taken = True  # until all is read back
        # Where a commit succeeded a root must be; to take its absence for a new run would sweep all of it away.
        there = self._published or is_run(self.path)
        root = read_root(self.path) if there else None
        landed = there and (self.path / metadata.FILE).read_bytes() == self._document
        self._take_up(root)
        self._last_step = self._last_step if landed else self.committed
        self._attributes["closed"] = False
        return landed

    def abandon(self) -> None:
        """Give the run free without another write: what was committed stays as it is."""
        self._lock.release()

    def _take_up(self, root: Root | None) -> None:
        """Begin where the committed state ends, as if nothing had been written since."""
        sweep(self.path, root.nodes if root else {})
        self._disk.forget()
        self._tree = Tree(self.path, disk=self._disk, compressed=self._compressed)
        if root:
            self._tree.restore(root)
        self._half_taken = False

    def _refuse_another(self) -> None:
        """Refuse to write into a run that took the place of this one, when somebody deleted it."""
        if self._lock.guards_another:
            raise CannotRecord(f"{self.path} was deleted, or replaced by another run, while it was written")

    def _refuse_half(self) -> None:
        if self._half_taken:
            raise CannotRecord(f"Writing into {self.path} failed before; what was committed until then is safe")

    def _publish(self) -> Documents:
        """Make all appended rows durable, then visible; what nodes say of themselves is not yet as it says by then."""
        self._refuse_another()
        self._refuse_half()
        self._tree.flush()
        documents = Documents(self._tree.nodes())
        # Durable before visible: the rename of the root is the commit.
        self._document = documents.root(self._root())
        self._disk.publish(f"{self.path}/{metadata.FILE}", self._document)
        self.committed, self._published = self._last_step, True
        return documents

    def _root(self) -> Node:
        return metadata.group({schema.ATTRIBUTES: {**self._attributes, "rows": self._tree.rows}})
