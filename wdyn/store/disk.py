"""How do the files of one commit get into place: all of them durable before a reader can count on any?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wdyn.store import files
from wdyn.store.files import Piece


class Disk:
    """Files of a run that were written since the last `publish`.

    A file of new rows only, which nobody can see yet, is written in place. One that has committed rows, such as the
    unfinished chunk of an array, waits beside its place until it is durable, since a rename that outlives the bytes
    would lose them in a power cut.

    Parameters
    ----------
    root
        The run's folder.

    Attributes
    ----------
    root
        That folder.
    bytes_written
        Size of all files that were written so far.
    """

    def __init__(self, root: Path) -> None:
        self.bytes_written = 0
        self.root = root
        self._written: list[str] = []
        self._waiting: dict[str, str] = {}  # a successor's path, and where it belongs
        self._renamed: list[str] = []

    def write(self, path: str, pieces: Iterable[Piece], *, expected_bytes: int = 0) -> None:
        """Write a file of the next commit, whether it is there or not."""
        try:
            self.bytes_written += files.write(path, pieces, new=True, expected_bytes=expected_bytes)
            self._written.append(path)
        except FileExistsError:
            self.rewrite(path, pieces)

    def adopt(self, file: str, place: str) -> None:
        """Take a file that another process wrote, on the same disk, as one of the next commit."""
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        files.rename(file, place)
        self._written.append(place)

    def rewrite(self, path: str, pieces: Iterable[Piece]) -> None:
        """Write the successor of a file that is there, or a first one that has committed rows."""
        partial = path + files.PARTIAL
        self.bytes_written += files.write(partial, pieces)
        self._waiting[partial] = path

    def forget(self) -> None:
        """Count none of the files that were written as part of the next commit."""
        self._written, self._waiting, self._renamed = [], {}, []

    def publish(self, path: str, data: bytes) -> None:
        """Make all that was written durable and put it in its place; then replace the file that tells of it."""
        files.make_durable(self.root, [*self._written, *self._waiting])
        for partial, place in list(self._waiting.items()):
            files.rename(partial, place)
            del self._waiting[partial]
            self._renamed.append(place)
        partial = path + files.PARTIAL
        self.bytes_written += files.write(partial, [data])
        files.make_durable(self.root, [*self._renamed, partial])
        files.rename(partial, path)
        files.sync(self.root)
        self._written, self._renamed = [], []

    def describe(self, path: str, data: bytes) -> None:
        """Replace a file that no commit depends on."""
        self.bytes_written += files.replace(path, data)
